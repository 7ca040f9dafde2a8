"""The autoscaler's settings; what each does is in docs/autoscaling.md."""

from __future__ import annotations

from dataclasses import dataclass

from common.flags import SECONDS, SECONDS_OR_ZERO, Kind, option


def _number(above: float, most: float) -> Kind:
    """Numbers above one, and up to another."""

    def check(value: float) -> None:
        if not above < value <= most:
            raise ValueError(f"must be above {above:g} and at most {most:g}, not {value:g}")

    return Kind("NUMBER", _parse, check)


def _parse(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"must be a number, not {text!r}") from None


_POSITIVE, _FRACTION, _FACTOR = _number(0, 1e6), _number(0, 1), _number(1, 1000)
_GROUP = "autoscaler"


@dataclass(frozen=True, kw_only=True)
class ScalingSettings:
    """What a gateway's autoscaler goes by: the fields of its policy's parameters, with the same defaults."""

    target_concurrency: float | None = option(
        None, _POSITIVE, _GROUP, "requests in progress that a worker holds (default: as measured)"
    )
    target_utilization: float = option(0.7, _FRACTION, _GROUP, "how much of what it holds a worker has")
    target_queue_ms: float = option(100.0, _POSITIVE, _GROUP, "how long requests may wait, in milliseconds")
    catch_up: float = option(2.0, SECONDS, _GROUP, "in how long what waits longer is answered")
    stable_window: float = option(30.0, SECONDS, _GROUP, "what traffic is averaged over")
    panic_window: float = option(0.5, SECONDS, _GROUP, "the same when it rises fast")
    panic_threshold: float = option(2.0, _FACTOR, _GROUP, "how many times what is ready makes a panic")
    scale_down_delay: float = option(30.0, SECONDS_OR_ZERO, _GROUP, "how long workers stay unneeded")
    scale_up_rate: float = option(10.0, _FACTOR, _GROUP, "at most so many times as many in a step")
    scale_down_rate: float = option(2.0, _FACTOR, _GROUP, "at most so many times fewer in a step")
    scale_step: float = option(2.0, SECONDS_OR_ZERO, _GROUP, "how long a step is, in seconds")
    look_ahead: float = option(
        2.0, SECONDS_OR_ZERO, _GROUP, "how far ahead growing traffic is looked at; 0: not"
    )
    zero_grace: float = option(60.0, SECONDS_OR_ZERO, _GROUP, "how long the last worker stays unneeded")
