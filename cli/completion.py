"""What may come next on a command line. The scripts of all shells ask the program itself, so they never lag
behind it; names of models, jobs and workers come from the gateway, if it answers at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cli.asked import Asked
from cli.failure import Failure
from cli.output import Output

SOON = 1.0  # what a shell may wait for names

SCRIPTS = {
    "bash": """\
_pipeline() {
    local IFS=$'\\n'
    COMPREPLY=($(pipeline __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _pipeline pipeline
""",
    "zsh": """\
_pipeline() {
    local -a found
    found=(${(f)"$(pipeline __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#found} )); then compadd -- $found; else _files; fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _pipeline pipeline
""",
    "fish": """\
function __pipeline_complete
    pipeline __complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null
end
complete -c pipeline -a '(__pipeline_complete)'
""",
}


class Place(NamedTuple):
    """Where the last word of a command line stands: in which command, behind which flag, at which word."""

    parser: argparse.ArgumentParser
    words: Sequence[str]  # positional ones of this command, before the last
    flag: argparse.Action | None  # whose value the last word is


def complete(parser: argparse.ArgumentParser, words: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """What the last of these words, without the program's name, may become."""
    *before, last = words or [""]
    place = _find(parser, before)
    if place is None:
        return []
    return sorted({each for each in _candidates(place, last, before, environ) if each.startswith(last)})


def _find(parser: argparse.ArgumentParser, words: Sequence[str]) -> Place | None:
    flag: argparse.Action | None = None
    positional: list[str] = []
    for word in words:
        if flag is not None:
            flag = None
        elif word.startswith("-"):
            found = parser._option_string_actions.get(word)
            flag = found if found is not None and found.nargs != 0 else None
        elif (branches := _branches(parser)) is not None:
            if word not in branches:
                return None
            parser, positional = branches[word], []
        else:
            positional.append(word)
    return Place(parser, positional, flag)


def _branches(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser] | None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return None


def _candidates(place: Place, last: str, before: Sequence[str], environ: Mapping[str, str]) -> Iterator[str]:
    if place.flag is None and last.startswith("-"):
        yield from place.parser._option_string_actions
        return
    branches = _branches(place.parser)
    if place.flag is None and branches is not None:
        yield from branches
        return
    action = place.flag or _positional(place)
    if action is not None and action.choices is not None:
        yield from map(str, action.choices)
    elif action is not None and action.dest in NAMES:
        yield from _names(action.dest, place, before, environ)


def _positional(place: Place) -> argparse.Action | None:
    actions = [each for each in place.parser._actions if not each.option_strings]
    return actions[min(len(place.words), len(actions) - 1)] if actions else None


def _names(dest: str, place: Place, before: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    given = argparse.Namespace(timeout=SOON)
    for flag in ("--url", "--token"):
        if flag in before[:-1]:
            setattr(given, flag[2:], before[list(before).index(flag) + 1])
    try:
        return NAMES[dest](Asked(given, environ, Output(is_json=True)), place.words)
    except (Failure, KeyError, IndexError, TypeError):
        return []


def _models(asked: Asked, _words: Sequence[str]) -> list[str]:
    return [each["name"] for each in asked.do("GET", "models")["models"]]


def _versions(asked: Asked, words: Sequence[str]) -> list[str]:
    return [each["version"] for each in asked.do("GET", "models", words[0])["versions"]]


def _experiments(asked: Asked, _words: Sequence[str]) -> list[str]:
    return [each["name"] for each in asked.do("GET", "experiments")["experiments"]]


def _jobs(asked: Asked, _words: Sequence[str]) -> list[str]:
    return [each["id"] for each in asked.do("GET", "jobs")["jobs"]]


def _workers(asked: Asked, _words: Sequence[str]) -> list[str]:
    return [each["name"] for each in asked.do("GET", "status")["workers"]]


NAMES: dict[str, Callable[[Asked, Sequence[str]], list[str]]] = {
    "model": _models,
    "version": _versions,
    "experiment": _experiments,
    "job": _jobs,
    "worker": _workers,
}
