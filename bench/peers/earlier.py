"""What was measured before this suite was there, on this kind of machine and with other models of the same
sizes (the tiny one 2–64–1): requests a second of 32 clients. It stands apart from what a run shows, for
servers that need Java or a bundle of gigabytes above all. Pure.
"""

from __future__ import annotations

RATES: dict[str, dict[str, str]] = {
    "tiny": {
        "mosec": "11,500–12,700", "torchserve": "5,200", "starlette": "2,990", "triton": "2,420",
        "mlserver": "1,170", "litserve": "1,040", "bentoml": "510", "rayserve": "170",
    },
    "mlp784": {
        "mosec": "2,000–2,270", "triton": "1,990", "starlette": "1,710", "torchserve": "1,190",
        "mlserver": "900",
    },
    "transformer": {
        "triton": "183", "mlserver": "147", "litserve": "140", "mosec": "126", "torchserve": "118",
        "bentoml": "84", "starlette": "50", "limit": "108 a thread",
    },
}  # fmt: skip
ALONE: dict[str, str] = {"starlette": "0.3", "litserve": "3.0", "torchserve": "3.1", "mosec": "3.8"}
SPOILED: dict[str, str] = {"mosec": "841 of 3,629", "mlserver": "513 of 1,988", "torchserve": "422 of 1,786"}
ONLY_EARLIER = {"torchserve": "TorchServe", "triton": "Triton (pytriton)"}
