"""Every file of conf/ composes, bad input is one clear line, and a hash names what a run does."""

import shutil
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import cast

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from harness.config.compose import compose_all, compose_run
from harness.config.config_hash import config_hash, restored
from harness.config.experiments import EXPERIMENTS, ModelConfig
from harness.config.groups import CONF_DIR, GROUPS, describe, options
from harness.config.overrides import expand_sweep
from harness.config.runners import with_tls
from harness.config.schema import RunConfig
from harness.errors import ConfigError
from harness.records.store import load_all
from harness.registry import BROUGHT
from netem.profile import LinkProfile
from protocols.party import ALL_ROLES
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Argmax, Layer, Linear, Nonlinear

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "results" / "reference" / "paper"


def test_every_file_composes_and_describes_itself() -> None:
    choices = [(group, option) for group in GROUPS for option in options(group)]
    configs = compose_all([[f"{group}={option}", *needs(option)] for group, option in choices])
    for (group, option), config in zip(choices, configs, strict=True):
        assert getattr(config, group).name == option
        assert len(describe(group, option)) > 10
    assert options("experiment") == sorted(EXPERIMENTS)
    assert options("system") == sorted(BROUGHT)
    assert all(config.network.source for config in configs)


def needs(option: str) -> list[str]:
    """What has no default: a prompt, a file."""
    needed = {
        "generate": ["experiment.tokens=[3,1,4]"],
        "bootstrapping": ["system=orion"],
        "orion": ["experiment=bootstrapping"],
        "external": [f"system.file={ROOT}/examples/external/tally.yaml"],
    }
    return needed.get(option, [])


def test_every_experiment_composes_with_every_model() -> None:
    names = ("experiment", "model")
    points = [
        [f"{group}={option}" for group, option in zip(names, choice, strict=True)]
        + needs(choice[0])
        for choice in product(*map(options, names))
        if choice[1] != "bert-base" or choice[0] not in ("generate", "verify")
        if choice[0] != "program"
    ]
    for config in compose_all(points):
        assert config.workload() is not None


def test_workloads() -> None:
    layer = compose_run(["experiment=layer", "model=chatglm-6b", "model.d_model=2048"])
    assert isinstance(work := layer.workload(), Layer)
    assert (work.q_len, work.kv_len) == (1, 128)
    assert work.spec == TransformerSpec(
        "chatglm-6b", "glm", 28, 2048, 32, 16384, 130528, 2048, 1e-5
    )
    shaped = compose_run(
        ["experiment=nonlinear", "experiment.op=softmax", "experiment.shape=[3,4]"]
    )
    assert shaped.workload() == Nonlinear("softmax", (3, 4))
    assert compose_run(["experiment.n=7"]).workload() == Argmax(7)
    linear = compose_run(["experiment=linear", "experiment.n=3", "experiment.d_in=5"])
    assert linear.workload() == Linear(3, 5, 4096)
    names = [f.name for f in fields(TransformerSpec)]
    assert [f.name for f in fields(ModelConfig)] == [*names, "tie_layers", "checkpoint"]


def test_values_are_set_as_hydra_sets_them() -> None:
    """Points of a sweep share what Hydra composes; each is as if it were composed alone."""
    points = [
        ["experiment=nonlinear", "experiment.shape=[3,4]", "experiment.op=softmax"],
        ["experiment=nonlinear", "experiment.shape=[5]"],
        ["network.rtt_ms=3", "network=puma", "network.dealer.rate_mbit=10", "key_seed=3"],
        ["network=puma", "network.dealer={rtt_ms: 2}", "results_dir='a, b'"],
        ["network=puma"],
        ["system=permllm", "system.domain=float32", "calibration.strict=false"],
        ["system=permllm"],
    ]
    configs = compose_all(points)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        alone = [
            cast(RunConfig, OmegaConf.to_object(compose("config", overrides=p))) for p in points
        ]
    assert configs == [with_tls(config) for config in alone]


