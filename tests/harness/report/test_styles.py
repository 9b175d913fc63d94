"""A system has one look, wherever it stands."""

from collections.abc import Callable

from harness.records.record import Record
from harness.report.styles import (
    OWN,
    SPARE,
    distinct_colours,
    line_styles,
    name_of,
    styles_of,
    system_of,
)

MakeRecord = Callable[..., Record]


def test_ours_are_fixed() -> None:
    """Papers refer to these."""
    looks = {name: (style.name, style.colour, style.marker) for name, style in OWN.items()}
    assert looks == {
        "permllm": ("PermLLM", "#0072B2", "o"),
        "mpcformer": ("MPCFormer", "#D55E00", "s"),
        "mpcformer, weights opened once": ("MPCFormer, weights opened once", "#CC79A7", "D"),
        "puma": ("Puma", "#009E73", "^"),
        "shaft": ("SHAFT", "#E69F00", "h"),
        "shaft, weights opened once": ("SHAFT, weights opened once", "#8C6D31", "d"),
        "shamir": ("Shamir", "#117733", "p"),
        "fss": ("FSS", "#332288", "<"),
        "he_linear": ("HE linear", "#6A3D9A", "H"),
        "ckks": ("CKKS", "#882255", "8"),
        "tfhe": ("TFHE", "#7F7F00", "*"),
        "plaintext": ("plaintext", "#000000", "v"),
    }
    assert len({colour for _, colour, _ in looks.values()}) == len(looks)
    assert not {colour for colour, _ in SPARE} & {style.colour for style in OWN.values()}


def test_variants_are_told_apart(make_record: MakeRecord) -> None:
    plain = make_record(["system=mpcformer"])
    reused = make_record(["system=mpcformer", "system.reuse_weight_masks=true"])
    assert [name_of(r) for r in (plain, reused)] == ["MPCFormer", "MPCFormer, weights opened once"]
    assert system_of(plain) != system_of(reused)


def test_others_look_the_same_whoever_stands_beside_them() -> None:
    alone, many = styles_of(["cheetah"]), styles_of(["bolt", "puma", "cheetah", "permllm"])
    assert alone["cheetah"] == many["cheetah"]
    assert (many["puma"], many["permllm"]) == (OWN["puma"], OWN["permllm"])
    crowd = styles_of([f"system{i}" for i in range(len(SPARE))])
    assert len({(style.colour, style.marker) for style in crowd.values()}) == len(SPARE)
    assert len(styles_of([f"system{i}" for i in range(30)])) == 30


def test_lines_of_one_system_differ_in_dash_or_shade() -> None:
    lines = line_styles(["permllm"] * 9 + ["puma"])
    assert lines[0] == OWN["permllm"]
    assert lines[-1] == OWN["puma"]
    assert len({(line.colour, str(line.dash)) for line in lines}) == len(lines)
    assert {line.marker for line in lines[:-1]} == {"o"}


def test_areas_have_colours_of_their_own() -> None:
    assert distinct_colours(["permllm", "puma"]) == [OWN["permllm"].colour, OWN["puma"].colour]
    assert len(set(distinct_colours(["permllm"] * 3 + ["puma"]))) == 4
