"""`permbench completion`: a script that lets a shell complete verbs, keys and values.

Static, so that a TAB starts no Python. Libraries for argparse complete the options of a parser, which are
few; the many words here are keys and their values, from `harness.config.reference`.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module

from harness.cli.main import VERBS, Parser
from harness.config.groups import GROUPS, options
from harness.config.reference import KeyDoc, keys

SHELLS = ("bash", "zsh", "fish")
EXAMPLES = """\
examples:
  permbench completion bash > ~/.local/share/bash-completion/completions/permbench
  permbench completion zsh > "${fpath[1]}/_permbench"
  permbench completion fish > ~/.config/fish/completions/permbench.fish
"""
BASH = """\
# bash completion of permbench; made by: permbench completion bash
_permbench() {
    local line=${COMP_LINE:0:COMP_POINT} word key part before
    word=${line##*[[:space:]]}
    local verb=${COMP_WORDS[1]}
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W "@VERBS@" -- "$word"))
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$(_permbench_options "$verb")" -- "$word"))
    elif [[ $word == *=* ]]; then
        key=${word%%=*} part=${word#*=} before=
        [[ $part == *,* ]] && before=${part%,*},
        COMPREPLY=($(compgen -P "$before" -W "$(_permbench_values "$key")" -- "${part##*,}"))
        [[ $COMP_WORDBREAKS == *=* ]] || COMPREPLY=("${COMPREPLY[@]/#/$key=}")
    elif [[ $verb == list ]]; then
        COMPREPLY=($(compgen -W "@NAMES@" -- "$word"))
    else
        COMPREPLY=($(compgen -S = -W "@KEYS@" -- "$word"))
        compopt -o nospace
    fi
}
_permbench_options() {
    case $1 in
@OPTIONS@
    esac
}
_permbench_values() {
    case $1 in
@VALUES@
    esac
}
complete -F _permbench permbench
"""
ZSH = """\
#compdef permbench
# zsh completion of permbench; made by: permbench completion zsh
_permbench_options() {
    case $1 in
@OPTIONS@
    esac
}
_permbench_values() {
    case $1 in
@VALUES@
    esac
}
_permbench() {
    local word=$PREFIX key
    if (( CURRENT == 2 )); then
        compadd -- @VERBS@
    elif [[ $word == -* ]]; then
        compadd -- $(_permbench_options $words[2])
    elif [[ $word == *=* ]]; then
        key=${word%%=*}
        compset -P '*[=,]'
        compadd -- $(_permbench_values $key)
    elif [[ $words[2] == list ]]; then
        compadd -- @NAMES@
    else
        compadd -S = -- @KEYS@
    fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _permbench "$@"
else
    compdef _permbench permbench
fi
"""
FISH = """\
# fish completion of permbench; made by: permbench completion fish
complete -c permbench -f
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.description = "Print a script that completes verbs, keys and values in a shell."
    parser.epilog = EXAMPLES
    parser.add_argument("shell", choices=SHELLS)


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    shell = args.shell
    print(_fish() if shell == "fish" else _filled(BASH if shell == "bash" else ZSH), end="")
    return 0


def documented() -> dict[str, KeyDoc]:
    """Every key by name, those of one system also as `<system>.<option>`."""
    found: dict[str, KeyDoc] = {}
    for doc in keys():
        found.setdefault(doc.key, doc)
        if doc.of.startswith("system="):
            found[f"{doc.of.removeprefix('system=')}.{doc.key.partition('.')[2]}"] = doc
    return found


def values_of(key: str, doc: KeyDoc) -> list[str]:
    """The values that `key` can be completed with; none where they cannot be counted."""
    if key in GROUPS:
        return options(key)
    if doc.values == "true or false":
        return ["true", "false"]
    words = doc.values.replace(" or ", ", ").split(", ")  # of a list, or of two
    return words if doc.default in words and all(" " not in word for word in words) else []


def _names() -> list[str]:
    named = {option for group in GROUPS for option in options(group)}
    return sorted(named | documented().keys())


def options_of(verb: str) -> tuple[str, ...]:
    """The options of a verb, as -m and --steps."""
    parser = Parser(add_help=False)
    import_module(f"harness.cli.verb_{verb}").add_arguments(parser)
    return tuple(name for action in parser._actions for name in action.option_strings)


def _filled(script: str) -> str:
    values = {key: values_of(key, doc) for key, doc in documented().items()}
    words = {
        "VERBS": " ".join(VERBS),
        "KEYS": " ".join(values),
        "NAMES": " ".join(_names()),
        "OPTIONS": "\n".join(_cases({verb: options_of(verb) for verb in VERBS})),
        "VALUES": "\n".join(_cases(values)),
    }
    for name, text in words.items():
        script = script.replace(f"@{name}@", text)
    return script


def _cases(words: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for key, those in words.items():
        if those:
            yield f"        {key}) echo '{' '.join(those)}' ;;"


def _fish() -> str:
    return FISH + "".join(f"complete -c permbench {line}\n" for line in _fish_lines())


def _fish_lines() -> Iterator[str]:
    first = "-n __fish_use_subcommand"
    for verb, summary in VERBS.items():
        yield f"{first} -a {verb} -d {_quoted(summary)}"
    after = "-n 'not __fish_use_subcommand'"
    for key, doc in documented().items():
        for value in values_of(key, doc) or [""]:
            yield f"{after} -a {_quoted(f'{key}={value}')} -d {_quoted(doc.meaning)}"
    for name in _names():
        yield f"-n '__fish_seen_subcommand_from list' -a {_quoted(name)}"
    for verb in VERBS:
        for option in options_of(verb):
            flag = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            yield f"-n '__fish_seen_subcommand_from {verb}' {flag}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
