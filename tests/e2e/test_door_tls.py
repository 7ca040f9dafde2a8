"""end to end: doors that speak TLS, and a certificate that changes while they do."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import ssl
from ipaddress import ip_address
from pathlib import Path

import grpc
import h2.connection
import h2.events
import pytest
from cryptography.x509 import DNSName, IPAddress
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.certificates import init, renew
from tests.e2e.processes import Site, wait_for
from tests.e2e.test_deploy import deployed, spawn_deploy
from tests.e2e.weights import ONE, stored, upload

Certs = tuple[str, str, str, str]


@pytest.fixture
def certs(site: Site) -> Path:
    folder = site.folder / "certs"
    init(folder, [IPAddress(ip_address("127.0.0.1")), DNSName("localhost")])
    return folder


@pytest.fixture(params=["1", "2"])
def processes(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The gateway alone, and with two fronts, which decrypt then."""
    return "--processes", request.param


def flags(certs: Path) -> Certs:
    return "--certfile", str(certs / "gateway.pem"), "--keyfile", str(certs / "gateway.key")


def client_context(certs: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certs / "ca.pem"))


def connect(site: Site, certs: Path, *protocols: str) -> ssl.SSLSocket:
    context = client_context(certs)
    context.set_alpn_protocols(list(protocols))
    return context.wrap_socket(
        socket.create_connection(("127.0.0.1", site.rest_port), 30), server_hostname="127.0.0.1"
    )


def keeping(site: Site, certs: Path) -> http.client.HTTPSConnection:
    """A connection that stays; the caller closes it."""
    return http.client.HTTPSConnection("127.0.0.1", site.rest_port, timeout=30, context=client_context(certs))


def over_http1(connection: http.client.HTTPSConnection) -> int:
    connection.request("GET", "/status")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def over_http2(sock: ssl.SSLSocket) -> tuple[str, bytes]:
    """The status and body of /status."""
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    connection.send_headers(
        1, [(":method", "GET"), (":path", "/status"), (":scheme", "https"), (":authority", "x")], True
    )
    sock.sendall(connection.data_to_send())
    status, body = "", b""
    while True:
        for event in connection.receive_data(sock.recv(65536)):
            if isinstance(event, h2.events.ResponseReceived):
                status = dict(event.headers)[b":status"].decode()
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
            elif isinstance(event, h2.events.StreamEnded):
                return status, body


def test_rest_grpc_and_http2_over_tls_and_none_without(
    site: Site, certs: Path, processes: tuple[str, str]
) -> None:
    port = site.ports.take()
    gateway = site.start_gateway("--addr_grpc", f"127.0.0.1:{port}", *flags(certs), *processes)
    assert gateway.lines("Pipeline serves on https://127.0.0.1:")
    connection = keeping(site, certs)
    body, content_type = upload(ONE, stored(ONE))
    connection.request("PUT", "/set_weights", body, {"content-type": content_type})
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["message"]) == (200, "OK")
    for _ in range(3):
        assert over_http1(connection) == 200
    with connect(site, certs, "http/1.1") as sock:
        assert (sock.selected_alpn_protocol(), sock.version()) == ("http/1.1", "TLSv1.3")
    with connect(site, certs, "h2", "http/1.1") as sock:
        assert sock.selected_alpn_protocol() == "h2"
        status, said = over_http2(sock)
        assert (status, json.loads(said)["workers"]) == ("200", [])
    credentials = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes())
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=30).live
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        gateway.ask("GET", "/status")
    old = client_context(certs)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", site.rest_port), 30) as plain,
        old.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        assert sock.version() == "TLSv1.2"
    connection.close()
    gateway.send(signal.SIGTERM)
    assert gateway.wait() == 0


def test_a_model_is_deployed_by_a_gateway_that_speaks_tls(site: Site) -> None:
    certs = site.folder / "certs"
    init(certs, [DNSName("gateway.example.com")])  # which is not how it dials itself
    model = site.folder / "mine.pt"
    model.write_bytes(stored(ONE))
    gateway = spawn_deploy(site, model, *flags(certs), "--processes", "2")
    name, version, url, workers, _ = deployed(gateway)
    assert (name, version, workers) == ("mine", "1", "1 worker")
    assert url == f"https://127.0.0.1:{site.rest_port}"


def test_a_certificate_that_changes_is_shown_to_who_comes_next(
    site: Site, certs: Path, processes: tuple[str, str]
) -> None:
    gateway = site.start_gateway(*flags(certs), *processes)
    staying = keeping(site, certs)
    assert over_http1(staying) == 200

    def shown() -> set[bytes | None]:
        """What whoever comes to any of the processes sees."""
        found = set()
        for _ in range(16):
            with connect(site, certs) as sock:
                found.add(sock.getpeercert(True))
        return found

    before = shown()
    assert len(before) == 1
    renew(certs, None)
    gateway.send(signal.SIGHUP)
    gateway.wait_for_line("certificate read again")
    after = wait_for(lambda: before.isdisjoint(found := shown()) and found, "the new one, from each of them")
    assert over_http1(staying) == 200

    shutil.copy(certs / "worker.key", certs / "gateway.key")
    gateway.send(signal.SIGHUP)
    gateway.wait_for_line("the certificate stays as it is", "gateway.key is not the key of --certfile")
    assert shown() == after
    assert over_http1(staying) == 200
    staying.close()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda certs: (certs / "gateway.key").unlink(), "--keyfile {}/gateway.key cannot be read: No such"),
        (
            lambda certs: (certs / "gateway.pem").write_text("nothing"),
            "--certfile {}/gateway.pem is no PEM file with a certificate in it",
        ),
        (
            lambda certs: shutil.copy(certs / "worker.key", certs / "gateway.key"),
            "--keyfile {0}/gateway.key is not the key of --certfile {0}/gateway.pem",
        ),
    ],
)
def test_files_that_cannot_be_used_are_said_at_once(site: Site, certs: Path, spoil, sentence) -> None:
    spoil(certs)
    gateway = site.spawn_gateway(*flags(certs))
    assert gateway.wait() == 1
    assert gateway.output.startswith(f"gw.py: {sentence.format(certs)}")
