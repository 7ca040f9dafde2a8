"""The autoscaler's policy over recorded or made traffic, in simulated time:
`python -m bench.simulate --make step --plot step.svg`, or with a schedule (see `bench.arrivals`) in place of
`--make`. Every `--policy` is a run of its own, so that policies can be compared.

The same arguments give the same table and the same plot, to the byte. Exit codes: 0 it ran, 2 arguments that
make no sense.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, get_type_hints

import msgspec

from bench.arrivals import Arrival, made, read_schedule, shapes
from bench.simulation import Run, Service, Simulation
from gateway.autoscaler.policy import Bounds, Parameters

EXIT_OK, EXIT_USAGE = 0, 2
AFTERWARDS = 60.0  # how long the fleet is looked at when traffic has ended

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate what was asked for; an exit code."""
    arguments = _parser().parse_args(argv)
    try:
        service = _read(arguments.service, Service)
        policies = {each: _read(each, Parameters) for each in arguments.policy or [""]}
        arrivals = _arrivals(arguments)
        bounds = Bounds(arguments.min_workers, arguments.max_workers, arguments.scale_to_zero)
        runs = {
            each or "defaults": Simulation(
                service, parameters, bounds, first=arguments.min_workers, seed=arguments.seed
            ).go(arrivals, arrivals[-1].at + AFTERWARDS)
            for each, parameters in policies.items()
        }
        print(table(runs))
        if arguments.decisions:
            print(decisions(runs))
        if arguments.plot is not None:
            _plot(runs, arguments.plot)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"bench.simulate: {error}", file=sys.stderr)
        return EXIT_USAGE
    return EXIT_OK


def table(runs: dict[str, Run]) -> str:
    """What each run cost, and what those who asked had of it. Pure."""
    lines = ["    p50     p99  longest  worker-seconds  most  changes  policy"]
    for name, run in runs.items():
        p50, p99, longest = (f"{run.percentile(q) * 1e3:.0f}" for q in (50, 99, 100))
        cost = f"{run.worker_seconds:.0f}"
        lines.append(
            f"{p50:>4} ms {p99:>4} ms {longest:>5} ms  {cost:>14} {run.most:>5} {run.changes:>8}  {name}"
        )
    return "\n".join(lines)


def decisions(runs: dict[str, Run]) -> str:
    """Every change of what is wanted, with its reason. Pure."""
    lines = []
    for name, run in runs.items():
        lines.append(f"{name}:")
        before = None
        for at, decision in run.decisions:
            if decision.n != before:
                lines.append(f"{at:>8.1f} s {decision.n:>4}  {decision.rule}: {decision.reason}")
            before = decision.n
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.simulate", description="Run the autoscaler's policy in simulated time."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("schedule", nargs="?", type=Path, help="CSV with the columns at,rows or at,rate")
    source.add_argument("--make", choices=list(shapes(0, 0, 1)), help="traffic of this shape")
    parser.add_argument("--base", type=float, default=35.0, help="requests a second at least")
    parser.add_argument("--peak", type=float, default=280.0, help="requests a second at most")
    parser.add_argument("--seconds", type=float, default=240.0, help="how long made traffic lasts")
    parser.add_argument("--seed", type=int, default=1, help="another one makes other traffic")
    parser.add_argument(
        "--service", default="", metavar="NAME=VALUE,…",
        help=f"what a worker is like; by default {_show(Service())}",
    )  # fmt: skip
    parser.add_argument(
        "--policy", action="append", metavar="NAME=VALUE,…", help="what is not as by default; may come again"
    )
    parser.add_argument("--min_workers", type=int, default=1)
    parser.add_argument("--max_workers", type=int, default=16)
    parser.add_argument("--scale_to_zero", action="store_true")
    parser.add_argument("--decisions", action="store_true", help="print each with its reason")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the runs: .svg or .png")
    return parser


def _show(service: Service) -> str:
    return ",".join(f"{name}={value}" for name, value in msgspec.structs.asdict(service).items())


def _read(text: str, kind: type[T]) -> T:
    """`name=value,…` as one of these; `ValueError` with a sentence for what is not in it."""
    pairs = [each.partition("=") for each in text.split(",") if each]
    values = {name.strip(): None if value == "null" else value for name, _, value in pairs}
    names = list(get_type_hints(kind))
    for name in values.keys() - set(names):
        raise ValueError(f"there is no {name}: allowed are {', '.join(names)}")
    return msgspec.convert(values, kind, strict=False)


def _arrivals(arguments: argparse.Namespace) -> list[Arrival]:
    if arguments.make is None:
        with arguments.schedule.open() as file:
            found = read_schedule(file, arguments.seed)
    else:
        shape = shapes(arguments.base, arguments.peak, arguments.seconds)[arguments.make]
        found = list(made(shape, arguments.seconds, arguments.seed))
    if not found:
        raise ValueError("nothing comes at all in this traffic")
    return found


def _plot(runs: dict[str, Run], path: Path) -> None:
    try:
        from bench.plot import plot
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"--plot needs {error.name}: pip install 'pipeline-inference[bench]'"
        ) from None
    plot(runs, path)


if __name__ == "__main__":
    sys.exit(main())
