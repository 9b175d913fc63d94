"""Bootstrapping by Orion: refusals, and with the extra one in a small ring."""

from importlib.metadata import PackageNotFoundError, version

import pytest

from baselines.orion import system as orion
from baselines.orion.system import PACKAGE, Orion
from harness.config.compose import compose_run
from harness.errors import ConfigError
from harness.machine.resource_check import needed_bytes
from harness.registry import OURS, system_class
from protocols.errors import Unsupported
from protocols.options import NoOptions
from protocols.party import P0
from protocols.workload import NO_CIPHERTEXT, Argmax, Bootstrapping
from tests.play import SEED, declared, play, relative

TOY = Bootstrapping(11, 8, 3)


def installed() -> bool:
    try:
        version(PACKAGE)
    except PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "system: got permllm, must be orion with experiment=bootstrapping"),
        (["system=orion", "experiment.log_n=9"], "experiment.log_n: got 9, must be a whole number"),
        (["system=orion", "experiment.log_slots=16"], "experiment.log_slots: got 16, .* 1 to 15"),
        (["system=orion", "experiment.levels=10"], "experiment.levels: got 10, .* from 1 to 9"),
    ],
)
def test_bad_keys_are_refused_by_name(given: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        compose_run(["experiment=bootstrapping", *given])


def test_it_bootstraps_alone_and_no_other_system_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unsupported, match="orion computes experiment=bootstrapping alone"):
        Orion.check(Argmax(5), NoOptions())
    for name in OURS:
        with pytest.raises(Unsupported, match=NO_CIPHERTEXT):
            system_class(name).cost(TOY, system_class(name).Options())

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(orion, "version", missing)
    with pytest.raises(
        Unsupported, match=r"needs orion-fhe: pip install 'permbench\[bootstrapping\]'"
    ):
        Orion.check(TOY, NoOptions())


def test_memory_is_about_what_was_measured() -> None:
    """Peaks in GB of 2^12 and 2^15 slots after 3 levels, and 2^15 after 9."""
    measured = {(12, 3): 7.5, (15, 3): 11.4, (15, 9): 19.3}
    for (log_slots, levels), peak in measured.items():
        need = Orion.needs(Bootstrapping(16, log_slots, levels), NoOptions())[P0].memory_bytes
        assert peak <= need / 1e9 <= 1.35 * peak


def test_the_harness_knows_what_it_needs_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the parties, and of the check of the answer."""
    monkeypatch.setattr(orion, "version", lambda name: "1.0.2")
    config = compose_run(["experiment=bootstrapping", "system=orion"])
    own = Orion.needs(Bootstrapping(16, 12, 3), NoOptions())
    needed = needed_bytes(config)
    assert sum(needed.values()) > sum(need.memory_bytes for need in own.values())


@pytest.mark.skipif(not installed(), reason="needs the extra bootstrapping")
def test_a_fresh_ciphertext_holds_the_same_values_and_nothing_was_sent() -> None:
    played = play(Orion, TOY, key_seed=None)
    for (found,) in played.answers:
        assert found.shape == (256,)
        assert relative(found, Orion.plaintext(TOY, SEED, NoOptions())) < 1e-5
    assert played.cost == declared(Orion, TOY)
