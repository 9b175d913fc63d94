"""Scripts that complete, tried in the shells that are here."""

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.cli.verb_completion import SHELLS

DRIVERS = {
    "bash": """
source "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDBREAKS=$' \\t\\n"><=;|&(:'
read -ra COMP_WORDS <<< "${2//=/ = }"
[[ $2 == *' ' || $2 == *= ]] && COMP_WORDS+=('')
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
compopt() { :; }
_permbench
printf '%s\\n' "${COMPREPLY[@]}"
""",
    "zsh": """
source() { :; }
compdef() { :; }
compset() { :; }
compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -l -- ${(M)@:#${PREFIX##*[=,]}*}; }
words=(${=2}) PREFIX=${2##* } CURRENT=${#words}
[[ $2 == *' ' ]] && (( CURRENT++ ))
. $1
_permbench
""",
    "fish": """
source $argv[1]
complete -C $argv[2] | string split -f1 \\t
""",
}


def completed(shell: str, line: str, script: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What `shell` would offer at the end of `line`."""
    if (program := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not here")
    assert main(["completion", shell]) == 0
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    first = {"bash": ["-c", DRIVERS[shell], "x"], "zsh": ["-fc", DRIVERS[shell], "x"]}
    argv = [program, *first.get(shell, ["-c", DRIVERS[shell]]), str(script), line]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("permbench sh", {"show"}),
        ("permbench run calibration.s", {"calibration.strict="}),
        ("permbench run mpcformer.r", {"mpcformer.reuse_weight_masks="}),
        ("permbench run network=permllm", {"permllm-wan", "permllm-wan2"}),
        ("permbench run system.weight_bits=3", {"32"}),
        ("permbench run trace=t", {"true"}),
        ("permbench list experiment.kv", {"experiment.kv_len"}),
        ("permbench list nex", {"nexus"}),
        ("permbench run --dry", {"--dry-run"}),
    ],
)
def test_a_shell_completes(
    shell: str, line: str, found: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = completed(shell, line, tmp_path / "script", capsys)
    given = {word.rpartition("=")[2] if "=" in line else word for word in words}
    if line.startswith("permbench run") and "=" not in line and "--" not in line:
        given = {f"{word.partition('=')[0]}=" for word in given}  # zsh adds =, fish a value too
    assert found <= given
    assert len(given) == len(found) or shell == "fish"  # which finds what has it inside, too


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_last_value_of_a_list_is_completed(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (word,) = completed(shell, "permbench run -m network=puma,nex", tmp_path / "script", capsys)
    assert word == {"bash": "puma,nexus", "zsh": "nexus"}[shell]  # zsh keeps what is there
