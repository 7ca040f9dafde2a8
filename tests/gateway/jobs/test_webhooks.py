"""Collaboration: gateway/jobs/webhooks.py: who may be called, with a real server where one is."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from common.errors import InvalidRequest
from gateway.jobs import webhooks
from gateway.jobs.job import Job
from gateway.jobs.webhooks import Refused, Webhooks, _address

pytest.importorskip("httpx")


def hooks(*hosts: str) -> Webhooks:
    return Webhooks(hosts, lambda job: b'{"id":"%b"}' % job.id.encode())


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://hooks.example.com/x", True),
        ("http://HOOKS.example.com.:8080/x", True),
        ("https://a.example.org/x", True),
        ("https://example.org/x", False),
        ("https://a.example.org.evil/x", False),
        ("https://hooks.example.com@evil/x", False),
        ("https://evil#hooks.example.com", False),
        ("ftp://hooks.example.com/x", False),
        ("//hooks.example.com/x", False),
        ("http://[::1/x", False),
        ("http://hooks.example.com:99999/", False),
    ],
)
def test_only_hosts_on_the_list_are_called(url, allowed):
    webhook = hooks("hooks.example.com", "*.example.org")
    if allowed:
        webhook.check(url)
    else:
        with pytest.raises(InvalidRequest, match="callback_url"):
            webhook.check(url)


def test_without_a_list_nobody_is_called():
    with pytest.raises(InvalidRequest, match="allowed are none: see --webhook_hosts"):
        hooks().check("http://127.0.0.1/")


async def test_a_host_that_only_a_pattern_fits_may_not_be_at_a_private_address():
    with pytest.raises(Refused, match=r"127\.0\.0\.1 is at 127\.0\.0\.1, a private address"):
        await _address(hooks("127.*").check("http://127.0.0.1:1/"))
    assert await _address(hooks("127.0.0.1").check("http://127.0.0.1:1/")) == "127.0.0.1"


class Hook:
    """A server that keeps what it is sent and answers as it is told."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heard: list[bytes] = []

    async def __call__(self, stream: trio.SocketStream) -> None:
        said = b""
        while b'"}' not in said:
            said += await stream.receive_some(65536)
        self.heard.append(said)
        await stream.send_all(self.answers.pop(0))
        await stream.aclose()


async def test_a_callback_is_tried_until_it_is_taken_and_follows_no_redirect(monkeypatch):
    monkeypatch.setattr(webhooks, "PAUSES", (0.0, 0.0, 0.0))
    end = b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    hook = Hook(
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/secret\r\n" + end,
        b"HTTP/1.1 500 No\r\n" + end,
        b"HTTP/1.1 204 Yes\r\n" + end,
    )
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, hook, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        url = f"http://localhost:{port}/done?x=1#frag"
        job = Job(id="j1", model="m", version="1", nn_id="1", shape="vector", ttl=1.0, callback_url=url)
        with trio.fail_after(20):
            await hooks("localhost").call(job)
        nursery.cancel_scope.cancel()
    assert len(hook.heard) == 3
    head, _, body = hook.heard[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /done?x=1 HTTP/1.1\r\n")
    assert f"Host: localhost:{port}".encode() in head
    assert body == b'{"id":"j1"}'
