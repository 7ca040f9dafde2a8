"""The highest rate that keeps p99 under a limit: `python -m bench sweep`, for each of a list of settings.

Every trial is `bench make` and `bench run`, and its result stays in the folder: `bench report FOLDER/*.json`
has the curve of latency by rate. Exit codes: 0 found for all, 1 some bear no rate at all, 2 it could not be
run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import make
from bench.compare import aligned
from bench.executor import command as run
from bench.programs import free_port
from bench.results import Result, read_result
from bench.search import Search, Verdict
from bench.serving import serving

EXIT_OK, EXIT_NONE, EXIT_USAGE = 0, 1, 2
Trial = Callable[[float], Result]


class Found(NamedTuple):
    """What a sweep of one setting came to. `best` is the last trial at the highest rate that is borne."""

    name: str
    search: Search
    best: Result | None

    def row(self) -> list[str]:
        """The words of its line."""
        if self.best is None:
            return [self.name, "none", "", f"{self.search.high:,.4g}/s", self._why()]
        p99 = f"{1000 * self.best.latency.p99:.3g} ms"
        return [self.name, f"{self.search.low:,.4g}/s", p99, f"{self.search.high:,.4g}/s", self._why()]

    def _why(self) -> str:
        return self.search.limit.value if self.search.limit else "no higher rate was tried"


def main(argv: Sequence[str] | None = None) -> int:
    """Search, and print what was found; an exit code."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
        found = [_swept(case, arguments) for case in cases(arguments.vary)]
    except (OSError, RuntimeError, ValueError) as error:
        print(f"bench sweep: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print(f"bench sweep: ended early; what was measured is in {arguments.output}", file=sys.stderr)
        return EXIT_USAGE
    head = ["", "highest rate", "p99 there", "next rate", "which was"]
    print("\n".join(aligned([head, *(each.row() for each in found)])))
    return EXIT_OK if all(each.best for each in found) else EXIT_NONE


def sweep(name: str, search: Search, trial: Trial, *, limit: float, errors: float = 0.0) -> Found:
    """Try rates until the highest is known."""
    best: Result | None = None
    while (rate := search.rate) is not None:
        result = trial(rate)
        if result.is_interrupted:
            raise KeyboardInterrupt
        search.tell(judged(result, limit, errors))
        if search.low == rate:
            best = result
    return Found(name, search, best)


def judged(result: Result, limit: float, errors: float = 0.0) -> Verdict:
    """Whether p99 is within the limit and errors within their share of the requests, if that can be told.

    An executor that was too busy to send in time makes latencies longer. Where they are within the limit all
    the same, no harm is done; else only what requests took from when they were sent, or that they had to wait
    for others' answers, shows that it was the server which was too slow.
    """
    kept, failed = result.kept_schedule, result.requests - result.answered
    if failed > errors * result.requests or result.service.p99 > limit:
        return Verdict.OVER
    if result.latency.p99 <= limit and not kept.missed:
        return Verdict.BORNE
    return Verdict.OVER if kept.is_kept or kept.waited else Verdict.NOT_KEPT


def cases(varied: Sequence[str]) -> Iterator[dict[str, str]]:
    """Every combination of settings, of `NAME=A,B` each."""
    names, values = [], []
    for each in varied:
        name, found, listed = each.partition("=")
        if not (name.isidentifier() and found and listed):
            raise ValueError(f"--vary is NAME=A,B,…, and not {each!r}")
        names.append(name)
        values.append(listed.split(","))
    for chosen in itertools.product(*values):
        yield dict(zip(names, chosen, strict=True))


def filled(text: str, settings: dict[str, str]) -> str:
    """The text with `{NAME}` replaced by that setting; `ValueError` if there is none."""
    try:
        return text.format_map(settings)
    except (KeyError, IndexError, ValueError) as error:
        known = ", ".join(settings) or "none"
        raise ValueError(
            f"{text!r} asks for a setting that is not varied ({error}): there are {known}"
        ) from None


def _swept(case: dict[str, str], arguments: argparse.Namespace) -> Found:
    name = " ".join(f"{setting}={value}" for setting, value in case.items()) or arguments.output.name
    search = Search(
        arguments.start, highest=arguments.highest, tolerance=arguments.tolerance, repeats=arguments.repeats
    )
    with contextlib.ExitStack() as stack:
        if arguments.server is not None:
            port = free_port()
            case = case | {"port": str(port)}
            ready = None if arguments.ready is None else filled(arguments.ready, case)
            log = arguments.output / f"{_slug(name)}.log"
            stack.enter_context(serving(filled(arguments.server, case), port, ready, log))
        trial = _trial(name, case, arguments)
        return sweep(name, search, trial, limit=arguments.limit, errors=arguments.errors)


def _trial(name: str, case: dict[str, str], arguments: argparse.Namespace) -> Trial:
    made, ran = (shlex.split(filled(text, case)) for text in (arguments.make, arguments.run))
    numbers = itertools.count(1)

    def trial(rate: float) -> Result:
        number = next(numbers)
        path = arguments.output / f"{_slug(name)}-{number:02}.json"
        schedule = path.with_suffix(".csv")
        load = ["--rate", str(rate), "--duration", str(arguments.duration), "--seed", str(number)]
        _call(make.main, ["make", *load, *made, "-o", str(schedule)])
        _call(run.main, ["run", str(schedule), *ran, "--name", name, "-o", str(path)])
        schedule.unlink()
        result = read_result(path)
        verdict = judged(result, arguments.limit, arguments.errors).value
        p99 = 1000 * result.latency.p99
        print(f"  {name}: {rate:,.4g}/s, p99 {p99:.3g} ms: {verdict}", file=sys.stderr, flush=True)
        return result

    return trial


def _call(main: Callable[[Sequence[str]], int], words: Sequence[str]) -> None:
    code = EXIT_USAGE
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.suppress(SystemExit),
    ):  # argparse's, who said why
        code = main(words[1:])
    if code == EXIT_USAGE:
        raise RuntimeError(f"bench {shlex.join(words)} could not be done")


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "sweep"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench sweep", description="Find the highest rate that keeps p99 under a limit."
    )
    add = parser.add_argument
    add("--limit", type=float, required=True, help="seconds that p99 may be")
    add("--run", required=True, metavar="ARGUMENTS", help="of every `bench run`: at least --url")
    add("--make", default="", metavar="ARGUMENTS", help="of every `bench make`, such as --inputs")
    add(
        "--vary", action="append", default=[], metavar="NAME=A,B",
        help="search for A and for B, which replace {NAME} in --run, --make and --server; may be given again",
    )  # fmt: skip
    add("--server", metavar="COMMAND", help="start this for each setting; {port} is a free one")
    add("--ready", metavar="URL", help="that the server answers with 200 once it is up; else its port does")
    add("--start", type=float, default=100.0, help="the first rate")
    add("--highest", type=float, default=1e6, help="rate to try")
    add("--duration", type=float, default=10.0, help="seconds of each trial")
    add("--repeats", type=int, default=3, help="trials of a rate, of which the majority decides")
    add("--tolerance", type=float, default=0.05, help="how far apart the rates are that the search ends with")
    add("--errors", type=float, default=0.0, help="share of the requests that may fail")
    add("-o", "--output", type=Path, default=Path("sweep"), metavar="FOLDER", help="for every result")
    return parser
