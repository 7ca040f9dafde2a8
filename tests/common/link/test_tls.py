"""Contract: on TLS, whoever cannot prove to be of the fleet gets nothing, at either end."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.x509 import DNSName, IPAddress

from common.credentials import Credentials
from common.link.worker import answer_requests
from gateway.certificates import init, renew
from tests.certificates import issued_days_ago
from tests.common.link.conftest import NngTransport

HERE = IPAddress(ip_address("127.0.0.1"))
LONG_ENOUGH = 0.5  # somebody refused has tried again a few times by then


def nobody() -> None:
    """For whoever wants no notice."""


@pytest.fixture
def transport(nursery: trio.Nursery, folder: str) -> NngTransport:
    # wss is the same TLS beneath ws. NNG 1.11 panics now and then when both ends of it are in one process and
    # one is closed as it gets through; tests/e2e and tests/hosts have it with an end in each process.
    return NngTransport(nursery, "tls+tcp", folder)


@pytest.fixture
def dial(folder: str) -> Iterator[Any]:
    """`dial(url, credentials)`: a worker that echoes, closed at the end."""
    started = []

    def start(url: str, own: Credentials | None) -> Any:
        started.append(answer_requests(url, lambda frame: b"re: " + frame, threads=1, credentials=own))
        return started[-1]

    yield start
    for each in started:
        each.close()


def renewed(folder: str, *hosts: Any, days_ago: int = 0) -> None:
    """Both ends' certificates anew: for these hosts, and of some days ago, when they lasted for one."""
    with issued_days_ago(days_ago):
        renew(Path(folder), hosts or None, days=1)


def end_of(folder: str, end: str) -> Credentials:
    """As they are, whatever is wrong with them."""
    return Credentials(
        *((Path(folder) / name).read_text() for name in ("ca.pem", f"{end}.pem", f"{end}.key"))
    )


async def check_refused(transport: NngTransport, url: str, worker: Any, good: Any) -> None:
    """The one worker gets nothing, and another one everything."""
    link = transport.listen_link(url, nobody, nobody)
    with trio.move_on_after(LONG_ENOUGH) as scope:
        await link.exchange(b"secret")
    assert scope.cancelled_caught
    assert not worker.is_connected
    good()
    with trio.fail_after(10):
        assert bytes((await link.exchange(b"there?")).view) == b"re: there?"
    await link.aclose()


async def test_a_worker_without_a_certificate_of_the_fleet_is_refused(transport, folder, dial, tmp_path):
    init(tmp_path, [HERE])
    url, worker = transport.url(), end_of(folder, "worker")
    foreign = end_of(str(tmp_path), "worker")._replace(ca=worker.ca)  # it trusts us, not we it
    stranger = dial(url, foreign)
    await check_refused(transport, url, stranger, lambda: dial(url, worker))


async def test_one_that_speaks_no_tls_gets_nothing(transport, folder, dial):
    url = transport.url()
    plain = dial(url.replace("tls+tcp", "tcp"), None)
    await check_refused(transport, url, plain, lambda: dial(url, end_of(folder, "worker")))


async def test_an_expired_worker_is_refused(transport, folder, dial):
    good = end_of(folder, "worker")
    url = transport.url()
    renewed(folder, days_ago=3)
    await check_refused(transport, url, dial(url, end_of(folder, "worker")), lambda: dial(url, good))


async def test_a_gateway_s_certificate_is_none_to_dial_with(transport, folder, dial):
    url, gateway = transport.url(), end_of(folder, "gateway")
    await check_refused(transport, url, dial(url, gateway), lambda: dial(url, end_of(folder, "worker")))


@pytest.mark.parametrize("what", ["another host's", "expired", "a worker's", "of another authority"])
async def test_a_worker_refuses_a_gateway_that_is_not_its_own(what, transport, folder, dial, tmp_path):
    url, good, worker = transport.url(), end_of(folder, "gateway"), end_of(folder, "worker")
    if what == "another host's":
        renewed(folder, DNSName("elsewhere.example.com"), IPAddress(ip_address("127.0.0.2")))
    elif what == "expired":
        renewed(folder, days_ago=3)
    elif what == "of another authority":
        init(tmp_path, [HERE])
    false = end_of(str(tmp_path) if what == "of another authority" else folder, "gateway")
    false = end_of(folder, "worker") if what == "a worker's" else false._replace(ca=worker.ca)
    link = transport.listen_link(url, nobody, nobody, false)
    there = dial(url, worker)
    with trio.move_on_after(LONG_ENOUGH) as scope:
        await link.exchange(b"work for me")
    assert scope.cancelled_caught
    assert not there.is_connected
    await link.aclose()
    link = transport.listen_link(url, nobody, nobody, good)
    with trio.fail_after(10):
        assert bytes((await link.exchange(b"there?")).view) == b"re: there?"
    await link.aclose()