@pytest.mark.parametrize("runner", ["local", "netns", "docker", "remote"])
def test_tls_is_on_where_there_may_be_several_hosts(runner: str) -> None:
    """A run in the clear keeps the name that it had before there was TLS; whoever says what is the
    default names the same run."""
    default, on, off = (
        compose_run([f"runner={runner}", *words])
        for words in ([], ["transport.tls=true"], ["transport.tls=false"])
    )
    assert default == (on if runner in ("docker", "remote") else off)
    assert config_hash(on) != config_hash(off)
    assert (on.transport.tls, off.transport.tls) == (True, False)


def test_profiles_of_online_and_dealer_pairs() -> None:
    network = compose_run(
        ["network.dealer.rtt_ms=4", "network.links.P1_P0.delay_ms=7",
         "network.links.P1_P0.rate_mbit=null"]
    ).network  # fmt: skip
    profiles = network.profiles(("P0", "P1"))
    assert len(profiles) == 6
    assert profiles["P0", "P1"] == LinkProfile(delay_s=0.005, rate_bit_s=1e9)
    assert profiles["P1", "P0"] == LinkProfile(delay_s=0.007)
    assert profiles["P2", "P1"] == LinkProfile(delay_s=0.002)
    everyone = network.profiles(("P0", "P1", "P2"))
    assert everyone["P2", "P1"] == LinkProfile(delay_s=0.005, rate_bit_s=1e9)


def test_a_side_of_a_direction_may_be_several_roles() -> None:
    """Of those a run has some or none; a direction of two single roles counts before."""
    ring = compose_run(["network=ring"]).network.profiles(ALL_ROLES[:9], ALL_ROLES[:10])
    assert len(ring) == 90
    one_way_ms = [round(ring["P0", role].delay_s * 1e3, 1) for role in ALL_ROLES[1:10]]
    assert one_way_ms == [30, 60, 30, 0.5, 30, 60, 30, 0.5, 30]
    assert all(ring[a, b] == ring[b, a] for a, b in ring)
    own = [f"network.links.P1_P0.{value}" for value in ("delay_ms=3", "rate_mbit=null")]
    far = compose_run(["network=far-client", *own]).network.profiles(("P0", "P1"))
    assert far["P1", "P0"] == LinkProfile(delay_s=0.003)
    assert far["P1", "P2"] == LinkProfile(delay_s=0.02, rate_bit_s=50e6)
    assert far["P0", "P1"] == LinkProfile(delay_s=0.02, rate_bit_s=200e6)
    assert far["P2", "P0"] == LinkProfile(delay_s=0.00025, rate_bit_s=1e9)


