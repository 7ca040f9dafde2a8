"""What a gateway is made of: all values, nothing open."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.credentials import Credentials
from common.limit_settings import LimitSettings
from common.tracing import Spans
from gateway.auth.gate import Gate
from gateway.autoscaler.policy import Parameters
from gateway.launchers.choose import Hiring
from gateway.tls import Certificate


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """What is served, where, and to whom."""

    rest: list[socket.socket]
    fronts: Sequence[list[socket.socket]] = ()  # what each process in front listens on, instead of `rest`
    grpc: list[socket.socket]
    addr_service: str
    addr_worker: str
    credentials: Credentials | None = None  # for wss and tls+tcp
    token: str | None = None  # the fleet's
    certificate: Certificate | None = None  # of the doors
    state: Path | None
    hiring: Hiring
    queue_max: int
    timeout: float
    max_body: int
    max_upload: int
    max_rows: int
    limits: LimitSettings = field(default_factory=LimitSettings)
    models: Path | None = None
    watch: bool = False
    batch_root: Path | None = None
    webhook_hosts: tuple[str, ...] = ()
    jobs_max: int = 1000
    metrics_triton: bool = False
    access_log: float = 0.0
    spans: Spans | None = None
    policy: Parameters = field(default_factory=Parameters)
    admin: list[socket.socket] = field(default_factory=list)  # where what needs `admin` is served alone
    gate: Gate | None = None
    cors_origins: tuple[str, ...] = ()
