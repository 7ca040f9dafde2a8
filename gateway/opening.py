"""What the settings ask for, opened: whom the gateway believes, where it listens, which workers it hires."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from common.addresses import parse_host_port
from common.credentials import Credentials, read_credentials, read_fleet_token
from common.errors import LinkError
from common.limit_settings import LimitSettings
from common.settings import GatewaySettings
from common.sockets import bind, bind_shares
from common.tracing import Spans
from gateway.auth.gate import Gate
from gateway.launchers.choose import Hiring
from gateway.launchers.launcher import WorkerSpec
from gateway.parts import Gateway
from gateway.reloading import policy_of
from gateway.tls import Certificate


class Trust(NamedTuple):
    """Who is believed, and by what they are known."""

    credentials: Credentials | None  # the fleet's certificates
    token: str | None  # the fleet's
    certificate: Certificate | None  # what REST and gRPC show, where they speak TLS
    gate: Gate | None  # the clients' tokens


def read_trust(settings: GatewaySettings) -> Trust:
    """Every file of it, each refused with a `PipelineError` that names it."""
    certificate = None
    if settings.certfile is not None and settings.keyfile is not None:
        certificate = Certificate(Path(settings.certfile), Path(settings.keyfile))
    return Trust(
        settings.certificates and read_credentials(*settings.certificates, listens=True),
        read_fleet_token(settings.fleet_token_file, settings.fleet_token),
        certificate,
        None if settings.tokens is None else Gate(Path(settings.tokens)),
    )


class Sockets(NamedTuple):
    """What listens. `fronts` has those of each process for HTTP, where there are any; `rest` is the first."""

    rest: list[socket.socket]
    admin: list[socket.socket]
    grpc: list[socket.socket]
    fronts: Sequence[list[socket.socket]]


def open_sockets(settings: GatewaySettings) -> Sockets:
    """Listen wherever the settings say; `LinkError` where that cannot be."""
    shares = listen(settings.addr_rest, settings.processes)
    admin = [] if settings.addr_admin is None else listen(settings.addr_admin)[0]
    grpc = [] if settings.addr_grpc is None else listen(settings.addr_grpc)[0]
    return Sockets(shares[0], admin, grpc, shares[1:] and shares)


def listen(address: str, count: int = 1) -> list[list[socket.socket]]:
    """Sockets that listen on host:port, for each of so many processes; `LinkError` if there can be none."""
    try:
        host, port = parse_host_port(address)
        return [bind(host, port)] if count == 1 else bind_shares(host, port, count)
    except OSError as error:
        raise LinkError(f"cannot listen on {address}: {error.strerror}") from None


def make_gateway(
    settings: GatewaySettings, sockets: Sockets, trust: Trust, spans: Spans | None = None
) -> Gateway:
    """What the settings ask for."""
    return Gateway(
        rest=sockets.rest,
        fronts=sockets.fronts,
        grpc=sockets.grpc,
        admin=sockets.admin,
        addr_service=settings.addr_service,
        addr_worker=settings.addr_worker,
        credentials=trust.credentials,
        token=trust.token,
        certificate=trust.certificate,
        gate=trust.gate,
        state=settings.state_directory,
        hiring=make_hiring(settings, trust.token),
        queue_max=settings.queue_max,
        timeout=settings.timeout,
        max_body=settings.max_body,
        max_upload=settings.max_upload,
        max_rows=settings.max_rows,
        limits=LimitSettings(**{each.name: getattr(settings, each.name) for each in fields(LimitSettings)}),
        models=None if settings.models is None else Path(settings.models),
        watch=settings.watch,
        batch_root=None if settings.batch_root is None else Path(settings.batch_root),
        webhook_hosts=settings.webhook_hosts,
        jobs_max=settings.jobs_max,
        metrics_triton=settings.metrics_triton,
        access_log=settings.access_log,
        spans=spans,
        policy=policy_of(settings),
        cors_origins=settings.cors_origins,
    )  # fmt: skip


def make_hiring(settings: GatewaySettings, token: str | None) -> Hiring:
    """The workers that the settings ask for. Those on other machines find the token there."""
    is_local = settings.launcher == "local"
    return Hiring(
        launcher=settings.launcher,
        spec=WorkerSpec(
            service=settings.service or ("local" if is_local else "pipeline"),
            arguments=_worker_flags(settings),
            environment={"PIPELINE_FLEET_TOKEN": token} if token is not None and is_local else {},
            cpus=_worker_cpus(settings),
            gpus=settings.worker_gpus or 0.0,
            memory=settings.worker_memory,
            resources=settings.worker_resources or {},
        ),
        scale=settings.scale,
        scale_to_zero=settings.scale_to_zero,
        worker_timeout=settings.worker_timeout,
        spot=settings.spot_workers,
        keep=settings.keep,
        stop_workers=settings.stop_workers,
        advertise=settings.advertise,
        options=own_settings(settings),
    )


def _worker_cpus(settings: GatewaySettings) -> float:
    return 1.0 if settings.worker_cpus is None else settings.worker_cpus


def _worker_flags(settings: GatewaySettings) -> tuple[str, ...]:
    is_local = settings.launcher == "local"
    cores = (os.cpu_count() or 1) if is_local else max(1, math.ceil(_worker_cpus(settings)))
    trusted_keys = str(Path(settings.trusted_keys or "").absolute())
    threads = settings.threads or max(1, cores // max(1, settings.scale.most if is_local else 1))
    return (
        "--threads", str(threads),
        "--cache_size", str(settings.cache_size),
        "--device", settings.device,
        "--gateway_timeout", str(settings.gateway_timeout),
        *(["--spot"] if settings.spot_workers else []),
        *([] if settings.memory_mb is None else ["--memory_mb", str(settings.memory_mb)]),
        *(["--allow_pickle"] if settings.allow_pickle else []),
        *(["--allow_code", ",".join(settings.allow_code)] if settings.allow_code else []),
        *(["--trusted", ",".join(settings.trusted)] if settings.trusted else []),
        *(["--trust_files"] if settings.trust_files else []),
        *([] if settings.trusted_keys is None else ["--require_signed", "--trusted_keys", trusted_keys]),
        "--log_level", settings.log_level,
        "--log_format", settings.log_format,
        *([] if settings.otel is None else ["--otel", settings.otel]),
    )  # fmt: skip


def own_settings(settings: GatewaySettings) -> dict[str, Any]:
    """Those of its launcher alone, which begin with its name: `--ray_address` is Ray's `address`."""
    prefix = f"{settings.launcher}_"
    values = {each.name: getattr(settings, each.name) for each in fields(settings)}
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