BAD = [
    ("repat=4", "repat", "did you mean repeat?"),
    ("network.rate_mbits=4", "network.rate_mbits", "did you mean network.rate_mbit?"),
    ("experiment.q_len=4", "experiment.q_len", "allowed: name, n"),
    ("network=permlm-wan", "network", "permllm-wan2"),
    ("network=null", "network", "permllm-wan2"),
    ("system=nope", "system", "permllm"),
    (
        "experiment=argmax_schema",
        "experiment",
        "argmax, attention, bootstrapping, generate, layer, linear, model, nonlinear, program, slowdown, "
        "verify",
    ),
    ("transport.tls=maybe", "transport.tls", "got maybe, must be true, false or null"),
    ("experiment.n=abc", "experiment.n", "got abc, must be a whole number"),
    ("experiment.n=1.5", "experiment.n", "must be a whole number"),
    ("experiment.n=true", "experiment.n", "must be a whole number"),
    ("experiment.n=null", "experiment.n", "must be a whole number"),
    ("experiment.n=0", "experiment.n", "got 0, must be a whole number ≥ 1"),
    ("experiment.name=layer", "experiment.name", "left as"),
    ("system.name=puma", "system.name", "left as"),
    ("system.name=nope", "system.name", "permllm"),
    ("system=puma system.bits=64", "system.bits", "allowed: name, approx"),
    (
        "system=puma system.approx=fourier",
        "system.approx",
        "puma, quad+2quad, quad+2relu, friendly",
    ),
    ("system=mpcformer system.approx=cubic", "system.approx", "quad+2quad"),
    ("experiment=nonlinear experiment.op=relu", "experiment.op", "gelu, softmax, layernorm"),
    ("experiment=nonlinear experiment.shape=[]", "experiment.shape", "≥ 1"),
    ("experiment=nonlinear experiment.shape=[4,0]", "experiment.shape", "≥ 1"),
    ("experiment=nonlinear experiment.shape=4", "experiment.shape", "a list of whole numbers"),
    ("experiment=nonlinear experiment.shape=[a]", "experiment.shape[0]", "a whole number"),
    ("experiment=linear experiment.d_in=0", "experiment.d_in", "≥ 1"),
    ("experiment=attention experiment.kv_len=0", "experiment.kv_len", "≥ 1"),
    ("experiment=linear system=ckks system.degree=4096", "system.degree", "auto, 8192"),
    ("experiment=linear system=ckks system.scale_bits=0", "system", "whole number ≥ 1"),
    ("experiment=slowdown experiment.work=relu", "experiment.work", "linear, gelu, softmax, layer"),
    ("experiment=slowdown experiment.d=0", "experiment.d", "≥ 1"),
    (
        "experiment=slowdown experiment.work=layer experiment.d=100",
        "experiment.d",
        "a multiple of 64",
    ),
    ("experiment=layer experiment.q_len=0", "experiment.q_len", "≥ 1"),
    ("experiment=layer experiment.q_len=9 experiment.kv_len=8", "experiment.kv_len", "q_len = 9"),
    ("experiment=layer experiment.kv_len=129", "experiment.kv_len", "max_positions = 128"),
    ("model.n_heads=5", "model.n_heads", "model.d_model = 64"),
    ("model=llama-2-7b model.d_model=96", "model.d_model", "a multiple of 2"),
    ("model=chatglm-6b model.d_model=4160", "model.d_model", "a multiple of 4"),
    ("model.n_kv_heads=3", "model.n_kv_heads", "null or a divisor of model.n_heads = 4"),
    ("model.rope_theta=0", "model.rope_theta", "> 1"),
    ("model.family=rnn", "model.family", "gpt2, bert, llama, glm"),
    ("model.norm_eps=0", "model.norm_eps", "between 0 and 1"),
    ("network.rate_mbit=-5", "network.rate_mbit", "got -5.0, must be a number > 0 or null"),
    ("network.rtt_ms=-1", "network.rtt_ms", "≥ 0"),
    ("network.rtt_ms=nan", "network.rtt_ms", "≥ 0"),
    ("network.rtt_ms=inf", "network.rtt_ms", "≥ 0"),
    ("network.jitter_ms=5.1", "network.jitter_ms", "the one-way delay, 5 ms"),
    ("network.loss=0.1", "network.loss", "needs a packet-level shaper"),
    ("network.loss=1 shaper=none", "network.loss", "below 1"),
    ("network.dealer=null", "network.dealer", "a mapping of rtt_ms"),
    ("network.dealer.rtt_ms=-1", "network.dealer.rtt_ms", "≥ 0"),
    ("network.links.P0_P16.delay_ms=1", "network.links.P0_P16", "one role of P0 to P15"),
    ("network.links.P1_P1.delay_ms=1", "network.links.P1_P1", "such as P0>P1"),
    ("network.links.P0_P1.delay_ms=1", "network.links.P0>P1.rate_mbit", "is not set"),
    ("network.links.P0_P1.speed=1", "network.links.P0>P1.speed", "delay_ms"),
    ("network.links={}", "network.links={}", "P1_P0.delay_ms=5"),
    ("experiment=model experiment.prompt_len=0", "experiment.prompt_len", "≥ 1"),
    ("experiment=verify experiment.drafted=0", "experiment.drafted", "≥ 1"),
    ("experiment=verify experiment.drafted=95", "experiment.drafted", "max_positions = 128"),
    ("experiment=verify experiment.acceptance=[0.5,1.5]", "experiment.acceptance", "0 to 1"),
    ("experiment=verify experiment.acceptance=[]", "experiment.acceptance", "0 to 1"),
    ("experiment=verify model=bert-base", "model.family", "generates"),
    ("experiment=model experiment.new_tokens=121", "experiment.new_tokens", "max_positions = 128"),
    ("experiment=generate", "experiment.tokens", "token ids, unless experiment.prompt"),
    ("experiment=generate experiment.tokens=[1000]", "experiment.tokens", "below model.vocab"),
    ("experiment=generate experiment.prompt=hi", "experiment.prompt", "without model.checkpoint"),
    ("experiment=generate experiment.tokens=[1] repeat=2", "repeat", "repeat=1 and warmup=0"),
    ("experiment=generate experiment.tokens=[1] model=bert-base", "model.family", "only encodes"),
    ("experiment=generate experiment.tokens=[1] experiment.top_p=0", "experiment.top_p", "above 0"),
    ("model.checkpoint=/nowhere", "model.checkpoint", "/nowhere"),
    ("system.domain=float16", "system.domain", "ring64, float32"),
    ("system.weight_bits=4", "system.weight_bits", "one of 8, 16, 32"),
    ("system.weight_bits=8 system.domain=float32", "system", "needs domain=ring64"),
    ("system.mask_scale=0", "system", "mask_scale must be a number > 0"),
    ("repeat=0", "repeat", "≥ 1"),
    ("warmup=-1", "warmup", "≥ 0"),
    ("threads=0", "threads", "≥ 1"),
    ("seed=-1", "seed", "a whole number"),
    ("key_seed=-1", "key_seed", "null or a whole number"),
    ("key_seed=1 runner=remote runner.listen=127.0.0.1:7700", "key_seed", "null: keys that"),
    ("key_seed=1 experiment=generate experiment.tokens=[1,2]", "key_seed", "null: keys that"),
    ("timeout_s=0", "timeout_s", "> 0"),
    ("shape=offline", "shape", "online, all"),
    ("calibration.strict=maybe", "calibration.strict", "true or false"),
    ("results_dir=", "results_dir", "a folder"),
    ("repeat", "repeat", "must look like key=value"),
    ("repeat=[1", "repeat=[1", "must look like key=value"),
    ("=3", "=3", "unknown key"),
    ("+repeat=3", "+repeat=3", "write key=value"),
    ("~repeat", "~repeat", "write key=value"),
    ("hydra.run.dir=x", "hydra.run.dir", "unknown key"),
    ("network@x=puma", "network@x=puma", "without @package"),
    ("repeat=1,2", "repeat", "add -m"),
    ("network=glob(bolt*)", "network", "add -m"),
]


