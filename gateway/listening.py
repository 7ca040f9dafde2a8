"""What clients meet: the doors, and the servers that they are served by."""

from __future__ import annotations

import socket

from common.credentials import GRPC, HTTP
from common.errors import PipelineError
from common.grpc.limits import GrpcLimits
from common.grpc.server import GrpcServer
from gateway.auth.asking import public
from gateway.auth.calls import CallGuard
from gateway.auth.lane import LaneGuard
from gateway.core import Core, Doors
from gateway.doors.cross_origin import CrossOrigin
from gateway.doors.rest import body_limit
from gateway.doors.shape import error_body
from gateway.fronts.fronts import Fronts
from gateway.http1 import HttpLimits
from gateway.http1.lane import Lane
from gateway.parts import Gateway
from gateway.tls import TlsListener

OF_GRPC = ("max_connections", "max_connections_per_address", "max_calls")
OF_HTTP = (
    "max_connections", "max_connections_per_address", "max_head", "max_target", "head_time", "body_time",
    "min_body_rate", "write_time",
)  # fmt: skip

Listener = Lane | Fronts | GrpcServer | TlsListener


def make_doors(gateway: Gateway, core: Core) -> Doors:
    """Every protocol's, on one core."""
    return Doors(
        core,
        max_upload=gateway.max_upload,
        max_body=gateway.max_body,
        metrics_triton=gateway.metrics_triton,
        gate=gateway.gate,
        cors_origins=gateway.cors_origins,
        ws_window=gateway.limits.ws_window,
        ws_messages_per_second=gateway.limits.ws_messages_per_second,
        access_log=gateway.access_log,
    )


def make_listeners(gateway: Gateway, core: Core, doors: Doors) -> list[tuple[Listener, list[socket.socket]]]:
    """What clients meet, and where; behind TLS, or processes of their own, nothing listens by itself."""
    listeners: list[tuple[Listener, list[socket.socket]]] = []
    found: list[tuple[Lane | GrpcServer, list[socket.socket], tuple[str, ...]]] = []
    lane = _make_lane(gateway, doors, is_public=bool(gateway.admin))
    if gateway.fronts:
        listeners.append((_make_fronts(gateway, lane), []))
    else:
        found.append((lane, gateway.rest, HTTP))
    if gateway.admin:
        found.append((_make_lane(gateway, doors, is_public=False), gateway.admin, HTTP))
    if gateway.grpc:
        found.append((_make_grpc(gateway, core, doors), gateway.grpc, GRPC))
    for server, sockets, protocols in found:
        if gateway.certificate is None:
            listeners.append((server, sockets))
        else:
            tls = TlsListener(gateway.certificate, protocols, server.adopt)
            listeners += [(server, []), (tls, sockets)]
    return listeners


def _make_lane(gateway: Gateway, doors: Doors, *, is_public: bool) -> Lane:
    """The doors on a lane; all but those for administration where it `is_public`."""

    def max_body_of(method: str, path: str) -> int | None:
        if (method, path) == ("PUT", "/set_weights"):
            return body_limit(gateway.max_upload)
        ours = doors.v2.body_limit(method, path, body_limit(gateway.max_upload))
        return ours or doors.models.body_limit(method, path)

    pages = CrossOrigin(gateway.cors_origins)
    return Lane(
        doors.access.around(pages.app(public(doors.app) if is_public else doors.app)),
        find_direct=doors.find_direct,
        limited=doors.limited.http,
        guard=None if doors.gate is None else LaneGuard(doors.gate, pages.lines),
        limits=HttpLimits(
            max_body=gateway.max_body,
            max_body_of=max_body_of,
            **{name: getattr(gateway.limits, name) for name in OF_HTTP},
        ),
        error_body=error_body,
        observer=pages.around(doors.access),
    )


def _make_fronts(gateway: Gateway, lane: Lane) -> Fronts:
    """The processes before a lane. Only what the gateway puts into words itself has a length to be logged."""
    return Fronts(lane, gateway.fronts, gateway.certificate, with_rows=not gateway.access_log)


def _make_grpc(gateway: Gateway, core: Core, doors: Doors) -> GrpcServer:
    """The services, which need a library that not every gateway has."""
    try:
        from gateway.doors.grpc.services import make_methods
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"--addr_grpc needs {error.name}: pip install 'pipeline-inference[grpc]'"
        ) from None
    return GrpcServer(
        make_methods(core, doors),
        GrpcLimits(
            max_message=gateway.max_upload,
            max_held=gateway.max_upload,
            handshake_time=gateway.limits.head_time,
            send_time=gateway.limits.write_time,
            receive_time=gateway.limits.call_time,
            stall_time=gateway.limits.call_time,
            **{name: getattr(gateway.limits, name) for name in OF_GRPC},
        ),
        limited=doors.limited.grpc,
        guard=CallGuard(doors.gate, is_public=bool(gateway.admin)),
        observer=doors.access,
    )
