"""Python's own reader of TOML, or, before 3.11, the package that it was made from."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from tomllib import TOMLDecodeError, loads
else:  # pragma: no cover - which of the two is there depends on the Python
    from tomli import TOMLDecodeError, loads

__all__ = ["TOMLDecodeError", "loads"]
