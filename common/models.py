"""What can be set for a model."""

from __future__ import annotations

import msgspec


class ModelSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Settings of one model."""

    runtime: str | None = None
    max_batch: int | None = None
    max_wait_ms: float = 0.0
    queue_max: int | None = None
    timeout: float | None = None
    cache_size: int | None = None
    instances: int | None = None
    keep_versions: int = 2
    affinity: bool = True


DEFAULTS = ModelSettings()
