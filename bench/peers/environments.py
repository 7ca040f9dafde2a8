"""An environment for each server, made once: venv and pip. Each wants other versions of everything."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from bench.peers.catalog import Peer

FOLDER = Path.home() / ".cache" / "pipeline-bench"
INSTALL_TIME = 1800.0  # seconds
_LIST = """
import importlib.metadata, json
print(json.dumps({each.name.lower(): each.version for each in importlib.metadata.distributions()}))
"""
_MADE = "installed"  # the file that says of what an environment was made, last of all


def python(peer: Peer, folder: Path) -> Path:
    """The interpreter of its environment, which is ours for our own."""
    return Path(sys.executable) if peer.requirements is None else folder / peer.name / "bin" / "python"


def is_installed(peer: Peer, folder: Path) -> bool:
    """Whether its environment has what its requirements say now."""
    if peer.requirements is None:
        return True
    made = folder / peer.name / _MADE
    return made.is_file() and made.read_text() == _digest(peer.requirements)


def install(peer: Peer, folder: Path) -> None:
    """Make its environment; `RuntimeError` with what was said last where that fails."""
    if peer.requirements is None or is_installed(peer, folder):
        return
    home = folder / peer.name
    home.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", "--clear", str(home)])
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "--only-binary", ":all:", "--requirement", str(peer.requirements)])
    (home / _MADE).write_text(_digest(peer.requirements))


def versions(peer: Peer, folder: Path) -> dict[str, str]:
    """Every package of its environment."""
    found: dict[str, str] = json.loads(_run([str(python(peer, folder)), "-I", "-c", _LIST]))
    return found


def _digest(requirements: Path) -> str:
    told = requirements.read_text() + sys.version
    return hashlib.sha256(told.encode()).hexdigest()


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIME,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{' '.join(command[:4])} … took more than {INSTALL_TIME:.0f} s") from None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} … failed: {done.stderr.strip()[-500:]}")
    return done.stdout
