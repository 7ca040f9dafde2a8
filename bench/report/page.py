"""The page: tables around the pictures, in one file that loads nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib import resources

from bench.compare import row, shown
from bench.comparing import QUANTITIES, Groups, compare, reservations, thing, typical
from bench.figures import number
from bench.report import svg
from bench.report.pictures import pictures
from bench.results import Process, Result

# Nothing is loaded, whatever a result has in it: all there is stands in the page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(groups: Groups, title: str) -> str:
    """All of it."""
    body = "\n".join(
        [
            f"<h1>{escape(title)}</h1>",
            *(f'<p class="reservation">{escape(sentence)}</p>' for sentence in reservations(groups)),
            _legend(groups),
            _section("Figures", [_summary(groups)]),
            _section("Plots", ['<div class="plots">', *_plots(groups), "</div>"]),
            *_comparisons(groups),
            *_details(groups),
            _section("Circumstances", [_circumstances(groups)]),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_part('page.css')}</style>\n</head>\n"
        f"<body>\n{body}\n<script>\n{_part('page.js')}</script>\n</body>\n</html>\n"
    )


def _part(name: str) -> str:
    return (resources.files("bench.report") / name).read_text("utf-8")


def _section(title: str, parts: Iterable[str]) -> str:
    return "\n".join(["<section>", f"<h2>{escape(title)}</h2>", *parts, "</section>"])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ['<div class="scroll"><table>', _row("th", head)]
    return "\n".join([*lines, *(_row("td", each) for each in rows), "</table></div>"])


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _legend(groups: Groups) -> str:
    buttons = [
        f'<button type="button" class="c{n % svg.COLOURS}" data-group="{n}" aria-pressed="true">'
        f"{escape(name)}</button>"
        for n, name in enumerate(groups)
    ]
    return f'<nav aria-label="What is shown in the plots">{"".join(buttons)}</nav>'


def _summary(groups: Groups) -> str:
    quantities = [
        each
        for each in QUANTITIES
        if any(each.of(run) is not None for runs in groups.values() for run in runs)
    ]
    rows = []
    for name, runs in groups.items():
        offered = "closed" if runs[0].is_closed else f"{number(runs[0].schedule.offered_rate)}/s"
        values = [(each, typical(each, runs)) for each in quantities]
        figures = ["–" if value != value else shown(each, value) for each, value in values]
        are_kept = all(run.kept_schedule.is_kept for run in runs)
        longest = f"{number(1000 * max(run.latency.max for run in runs))} ms" if are_kept else "–"
        rows.append([name, str(len(runs)), offered, *figures, longest])
    return _table(["", "runs", "offered", *(each.name for each in quantities), "longest"], rows)


def _plots(groups: Groups) -> Iterator[str]:
    for picture in pictures(groups):
        yield (
            f'<figure id="{picture.name}"><figcaption><h3>{escape(picture.title)}</h3>'
            f"<p>{escape(picture.note)}</p></figcaption>{svg.drawn(picture)}<output></output></figure>"
        )


def _comparisons(groups: Groups) -> Iterator[str]:
    first, *others = groups
    for other in others:
        if thing(other, groups[other]) == thing(first, groups[first]):
            continue  # at another rate
        rows = [row(each) for each in compare(groups[first], groups[other])]
        head = ["", first, other, "ratio", "95 %", ""]
        yield _section(f"{other} beside {first}", [_table(head, rows)])


def _details(groups: Groups) -> Iterator[str]:
    for name, (run, *_) in groups.items():
        tables = list(_tables(run))
        if tables:
            yield _section(f"More of {name}", ['<div class="tables">', *tables, "</div>"])


def _tables(run: Result) -> Iterator[str]:
    """What there is of errors, the server's phases, its caches, workers and processes."""
    if run.errors:
        yield _table(["errors", ""], [(kind, f"{count:,}") for kind, count in run.errors.items()])
    if run.phases:
        rows = [
            (name, *(f"{1000 * value:.3g} ms" for value in (phase.p50, phase.p99, phase.mean)))
            for name, phase in run.phases.items()
        ]
        yield _table(["phase", "p50", "p99", "mean"], rows)
    if run.cache is not None and run.cache.hits + run.cache.misses:
        share = run.cache.hits / (run.cache.hits + run.cache.misses)
        yield _table(["cache", ""], [("hits", f"{run.cache.hits:,}"), ("share", f"{100 * share:.3g} %")])
    if run.workers:
        yield _table(
            ["worker", "share"], [(name, f"{100 * part:.3g} %") for name, part in run.workers.items()]
        )
    if run.processes:
        yield _table(["process", "id", "CPU", "memory at most"], map(_process, run.processes))


def _process(each: Process) -> tuple[str, str, str, str]:
    return each.name, str(each.pid), f"{each.cpu_s:.3g} s", f"{each.rss_max / (1 << 20):.0f} MiB"


def _circumstances(groups: Groups) -> str:
    rows = []
    for name, runs in groups.items():
        for run in runs:
            machine, plan = run.machine, run.schedule
            planned = f"{plan.pattern}, {plan.rows:,} requests in {plan.duration:.4g} s, seed {plan.seed}"
            rows.append(
                [
                    name, run.started, run.door, run.url,
                    f"{number(run.settings['closed'])} clients" if run.is_closed and "closed" in run.settings
                    else planned,
                    run.commit + (" and changes" if run.dirty else ""),
                    f"{machine.cpu}, {machine.cores} cores, {machine.memory >> 30} GiB, {machine.kernel}",
                    ", ".join(f"{library} {version}" for library, version in run.versions.items()),
                    ", ".join(f"{setting} {value}" for setting, value in run.settings.items()),
                ]
            )  # fmt: skip
    head = ["", "started", "door", "URL", "load", "commit", "machine", "versions", "settings"]
    return _table(head, rows)
