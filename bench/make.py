"""`python -m bench make`: a schedule of requests, made from a pattern and a seed or read from a trace.

Exit codes: 0 it is written, 2 arguments or a trace that make no sense.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import schedule
from bench.schedule import Made, Row, Schedule
from bench.traces import read_trace

EXIT_OK, EXIT_USAGE = 0, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Make and write it; an exit code."""
    arguments = _parser().parse_args(argv)
    try:
        made = _from_trace(arguments) if arguments.pattern == "trace" else _from_pattern(arguments)
        if not made.rows:
            raise ValueError("nothing comes at all in this schedule")
        with arguments.output.open("w") as file:
            schedule.write(made, file)
    except (ValueError, OSError) as error:
        print(f"bench make: {error}", file=sys.stderr)
        return EXIT_USAGE
    print(f"{len(made.rows):,} requests in {made.made.duration:g} s, {made.rate:,.1f} a second")
    return EXIT_OK


def _from_pattern(arguments: argparse.Namespace) -> Schedule:
    if arguments.rate is None or arguments.duration is None:
        raise ValueError(f"{arguments.pattern} needs --rate and --duration")
    seed, peak = arguments.seed, arguments.peak or 3 * arguments.rate
    times = schedule.times(arguments.pattern, arguments.rate, peak, arguments.duration, seed)
    model, given = schedule.models(arguments.model, seed), _inputs(arguments)
    rows = [Row(at, model(), given()) for at in times]
    return Schedule(Made(arguments.duration, arguments.pattern, seed, arguments.inputs), rows)


def _from_trace(arguments: argparse.Namespace) -> Schedule:
    """A trace's times, made faster or slower where --rate is given, and cut at --duration. With several
    --model, what was called most is the first, what came next the second, and so on in turn."""
    if arguments.trace is None:
        raise ValueError("trace needs --trace FILE")
    with arguments.trace.open(newline="") as file:
        calls = read_trace(file, arguments.seed)
    if arguments.rate is not None:
        factor = len(calls) / arguments.rate / schedule.duration([at for at, _ in calls])
        calls = [(at * factor, name) for at, name in calls]
    duration = arguments.duration or schedule.duration([at for at, _ in calls])
    calls = [call for call in calls if call[0] <= duration]
    counts: dict[str, int] = {}
    for _, name in calls:
        counts[name] = counts.get(name, 0) + 1
    names = arguments.model or [""]
    often = sorted(counts, key=lambda name: (-counts[name], name))
    models = {name: names[n % len(names)].partition("=")[0] for n, name in enumerate(often)}
    given = _inputs(arguments)
    rows = [Row(at, models[name], given()) for at, name in calls]
    return Schedule(Made(duration, "trace", arguments.seed, arguments.inputs), rows)


def _inputs(arguments: argparse.Namespace) -> Callable[[], str]:
    return schedule.inputs(arguments.inputs, arguments.seed, count_lines)


def count_lines(path: str) -> int:
    """How many rows a file has; `ValueError` where it has none."""
    with Path(path).open() as file:
        count = sum(bool(line.strip()) for line in file)
    if not count:
        raise ValueError(f"there is no row in {path}")
    return count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench make", description="Make a schedule of requests.")
    parser.add_argument("--pattern", choices=schedule.PATTERNS, default="poisson")
    parser.add_argument("--rate", type=float, help="requests a second (at least, where the rate changes)")
    parser.add_argument("--peak", type=float, help="requests a second at most; by default three times --rate")
    parser.add_argument("--duration", type=float, help="seconds")
    parser.add_argument(
        "--inputs", default="uniform", metavar="uniform|uniform(n)|zipf(s,n)|FILE",
        help="which rows are asked for; a file has one row a line, as JSON",
    )  # fmt: skip
    parser.add_argument(
        "--model", action="append", metavar="NAME[=WEIGHT]", help="may be given again; else the server's own"
    )
    parser.add_argument("--trace", type=Path, metavar="FILE", help="CSV of timestamps, or of Azure Functions")
    parser.add_argument("--seed", type=int, default=1, help="another one makes another schedule")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    return parser
