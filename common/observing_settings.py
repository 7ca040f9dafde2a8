"""What a gateway tells those who watch it; docs/metrics.md and docs/logs.md say more."""

from __future__ import annotations

from dataclasses import dataclass

from common.flags import FLAG, option

_GROUP = "observing"


@dataclass(frozen=True, kw_only=True)
class ObservingSettings:
    """What costs something, or not everybody wants."""

    metrics_triton: bool = option(False, FLAG, _GROUP, "/metrics by the names of Triton, too")
