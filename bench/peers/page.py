"""docs/performance.md: the text around the tables is `page.md` beside this; every figure is a run's. Pure,
but for reading that text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from string import Template

from bench.peers import tables
from bench.peers.catalog import OURS, PEERS
from bench.peers.found import Found
from bench.peers.outcomes import About, Outcome
from bench.peers.targets import missed, targets
from bench.peers.workloads import WORKLOADS

TEXT = Path(__file__).with_name("page.md")


def page(about: About, outcomes: Iterable[Outcome], images: str) -> str:
    """The whole page; `images` is where the pictures lie, seen from it."""
    everything = list(outcomes)
    found = Found(everything)
    all_targets = targets(found, has_processes=about.has_processes)
    return Template(TEXT.read_text("utf-8")).substitute(
        targets=tables.target_table(all_targets),
        missed=_missed([each.what for each in missed(all_targets)]),
        loads="\n\n".join(_load(found, each) for each in about.workloads),
        alone=tables.alone_table(found),
        faults=tables.fault_table(found),
        crowd=tables.crowd_table(found),
        errors=tables.error_lines(everything),
        run=_run(about),
        versions=_versions(about),
        images=images,
    )


def _load(found: Found, workload: str) -> str:
    title = WORKLOADS[workload].title
    return f"### {title[0].upper()}{title[1:]}\n\n{tables.load_table(found, workload)}"


def _missed(names: list[str]) -> str:
    if not names:
        return "This run reached every target that it measured."
    return "This run did not reach:\n\n" + "\n".join(f"- {name}" for name in names)


def _run(about: About) -> str:
    machine = about.machine
    rotations = f"{about.rotations} rotation" + ("s" if about.rotations > 1 else "")
    changed = " with changes" if about.is_dirty else ""
    quick = " It was a quick run: its figures are to be looked at, and not quoted." if about.is_quick else ""
    return (
        f"Measured {about.started[:10]} at commit `{about.commit}`{changed}: "
        f"{machine.cpu}, {machine.cores} cores, {machine.memory / 2**30:.0f} GiB, Linux {machine.kernel}, "
        f"Python {machine.python}. {rotations}, {about.seconds:g} s a load (the "
        f"transformer's twice that), by {about.generator} on the same "
        f"cores.{quick}"
    )


def _versions(about: About) -> str:
    rows = [
        [PEERS[name].title, version or about.commit, about.torches.get(name, "")]
        for name, version in about.versions.items()
    ]
    rows += [
        [PEERS[name].title, f"not installed: {' '.join(why.split())[:200]}", ""]
        for name, why in about.absent.items()
    ]
    if OURS not in about.versions:
        rows.insert(0, [PEERS[OURS].title, about.commit, ""])
    return tables.markdown(["server", "version", "torch"], rows)
