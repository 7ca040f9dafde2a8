"""What processes tell those who watch them; docs/metrics.md and docs/logs.md say more."""

from __future__ import annotations

from dataclasses import dataclass

from common.flags import FLAG, HTTP_URL, LEVEL, LOG_FORMAT, RATE, option

_GROUP = "observing"


@dataclass(frozen=True, kw_only=True)
class TellingSettings:
    """What every process takes."""

    log_level: str = option("info", LEVEL, "process", "debug, info, warning or error")
    log_format: str = option("text", LOG_FORMAT, "process", "text or json; one line an event in both")
    otel: str | None = option(None, HTTP_URL, _GROUP, "collector that takes spans, as OTLP over HTTP")


@dataclass(frozen=True, kw_only=True)
class ObservingSettings:
    """What costs something, or not everybody wants."""

    otel_sample: float = option(
        0.001, RATE, _GROUP, "share of the requests without a traceparent that have spans, 0 to 1"
    )
    access_log: float = option(0.0, RATE, _GROUP, "share of the requests that are logged, 0 to 1")
    metrics_triton: bool = option(False, FLAG, _GROUP, "/metrics by the names of Triton, too")
