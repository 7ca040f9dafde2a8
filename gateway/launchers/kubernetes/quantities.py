"""Amounts as Kubernetes writes them: `500m`, `1.5Gi`, `2e3`. Pure.

The grammar is that of `k8s.io/apimachinery/pkg/api/resource.Quantity`.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,2}))?", re.ASCII)
_UNITS = {
    **{unit: Fraction(1000) ** power for power, unit in enumerate("num kMGTPE", start=-3)},
    **{f"{unit}i": Fraction(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}


def parse_quantity(text: str) -> Fraction:
    """What an amount is; `ValueError` where it is none."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no quantity: write 2, 500m or 1.5Gi")
    number, unit, exponent = match.groups()
    return Fraction(number) * (_UNITS[unit] if unit else 1) * Fraction(10) ** int(exponent or 0)


def cores(cpus: float) -> str:
    """Cores, in thousandths: finer the API takes none."""
    return f"{math.ceil(round(cpus * 1000, 6))}m"


def whole(amount: float, what: str) -> str:
    """An amount of what cannot be divided; `ValueError` where it is."""
    if amount != int(amount):
        raise ValueError(f"Kubernetes gives {what} whole, not {amount:g} of one")
    return str(int(amount))
