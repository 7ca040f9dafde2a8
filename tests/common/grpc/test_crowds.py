"""Collaboration: a gRPC server on a real port, and more clients than it takes."""

from __future__ import annotations

import trio

from common.grpc.limits import GrpcLimits
from common.grpc.server import GrpcServer
from common.sockets import bind
from tests.common.grpc.wires import HELLO


async def test_an_address_with_a_connection_too_many_is_cut_and_counted_until_one_goes():
    server = GrpcServer({}, GrpcLimits(max_connections_per_address=1))
    sockets = bind("127.0.0.1", 0)
    port = sockets[0].getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run, sockets)
        with trio.fail_after(20):
            first = await trio.open_tcp_stream("127.0.0.1", port)
            await first.send_all(HELLO)
            assert await first.receive_some()
            async with await trio.open_tcp_stream("127.0.0.1", port) as second:
                assert await second.receive_some() == b""
            assert server.limited == {"connections_per_address": 1}
            await first.aclose()
            said = b""
            while not said:  # the server hears of the end in its own time
                async with await trio.open_tcp_stream("127.0.0.1", port) as third:
                    await third.send_all(HELLO)
                    said = await third.receive_some()
        nursery.cancel_scope.cancel()
