"""What of a gateway's settings can change while it serves, and how. Which change, SIGHUP says (`serve`)."""

from __future__ import annotations

from collections.abc import Callable, Collection

from common.log import set_level
from common.reloading import Reloading
from common.scaling_settings import ScalingSettings
from common.settings import GatewaySettings
from gateway.autoscaler.policy import Parameters
from gateway.autoscaler.scaling import Scaling
from gateway.core import Core
from gateway.tls import Certificate

Setter = Callable[[Core, GatewaySettings], None]


def policy_of(settings: ScalingSettings) -> Parameters:
    """What the autoscaler goes by."""
    return Parameters(**{name: getattr(settings, name) for name in Parameters.__struct_fields__})


def reloading(
    settings: GatewaySettings, read: Callable[[], GatewaySettings], certificate: Certificate | None = None
) -> Callable[[Core], Callable[[], None]] | None:
    """What a core is given as soon as there is one; then, each time it is called, it reads anew the file of
    settings and the certificate of the doors. None where there is neither."""
    if settings.config is None and certificate is None:
        return None

    def of(core: Core) -> Callable[[], None]:
        def is_live(name: str, after: GatewaySettings) -> bool:
            if LIVE.get(name) is _set_scaling:  # whether it keeps workers at all is decided as it starts
                return core.autoscaler is not None and after.scale.most > 0
            return name in LIVE

        def change(names: Collection[str], after: GatewaySettings) -> None:
            for setter in dict.fromkeys(LIVE[name] for name in names):
                setter(core, after)

        of_settings = None if settings.config is None else Reloading(settings, read, is_live, change)

        def reload() -> None:
            if of_settings is not None:
                of_settings.reload()
            if certificate is not None:
                certificate.reload()

        return reload

    return of


def _set_queue(core: Core, settings: GatewaySettings) -> None:
    core.scheduler.queue_max = settings.queue_max


def _set_timeout(core: Core, settings: GatewaySettings) -> None:
    core.predictions.timeout = settings.timeout


def _set_rows(core: Core, settings: GatewaySettings) -> None:
    core.predictions.max_rows = settings.max_rows


def _set_depth(core: Core, settings: GatewaySettings) -> None:
    core.json.max_depth = settings.max_json_depth


def _set_jobs(core: Core, settings: GatewaySettings) -> None:
    core.jobs.jobs_max = settings.jobs_max


def _set_hosts(core: Core, settings: GatewaySettings) -> None:
    core.webhooks.allow(settings.webhook_hosts)


def _set_level(_core: Core, settings: GatewaySettings) -> None:
    set_level(settings.log_level)


def _set_scaling(core: Core, settings: GatewaySettings) -> None:
    assert core.autoscaler is not None
    least, most = settings.scale.least, settings.scale.most
    core.autoscaler.start_anew(
        Scaling(
            min_workers=least,
            max_workers=most,
            scale_to_zero=settings.scale_to_zero,
            policy=policy_of(settings),
        )
    )


_SCALE = ("workers", "min_workers", "max_workers", "num_init_workers", "scale_to_zero")
LIVE: dict[str, Setter] = {
    "queue_max": _set_queue,
    "timeout": _set_timeout,
    "max_rows": _set_rows,
    "max_json_depth": _set_depth,
    "jobs_max": _set_jobs,
    "webhook_hosts": _set_hosts,
    "log_level": _set_level,
    **dict.fromkeys((*_SCALE, *Parameters.__struct_fields__), _set_scaling),
}
