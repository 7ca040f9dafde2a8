"""Collaboration: a front whose clients speak TLS: those of the lane's own tests that TLS could spoil, and
what is of TLS alone. Clients take it for a fault where a connection ends without TLS saying so."""

from __future__ import annotations

import socket
import ssl
import struct
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from common.credentials import read_identity
from gateway.certificates import renew
from tests.gateway.fronts.conftest import until
from tests.gateway.http1.conftest import ServeLane
from tests.gateway.http1.test_asgi import (  # noqa: F401
    test_a_body_that_no_one_read_is_dropped_or_ends_the_connection,
    test_a_client_that_leaves_in_mid_upload_is_a_disconnect,
    test_a_disconnect_is_told_to_the_app_and_ends_its_writes,
    test_a_starlette_app_streams_both_ways,
    test_an_app_that_fails_in_mid_answer_loses_the_connection,
)
from tests.gateway.http1.test_handover import (  # noqa: F401
    test_a_body_that_goes_on_after_its_answer_costs_no_other_stream,
    test_the_drain_closes_an_idle_websocket,
)
from tests.gateway.http1.test_lane import (  # noqa: F401
    test_a_body_of_several_buffers_arrives_as_one,
    test_a_client_that_pipelines_endlessly_lets_others_in,
    test_a_disconnect_calls_on_gone_once_and_the_answer_goes_nowhere,
    test_bytes_read_ahead_are_bounded_while_an_answer_is_awaited,
    test_pipelined_requests_are_answered_in_order_though_the_first_is_answered_late,
    test_three_hundred_disconnects_at_once_leave_nothing_behind,
    test_twenty_megabytes_reach_a_slow_reader,
)
from tests.gateway.http1.test_lane_refusals import (  # noqa: F401
    test_a_connection_too_many_is_told_so,
    test_a_refusal_is_exactly_these_bytes_after_the_answers_before_it,
    test_an_answer_to_a_refused_upload_can_be_read_by_a_client_that_goes_on_sending,
)
from tests.gateway.http1.test_websocket import (  # noqa: F401
    test_an_app_is_told_of_a_client_that_left_without_a_word,
    test_both_sides_close_politely,
    test_who_goes_on_after_that_is_cut,
)

POST = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"


@pytest.fixture
def serve_lane(serve_securely: ServeLane) -> ServeLane:
    return serve_securely


async def answered(served: Any) -> bool:
    client = await served.connect()
    await client.send(POST)
    return (await client.answer())[0] == 200


async def test_who_does_not_speak_tls_or_leaves_before_it_begins_costs_nobody_anything(serve_lane, caplog):
    async with serve_lane() as served:
        for said in (POST, b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 1000):
            async with await trio.open_tcp_stream("127.0.0.1", served.port) as plain:
                await plain.send_all(said)
                with suppress(trio.BrokenResourceError):
                    await plain.send_eof()
                    assert b"HTTP" not in b"".join([piece async for piece in plain])
        for _ in range(50):
            reset = socket.create_connection(("127.0.0.1", served.port))
            reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            reset.close()
        assert await answered(served)
        served.clients[-1].stream.socket.close()
        await served.emptied()
    assert caplog.records == []


async def test_who_does_not_shake_hands_in_time_is_cut(serve_lane):
    connect = partial(trio.open_tcp_stream, "127.0.0.1")
    async with serve_lane(head_time=0.2) as served, await connect(served.port) as silent:
        with trio.fail_after(20):
            assert await silent.receive_some() == b""


async def test_an_answer_of_the_app_that_its_client_does_not_take_is_cut_and_counted(serve_lane):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(20 << 20)})

    async with serve_lane({}, app=app, write_time=0.2) as served:
        client = await served.connect()
        await client.send(POST)
        await until(lambda: served.lane.lane.limited == Counter({"write_time": 1}))
        await served.emptied()
        await client.aclose()


async def test_a_large_answer_of_the_app_is_whole_though_the_gateway_has_closed_long_ago(serve_lane):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": bytes(300_000)})

    async with serve_lane({}, app=app) as served:
        client = await served.connect()
        await client.send(POST)
        await until(lambda: not served.lane.lane.connections)
        assert len(await client.rest()) > 300_000


async def test_whoever_comes_next_is_shown_the_new_certificate_and_who_is_there_stays(
    serve_lane, tmp_path: Path
):
    async with serve_lane() as served:
        staying = await served.connect()
        for _ in range(2):
            await staying.send(POST)
            assert (await staying.answer())[0] == 200
            before = staying.stream.tls.getpeercert(True)
            renew(tmp_path, None)
            served.lane.desk.show(read_identity(tmp_path / "gateway.pem", tmp_path / "gateway.key"))
            new = ssl.PEM_cert_to_DER_cert((tmp_path / "gateway.pem").read_text())
            await until(partial(shows, served.port, new))
            assert staying.stream.tls.getpeercert(True) == before


def shows(port: int, certificate: bytes) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as sock:
        return sock.getpeercert(True) == certificate
