"""Samples of stacks, and what they come to. Pure."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

Stack = tuple[str, ...]
"""Frames from the outermost to the one that ran; the first is the thread's name."""

Stacks = Counter[Stack]

NAMELESS = "without a name"
"""A thread that Python did not start, as NNG's are when they call into it."""

_THREAD = re.compile(r"^thread \((?:0x)?[0-9A-Fa-f]+\)(?:: )?")
_PERF_HEAD = re.compile(r"^(?P<thread>\S.*?)\s+\d+\s*$")
_PERF_FRAME = re.compile(r"^\s+[0-9a-f]+ (?P<name>.*?)(?:\+0x[0-9a-f]+)? \((?P<file>.*)\)$")


class Share(NamedTuple):
    """A function, and the shares of all samples in which it ran itself, and in which it was being called."""

    name: str
    own: float
    whole: float


def read_collapsed(text: str) -> Stacks:
    """What py-spy writes: lines of `outer;inner COUNT`."""
    stacks: Stacks = Counter()
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        if frames and count.isdigit():
            thread, *rest = frames.split(";")
            stack: Stack = (_THREAD.sub("", thread) or NAMELESS, *rest)
            stacks[stack] += int(count)
    return stacks


def read_perf(text: str) -> Stacks:
    """What `perf script -F comm,tid,ip,sym,dso` writes: a line for the thread, one for each frame from the
    innermost out, and an empty one. Python's frames are called `py::FUNCTION:FILE` there."""
    stacks: Stacks = Counter()
    for block in text.split("\n\n"):
        head, *frames = block.strip("\n").splitlines() or [""]
        thread = _PERF_HEAD.match(head)
        found = [match for match in map(_PERF_FRAME.match, frames) if match]
        if thread and found:
            stack: Stack = (thread["thread"], *map(_perf_name, reversed(found)))
            stacks[stack] += 1
    return stacks


def _perf_name(frame: re.Match[str]) -> str:
    name, file = frame["name"], frame["file"].rpartition("/")[2]
    if name.startswith("py::"):
        function, _, path = name.removeprefix("py::").partition(":")
        return f"{function} ({'/'.join(path.split('/')[-2:])})"
    return f"{name} ({file})"


def functions(stacks: Stacks) -> Stacks:
    """The same without the numbers of lines, so that a function is one thing."""
    found: Stacks = Counter()
    for stack, count in stacks.items():
        found[tuple(re.sub(r":\d+\)$", ")", frame) for frame in stack)] += count
    return found


def top(stacks: Stacks, count: int) -> list[Share]:
    """The functions that ran most often, the first one most."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for stack, samples in functions(stacks).items():
        if len(stack) > 1:
            own[stack[-1]] += samples
        for frame in set(stack[1:]):
            whole[frame] += samples
    all_samples = stacks.total()
    return [Share(name, n / all_samples, whole[name] / all_samples) for name, n in own.most_common(count)]


def threads(stacks: Stacks) -> list[tuple[str, float]]:
    """Each thread's share of the samples, the busiest first."""
    found: Counter[str] = Counter()
    for stack, samples in stacks.items():
        found[stack[0]] += samples
    return [(name, n / stacks.total()) for name, n in found.most_common()]


def table(title: str, stacks: Stacks, *, possible: int, count: int) -> str:
    """A short text of all that; `possible` samples a thread would have had that ran all the time."""
    if not stacks:
        return f"{title}: no samples, it did nothing\n"
    lines = [f"{title}: {stacks.total():,} samples"]
    for name, share in threads(stacks):
        busy = min(1.0, share * stacks.total() / possible)
        lines.append(f"  {share:6.1%}  thread {name}, busy {busy:.0%} of the time")
    lines += ["", f"  {'own':>6}  {'whole':>6}  function"]
    lines += [f"  {each.own:6.1%}  {each.whole:6.1%}  {each.name}" for each in top(stacks, count)]
    return "\n".join(lines) + "\n"
