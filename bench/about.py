"""Where and of what a measurement is: the machine, versions of libraries, and the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import psutil

from bench.results import Machine

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "httptools", "hypercorn", "msgspec", "numpy", "pybase64", "pynng", "starlette", "torch", "trio", "uvloop"
)  # fmt: skip


def machine() -> Machine:
    """This one."""
    return Machine(
        cpu=_processor(),
        cores=os.cpu_count() or 0,
        memory=psutil.virtual_memory().total,
        kernel=platform.release(),
        python=platform.python_version(),
    )


def versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Of those that are installed here."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> tuple[str, bool]:
    """The commit of this tree, and whether the tree differs from it; empty where git does not know."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=12"]
    try:
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return "", False
    text = answer.stdout.strip()
    return text.rstrip("+"), text.endswith("+")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