@pytest.mark.parametrize(("text", "key", "allowed"), BAD, ids=[case[0] for case in BAD])
def test_bad_input_is_one_line_with_key_and_rule(text: str, key: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_run(text.split())
    assert error.value.key == key
    assert str(error.value).startswith(f"{key}: ")
    assert allowed in str(error.value)
    assert "\n" not in str(error.value)


KEYS = ("repeat", "experiment.n", "network", "network.rtt_ms", "network.links", "seed", "shape")
TEXTS = st.text(alphabet="aP01_.>=,[]{}()'\"$+~-:@ ", max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(key=st.sampled_from(KEYS), text=TEXTS)
def test_any_text_is_a_configuration_or_a_clear_error(key: str, text: str) -> None:
    problem = ""
    try:
        compose_run([f"{key}={text}"])
    except ConfigError as error:
        problem = str(error)
    assert "\n" not in problem


FILES = [
    ("rtt_mss: 4", "network.rtt_mss: unknown key; did you mean network.rtt_ms?"),
    ("dealer: {speed: 4}", "network.dealer.speed: unknown key"),
    ("dealer: 4", "LinkConfig"),
    ("jitter_ms: fast", "network.jitter_ms: got fast, must be a number"),
    ("jitter_ms: [", "line 7"),
]


@pytest.mark.parametrize(("line", "problem"), FILES)
def test_a_bad_file_is_named(line: str, problem: str, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(CONF_DIR, conf)
    head = "# Mine\nname: mine\nsource: me\nrtt_ms: 1\nrate_mbit: 1\n"
    (conf / "network" / "mine.yaml").write_text(f"{head}{line}\n")
    with pytest.raises(ConfigError, match=r"^conf/network/mine\.yaml: ") as error:
        compose_run(["network=mine"], conf)
    assert problem in str(error.value)


def test_directions_in_a_file(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(CONF_DIR, conf)
    head = "# Mine\nname: mine\nsource: me\nrtt_ms: 1\nrate_mbit: 1\n"
    (conf / "network" / "mine.yaml").write_text(
        f'{head}links:\n  "P1>P0": {{delay_ms: 3, rate_mbit: 2}}\n'
    )
    profile = compose_run(["network=mine"], conf).network.profiles(("P0", "P1"))["P1", "P0"]
    assert profile == LinkProfile(delay_s=0.003, rate_bit_s=2e6)
    links = "links:\n  P0+P2>P1: &link {delay_ms: 3, rate_mbit: 2}\n  P2+P3>P1: *link\n"
    (conf / "network" / "mine.yaml").write_text(head + links)
    with pytest.raises(ConfigError) as error:
        compose_run(["network=mine"], conf)
    assert str(error.value) == "network.links.P2+P3>P1: P2>P1 is in another direction already"


def test_sweep_expands_in_order_with_the_last_key_fastest() -> None:
    points = expand_sweep(["experiment.n=range(1,3)", "network=glob(permllm*)", "repeat=3"])
    assert points == [
        [f"experiment.n={n}", f"network={network}", "repeat=3"]
        for n in (1, 2)
        for network in ("permllm-wan", "permllm-wan2")
    ]
    shapes = expand_sweep(["experiment=nonlinear", "experiment.shape=[2,3],[4]"])
    assert [config.workload() for config in compose_all(shapes)] == [
        Nonlinear("gelu", (2, 3)),
        Nonlinear("gelu", (4,)),
    ]
    with pytest.raises(ConfigError, match="matches no option"):
        expand_sweep(["network=glob(nope*)"])


def test_hash_names_what_a_run_does() -> None:
    base = compose_run(["experiment.n=5", "network.rtt_ms=3", "repeat=4"])
    turned = compose_run(["repeat=4", "network.rtt_ms=3.0", "experiment.n=5"])
    elsewhere = replace(base, results_dir="elsewhere", force=True)
    assert config_hash(base) == config_hash(turned) == config_hash(elsewhere)
    assert len(config_hash(base)) == 16
    links = [
        f"network.links.{d}.{k}=1" for d in ("P0_P1", "P1_P0") for k in ("delay_ms", "rate_mbit")
    ]
    assert config_hash(compose_run(links)) == config_hash(compose_run(links[::-1]))
    doors = [["runner=remote", f"runner.listen=127.0.0.1:{port}"] for port in (7700, 7701)]
    assert len({config_hash(config) for config in compose_all(doors)}) == 1
    others = [
        ["experiment.n=6"],
        ["seed=2"],
        ["key_seed=3"],
        ["threads=2"],
        ["shaper=none"],
        ["network=puma"],
    ]
    hashes = {config_hash(config) for config in compose_all(others)}
    assert len(hashes | {config_hash(base)}) == len(others) + 1


@pytest.mark.parametrize("system", ["mpcformer", "puma", "plaintext"])
def test_a_newer_option_s_default_renames_no_record(system: str) -> None:
    """The names of reference records are those of their configurations, by whichever version."""
    records = load_all(REFERENCE)
    own = [record for record in records if record.config["system"]["name"] == system]
    assert [config_hash(restored(record.config)) for record in own] == [r.id for r in own]
    assert own or system == "plaintext"
    chosen = [compose_run([f"system={system}", f"system.approx={a}"]) for a in ("friendly", "puma")]
    assert len({config_hash(config) for config in chosen}) == 2
