"""The programs in scripts/ as modules, for tests of what they are made of."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def scripts(name: str) -> Any:
    """One of them, imported with its own folder first on the path, as when it is run."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SCRIPTS))
