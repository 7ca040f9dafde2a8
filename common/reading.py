"""Reading settings: flags over variables over a file over defaults, and where each value came from.

A file is TOML with a table for each group that the help shows; `config_file` reads it.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from common.config_file import ConfigFile, read_config_file
from common.flags import FLAG, GROUPS, Option, SettingsError, flag_of, options_of, variable_of
from common.given import FROM_ENVIRONMENT, FROM_FLAG, LAYERS, Given

CONFIG = "config"

_LINE = re.compile(r"\S.*?:(\d+): ")

T = TypeVar("T")


class Family(NamedTuple):
    """The processes whose variables may stand in one environment: each knows the others' too.

    `others` are variables of programs without settings here; `unclear` are those that could mean two things,
    each with the sentence that says what to give instead.
    """

    members: Sequence[type]
    others: Sequence[str] = ()
    unclear: Mapping[str, str] = {}


class Read(NamedTuple, Generic[T]):
    """Settings, and how each that is not as by default was given."""

    settings: T
    given: Mapping[str, Given]


def parse_argv(cls: type[Any], argv: Sequence[str], *, prog: str, description: str) -> dict[str, str]:
    """The text of every flag, by its setting. Ends the process as argparse does: status 0 after `-h`, 2 with
    a sentence on stderr for a flag that is unknown or lacks its value."""
    parser = _parser(cls, prog=prog, description=description)
    given, unknown = parser.parse_known_args([_with_underscores(each) for each in argv])
    sentence = _unknown("argument", unknown, list(options_of(cls)), flag_of)
    if sentence is not None:
        parser.error(sentence)
    flags: dict[str, str] = vars(given)
    return flags


def read_values(
    cls: type[T],
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    family: Family,
    tables: Collection[str] = (),
) -> Read[T]:
    """The settings that flags, `PIPELINE_*` variables and the file that one of them names give; the first
    wins. An empty variable counts as none. `tables` may stand in the file beside those of settings.

    Raises `SettingsError` with a sentence for every mistake.
    """
    given = {
        **_from_environment(cls, environ),
        **{name: Given(text, flag_of(name), FROM_FLAG) for name, text in flags.items()},
    }
    file = _file(cls, given, tables)
    mistakes = [*_strange_variables(environ, family), *file.mistakes]
    given = {**file.given, **given}
    values, wrong = _convert(cls, given)
    mistakes += [*wrong, *_settle(cls, values, given)]
    if not mistakes:
        try:
            return Read(cls(**values), given)
        except SettingsError as error:
            mistakes = [_placed(sentence, given) for sentence in error.mistakes]
    raise SettingsError(sorted(mistakes, key=_line_of))


def _file(cls: type[Any], given: Mapping[str, Given], tables: Collection[str]) -> ConfigFile:
    option = options_of(cls).get(CONFIG)
    if option is None or CONFIG not in given:
        return ConfigFile({}, {}, [])
    try:
        option.kind.check(given[CONFIG].text)
    except ValueError as error:
        raise SettingsError([f"{given[CONFIG].where} {error}"]) from None
    return read_config_file(cls, Path(given[CONFIG].text), tables)


def _from_environment(cls: type[Any], environ: Mapping[str, str]) -> dict[str, Given]:
    named = {name: variable_of(each.variable or name) for name, each in options_of(cls).items()}
    return {
        name: Given(environ[variable], variable, FROM_ENVIRONMENT)
        for name, variable in named.items()
        if environ.get(variable)
    }


def _convert(cls: type[Any], given: Mapping[str, Given]) -> tuple[dict[str, Any], list[str]]:
    """The values of what was given, and what is wrong with the others."""
    values, mistakes = {}, []
    for name, each in options_of(cls).items():
        if name not in given:
            continue
        try:
            value = each.kind.parse(given[name].text)
            each.kind.check(value)
        except ValueError as error:
            mistakes.append(f"{given[name].where} {error}")
        else:
            values[name] = value
    return values, mistakes


def _settle(cls: type[Any], values: dict[str, Any], given: dict[str, Given]) -> Iterator[str]:
    """Of two settings of which one excludes the other, the one that wins by where it stands stays; a sentence
    where both stand in one place."""
    for name, each in options_of(cls).items():
        if not values.get(name) or each.excludes not in values:
            continue
        ranks = {LAYERS.index(given[one].layer): one for one in (name, each.excludes)}
        if len(ranks) == 1:
            yield (
                f"{given[name].where} cannot be given together with {given[each.excludes].where}:"
                " leave one out"
            )
        else:
            weaker = ranks[max(ranks)]
            del values[weaker], given[weaker]


def _placed(sentence: str, given: Mapping[str, Given]) -> str:
    """A sentence about flags, with the place in the file where the first of them stands, if it does."""
    flag = sentence.partition(" ")[0]
    found = given.get(flag.removeprefix("--"))
    return sentence if found is None or not found.place else f"{found.place}: {sentence}"


def _line_of(sentence: str) -> int:
    """The line of the file that a sentence is about; those about no line come first."""
    found = _LINE.match(sentence)
    return 0 if found is None else int(found[1])


def _with_underscores(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument[2:].partition("=")
    return f"--{flag.replace('-', '_')}{equals}{value}"


def _parser(cls: type[Any], *, prog: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog="Flags are taken with dashes too. Each may come from the variable in brackets, and from the"
        " table of its group in the file that --config names; the flag wins, then the variable.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    options = options_of(cls)
    defaults = {each.name: each.default for each in fields(cls)}
    for title in GROUPS:
        group = parser.add_argument_group(title)
        for name, each in options.items():
            if each.group != title:
                continue
            help = _help(name, each, defaults[name]) if each.help else argparse.SUPPRESS
            if each.kind is FLAG:
                group.add_argument(flag_of(name), action="store_const", const="1", help=help)
            else:
                may_be_bare: dict[str, Any] = {} if each.bare is None else {"nargs": "?", "const": each.bare}
                group.add_argument(flag_of(name), metavar=each.kind.metavar, help=help, **may_be_bare)
    return parser


def _help(name: str, each: Option, default: object) -> str:
    shown = f" (default: {each.kind.show(default)})" if default not in (None, False, ()) else ""
    return f"{each.help}{shown} [{variable_of(each.variable or name)}]".replace("%", "%%")


def _strange_variables(environ: Mapping[str, str], family: Family) -> list[str]:
    sentences = [sentence for variable, sentence in family.unclear.items() if environ.get(variable)]
    options = [pair for cls in family.members for pair in options_of(cls).items()]
    names = [each.variable or name for name, each in options]
    known = {*map(variable_of, [*names, *family.others]), *family.unclear}
    strange = [each for each in environ if each.startswith(variable_of("")) and each not in known]
    sentence = _unknown("environment variable", strange, names, variable_of)
    return sentences if sentence is None else [*sentences, sentence]


def _unknown(
    what: str, unknown: Iterable[str], names: Sequence[str], spell: Callable[[str], str]
) -> str | None:
    for each in unknown:
        bare = each.partition("=")[0].lower().removeprefix(flag_of("")).removeprefix(variable_of("").lower())
        near = difflib.get_close_matches(bare, names, n=1)
        return f"unknown {what} {each}" + (f": did you mean {spell(near[0])}?" if near else "")
    return None
