"""`python -m bench run`: sends a schedule's requests to a server, measures, and writes the result.

Exit codes: 0 it was measured, 1 there were errors or the schedule was not kept (the result is written all the
same), 2 arguments that make no sense or a load that could not be run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import schedule
from bench.executor.display import display
from bench.executor.doors import DOORS
from bench.executor.execute import execute
from bench.executor.payloads import read_tensor
from bench.executor.settings import Settings
from bench.results import Result, write_result

EXIT_OK, EXIT_NOT_CLEAN, EXIT_USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; an exit code."""
    arguments = _parser().parse_args(argv)
    try:
        settings = _settings(arguments)
        with arguments.schedule.open() as file:
            given = schedule.read(file)
        with display(given.made.duration) as show:
            result = execute(given, settings, name=arguments.name or arguments.output.stem, show=show)
        write_result(result, arguments.output)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"bench run: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:  # before anything was sent
        print("bench run: ended before the start; nothing was measured", file=sys.stderr)
        return EXIT_USAGE
    print(f"{text(result)}\nwritten to {arguments.output}")
    return EXIT_OK if result.kept_schedule.is_kept and not result.errors else EXIT_NOT_CLEAN


def text(result: Result) -> str:
    """The figures, a line each. Latencies of a schedule that was not kept are not said. Pure."""
    offered = "" if result.is_closed else f" of {result.schedule.offered_rate:,.1f} offered"
    lines = [f"{result.answered:,} answers in {result.duration:.1f} s: {result.rate:,.1f} a second{offered}"]
    if result.is_interrupted:
        lines[0] += ", ended early"
    if result.errors:
        lines.append("errors: " + ", ".join(f"{count:,} {kind}" for kind, count in result.errors.items()))
    kept, latency = result.kept_schedule, result.latency
    if not kept.is_kept:
        lines.append(kept.sentence)
    elif latency.count:
        names = ("p50", "p90", "p99", "p999", "p9999", "max")
        shown = ", ".join(f"{name} {getattr(latency, name) * 1e3:.2f}" for name in names)
        lines.append(f"latency in ms: {shown}")
    if result.goodput is not None and result.deadline is not None:
        lines.append(f"goodput: {result.goodput:,.1f} a second within {result.deadline * 1e3:g} ms")
    if result.phases:
        shown = ", ".join(f"{name} {each.mean * 1e3:.3f}" for name, each in result.phases.items())
        lines.append(f"server's phases, mean in ms: {shown}")
    if result.cache is not None:
        lines.append(f"cache: {result.cache.hits:,} hits, {result.cache.misses:,} misses")
    if result.workers:
        lines.append("workers: " + ", ".join(f"{name} {part:.0%}" for name, part in result.workers.items()))
    if result.cpu_per_1000 is not None:
        most = sum(each.rss_max for each in result.processes) / 2**20
        lines.append(
            f"server: {result.cpu_per_1000:.3f} s of CPU for 1,000 answers, {most:,.0f} MiB resident"
        )
    return "\n".join(lines)


def _settings(arguments: argparse.Namespace) -> Settings:
    return Settings(
        url=arguments.url,
        door=arguments.door,
        path=arguments.path,
        cacert=arguments.cacert,
        insecure=arguments.insecure,
        tensor=read_tensor(arguments.row),
        connections=arguments.connections,
        closed=arguments.closed,
        processes=arguments.processes,
        warm_up=arguments.warm_up,
        timeout=arguments.timeout,
        deadline=arguments.deadline,
        pids=tuple(arguments.pid or ()),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench run", description="Load a server, and measure.")
    add = parser.add_argument
    add("schedule", type=Path, help="a file that `bench make` wrote, or CSV with the columns at,model,input")
    add("--url", required=True, help="http://HOST:PORT of the server, or https, grpc, ws, wss")
    add("--door", choices=DOORS, default="v1", help="how it is asked")
    add("--path", help="instead of the door's own path")
    add("--cacert", metavar="FILE", help="authorities to trust over https and wss, in PEM; else the system's")
    add("--insecure", action="store_true", help="trust any certificate")
    add(
        "--row", default="vector:FP32:2", metavar="NAME:DATATYPE:SHAPE[:BELOW]",
        help="what a row of the model is; whole numbers are made below BELOW",
    )  # fmt: skip
    add("--closed", type=int, default=0, metavar="N", help="a closed loop of N clients instead of the times")
    add("--connections", type=int, default=512, help="at most; they are opened as they are needed")
    add("--processes", type=int, default=1, help="that carry the load, one per core that it may have")
    add("--warm_up", type=float, default=2.0, help="seconds at the mean rate that are not counted")
    add("--timeout", type=float, default=30.0, help="seconds that an answer may take")
    add("--deadline", type=float, help="seconds; goodput is what is answered within them")
    add("--pid", type=int, action="append", help="of the server; else whoever listens there on this machine")
    add("--name", help="of the result; else the output's")
    add("-o", "--output", type=Path, default=Path("result.json"), metavar="FILE")
    return parser
