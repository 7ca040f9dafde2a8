"""Collaboration: the servers that clients meet go by the limits that the settings say."""

from __future__ import annotations

import socket
from dataclasses import fields
from typing import Any

import pytest

from common.grpc.server import GrpcServer
from common.limit_settings import LimitSettings
from common.settings import GatewaySettings
from gateway.http1.lane import Lane
from gateway.listening import make_doors, make_listeners
from gateway.opening import Sockets, Trust, make_gateway
from gateway.reloading import LIVE
from tests.gateway.site import open_site

OF_CORE = {"max_rows", "max_json_depth"}


@pytest.mark.usefixtures("virtual_time")
async def test_every_limit_that_is_told_is_one_that_a_server_goes_by() -> None:
    defaults, names = LimitSettings(), [each.name for each in fields(LimitSettings)]
    told = {name: getattr(defaults, name) + n for n, name in enumerate(names, 1)}
    with socket.socket() as rest, socket.socket() as grpc:
        sockets = Sockets(rest=[rest], admin=[], grpc=[grpc], fronts=[])
        gateway = make_gateway(GatewaySettings(**told), sockets, Trust(None, None, None, None))
        async with open_site() as core:
            doors = make_doors(gateway, core)
            (lane, _), (server, _) = make_listeners(gateway, core, doors)
            assert isinstance(lane, Lane)
            assert isinstance(server, GrpcServer)
            http, calls, sessions = lane.limits, server._limits, doors.socket._limits
            lane._epoll.close()
    found: dict[str, list[Any]] = {
        "max_body": [http.max_body, sessions.max_bytes],
        "max_upload": [calls.max_message, http.body_limit("PUT", "/models/m/versions/1")],
        "max_head": [http.max_head],
        "max_target": [http.max_target],
        "max_connections": [http.max_connections, calls.max_connections],
        "max_connections_per_address": [http.max_connections_per_address, calls.max_connections_per_address],
        "head_time": [http.head_time, calls.handshake_time],
        "body_time": [http.body_time],
        "min_body_rate": [http.min_body_rate],
        "write_time": [http.write_time, calls.send_time],
        "call_time": [calls.receive_time, calls.stall_time],
        "max_calls": [calls.max_calls],
        "ws_window": [sessions.window],
        "ws_messages_per_second": [sessions.messages_per_second],
    }
    assert found == {name: [told[name]] * len(values) for name, values in found.items()}
    assert set(found) | OF_CORE == set(told)


def test_what_a_server_was_made_with_does_not_change_while_it_serves() -> None:
    """So what is remembered of a head, its largest body among it, stays true."""
    assert {each.name for each in fields(LimitSettings)} & set(LIVE) == OF_CORE
