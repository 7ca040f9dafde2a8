"""end to end: who may do what, at every door of a real gateway with a real worker; what the public
address lacks, and which pages may ask."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

import modelserver_pb2
import modelserver_pb2_grpc
from cli.main import main
from tests.e2e.processes import ROOT, Gateway, Site, wait_for
from tests.e2e.rest import Answer, Client, ask_raw
from tests.e2e.weights import ONE, TWO, stored, upload

connect = pytest.importorskip("websockets.asyncio.client").connect
exceptions = pytest.importorskip("websockets.exceptions")

PAGE = "https://app.example.com"
ROW = json.dumps({"vector": [0.3, 0.7]}).encode()
V2 = json.dumps(
    {"inputs": [{"name": "vector", "datatype": "FP32", "shape": [1, 2], "data": [0.3, 0.7]}]}
).encode()


class Guarded(NamedTuple):
    """A gateway with tokens, and one of each role."""

    gateway: Gateway
    grpc: str
    admin_port: int
    file: str
    tokens: dict[str, str]

    def ask(self, method: str, path: str, body: bytes = b"", *, token: str = "", **headers: str) -> Answer:
        """A request at the public address."""
        named = {"authorization": f"Bearer {self.tokens.get(token, token)}"} if token else {}
        return self.gateway.ask(method, path, body, **named, **headers)

    def administer(self, method: str, path: str, body: bytes = b"", *, token: str, **headers: str) -> Answer:
        """A request at the other address."""
        with Client(self.admin_port, timeout=60.0) as client:
            return client.ask(
                method, path, body, authorization=f"Bearer {self.tokens.get(token, token)}", **headers
            )


def make_token(file: str, role: str, *flags: str) -> str:
    command = [sys.executable, "-m", "cli", "token", "create", "--role", role, "--tokens", file, *flags]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()


@pytest.fixture(scope="module")
def guarded(shared_site: Site) -> Iterator[Guarded]:
    file = str(shared_site.folder / "tokens.json")
    tokens = {role: make_token(file, role) for role in ("predict", "read", "admin")}
    tokens["slow"] = make_token(file, "predict", "--requests_per_second", "0.001")
    grpc_port, admin_port = shared_site.ports.take(), shared_site.ports.take()
    gateway = shared_site.start_gateway(
        "--tokens", file, "--addr_grpc", f"127.0.0.1:{grpc_port}",
        "--addr_admin", f"127.0.0.1:{admin_port}", "--cors_origins", PAGE,
    )  # fmt: skip
    shared_site.spawn_worker()
    found = Guarded(gateway, f"127.0.0.1:{grpc_port}", admin_port, file, tokens)
    wait_for(
        lambda: found.ask("GET", "/status", token="read").json["workers_count"] == 1, "the worker is there"
    )
    body, content_type = upload(ONE, stored(ONE))
    answer = found.administer("PUT", "/set_weights", body, token="admin", content_type=content_type)
    assert answer.json["message"] == "OK"
    return found


@pytest.mark.parametrize(
    ("method", "path", "body", "role"),
    [
        ("POST", "/predict", ROW, "predict"),
        ("POST", "/models/default/predict", ROW, "predict"),
        ("POST", "/v2/models/default/infer", V2, "predict"),
        ("GET", "/v2/models/default", b"", "predict"),
        ("GET", "/v2/models/default", b"", "read"),
        ("GET", "/status", b"", "read"),
        ("GET", "/metrics", b"", "read"),
        ("GET", "/models", b"", "read"),
        ("GET", "/recent", b"", "read"),
        ("POST", "/v2/repository/index", b"{}", "read"),
    ],
)
def test_a_route_is_open_to_its_role_and_to_admin_and_shut_to_strangers(guarded, method, path, body, role):
    assert guarded.ask(method, path, body, token=role).status == 200
    assert guarded.ask(method, path, body, token="admin").status == 200
    for stranger in ("", "pl_000000000000_" + "0" * 48, "nonsense"):
        refused = guarded.ask(method, path, body, token=stranger)
        assert refused.status == 401
        assert refused.headers["www-authenticate"] == 'Bearer realm="pipeline"'
        shape = {"error"} if path.startswith("/v2") else {"status", "message"}
        assert set(refused.json) == shape


@pytest.mark.parametrize(
    ("method", "path", "body", "role", "needed"),
    [
        ("POST", "/predict", ROW, "read", "predict"),
        ("POST", "/v2/models/default/infer", V2, "read", "predict"),
        ("GET", "/status", b"", "predict", "read"),
        ("GET", "/metrics", b"", "predict", "read"),
        ("GET", "/v2/models/stats", b"", "predict", "read"),
    ],
)
def test_another_role_is_403_in_the_doors_own_shape(guarded, method, path, body, role, needed):
    refused = guarded.ask(method, path, body, token=role)
    message = f"a token of role {role} may not do that: it takes {needed}"
    said = {"error": message} if path.startswith("/v2") else {"status": False, "message": message}
    assert (refused.status, refused.json) == (403, said)


@pytest.mark.parametrize(
    "path",
    ["/health/live", "/health/ready", "/v2/health/ready", "/v2/models/default/ready", "/docs", "/dashboard"],
)
def test_probes_and_pages_without_anything_on_them_stay_open(guarded, path):
    assert guarded.ask("GET", path).status == 200


def test_a_token_over_its_rate_is_429_and_told_when_to_come_again(guarded):
    with guarded.gateway.client() as client:
        bearer = f"Bearer {guarded.tokens['slow']}"
        assert client.ask("POST", "/predict", ROW, authorization=bearer).status == 200
        refused = client.ask("POST", "/predict", ROW, authorization=bearer)
        assert refused.status == 429
        assert 900 < int(refused.headers["retry-after"]) <= 1000
        assert refused.json == {
            "status": False, "message": "this token may send 0.001 requests a second, and sent more",
        }  # fmt: skip
        again = client.ask("POST", "/v2/models/default/infer", V2, authorization=bearer)
        assert (again.status, list(again.json)) == (429, ["error"])


def test_a_stranger_is_refused_before_the_body_is_read(guarded):
    head = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 8000000\r\n\r\n"
    assert ask_raw(guarded.gateway.port, head).startswith(b"HTTP/1.1 401 Unauthorized\r\n")


def test_nothing_is_administered_at_the_public_address(guarded):
    body, content_type = upload(ONE, stored(ONE))
    for token in ("admin", ""):
        refused = guarded.ask("PUT", "/set_weights", body, token=token, content_type=content_type)
        assert refused.status == 404
        assert "administered at another address" in refused.json["message"]
    assert (
        guarded.administer("PUT", "/set_weights", body, token="read", content_type=content_type).status == 403
    )
    said = guarded.gateway.wait_for_line("administration", "method=PUT", "path=/set_weights")
    assert f"client={guarded.tokens['admin'].split('_')[1]}" in said
    assert guarded.administer("POST", "/predict", ROW, token="predict").status == 200


# --- gRPC


def grpc_of(guarded: Guarded, token: str) -> tuple[Any, dict[str, str]]:
    return triton.InferenceServerClient(guarded.grpc), {
        "authorization": f"Bearer {guarded.tokens.get(token, token)}"
    }


def infer(guarded: Guarded, token: str) -> Any:
    client, headers = grpc_of(guarded, token)
    tensor = triton.InferInput("vector", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[0.3, 0.7]], np.float32))
    with client:
        return client.infer("default", [tensor], headers=headers)


def test_grpc_asks_for_the_same_tokens_as_metadata(guarded):
    assert infer(guarded, "predict").as_numpy("result").shape == (1, 1)
    for token, status in (("read", "PERMISSION_DENIED"), ("nonsense", "UNAUTHENTICATED")):
        with pytest.raises(InferenceServerException, match=status) as refused:
            infer(guarded, token)
        assert refused.value.status() == f"StatusCode.{status}"
    slow = make_token(guarded.file, "predict", "--requests_per_second", "0.001")
    wait_for(lambda: _known(guarded, slow), "the file is read again")
    with pytest.raises(InferenceServerException) as refused:
        infer(guarded, slow)
    assert refused.value.status() == "StatusCode.RESOURCE_EXHAUSTED"


def _known(guarded: Guarded, token: str) -> bool:
    """Whether a token is known by now; it asks for one that takes no more than knowing."""
    return guarded.ask("GET", "/v2", token=token).status == 200


def test_grpc_has_probes_without_a_token_and_no_administration(guarded):
    client, headers = grpc_of(guarded, "admin")
    with client:
        assert client.is_server_ready()
        assert client.get_model_metadata("default", headers=headers).name == "default"
        with pytest.raises(InferenceServerException, match="administered at another address"):
            client.unload_model("default", headers=headers)
    with grpc.insecure_channel(guarded.grpc) as channel:
        stub = modelserver_pb2_grpc.ModelServerStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.SetCoefs(modelserver_pb2.SetCoefsRequest(coefs=[1.0]))
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


# --- WebSocket


async def say(guarded: Guarded, **how: Any) -> tuple[dict[str, Any], str | None]:
    async with connect(f"ws://127.0.0.1:{guarded.gateway.port}/ws", **how) as ws:
        await ws.recv()
        await ws.send(json.dumps({"id": 1, "vector": [0.3, 0.7]}))
        return json.loads(await ws.recv()), ws.subprotocol


def test_a_program_and_a_page_show_their_token_to_a_websocket_in_their_own_ways(guarded):
    token = guarded.tokens["predict"]
    answer, agreed = asyncio.run(say(guarded, additional_headers={"authorization": f"Bearer {token}"}))
    assert "result" in answer
    assert agreed is None
    answer, agreed = asyncio.run(say(guarded, subprotocols=["pipeline", f"bearer.{token}"]))
    assert "result" in answer
    assert agreed == "pipeline"


@pytest.mark.parametrize(
    ("token", "status"), [("read", 403), ("pl_000000000000_" + "0" * 48, 401), (None, 401), ("slow", 429)]
)
def test_a_websocket_is_refused_at_its_handshake(guarded, token, status):
    if token == "slow":
        guarded.ask("GET", "/v2", token="slow")
    shown = None if token is None else guarded.tokens.get(token, token)
    how = {} if shown is None else {"subprotocols": ["pipeline", f"bearer.{shown}"]}
    with pytest.raises(exceptions.InvalidStatus) as refused:
        asyncio.run(say(guarded, **how))
    response = refused.value.response
    assert response.status_code == status
    assert json.loads(response.body)["status"] is False
    assert ("www-authenticate" in response.headers) == (status == 401)
    assert ("retry-after" in response.headers) == (status == 429)


def test_a_rate_counts_the_messages_of_a_websocket_one_by_one(guarded):
    token = make_token(guarded.file, "predict", "--requests_per_second", "2")
    wait_for(lambda: _known(guarded, token), "the file is read again")

    async def ask() -> list[dict[str, Any]]:
        how = {"additional_headers": {"authorization": f"Bearer {token}"}}
        async with connect(f"ws://127.0.0.1:{guarded.gateway.port}/ws", **how) as ws:
            await ws.recv()
            for number in range(20):
                await ws.send(json.dumps({"id": number, "vector": [0.3, 0.7]}))
            return [json.loads(await ws.recv()) for _ in range(20)]

    refused = [each for each in asyncio.run(ask()) if "result" not in each]
    assert refused
    assert all("2 requests a second" in json.dumps(each) for each in refused)


# --- pages of other origins


@pytest.mark.parametrize("path", ["/predict", "/v2/models/default/infer", "/status"])
def test_a_page_that_was_named_may_ask_and_read_and_no_other(guarded, path):
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    mine = guarded.ask("OPTIONS", path, origin=PAGE, **asked)
    assert mine.status == 200
    assert mine.headers["access-control-allow-origin"] == PAGE
    assert "Authorization" in mine.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in mine.headers
    other = guarded.ask("OPTIONS", path, origin="https://evil.example.com", **asked)
    assert other.status == 400
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(("token", "status"), [("predict", 200), ("read", 403), ("", 401)])
def test_answers_of_the_hot_lane_are_readable_by_that_page_alone(guarded, token, status):
    mine = guarded.ask("POST", "/predict", ROW, token=token, origin=PAGE)
    assert mine.status == status
    assert mine.headers["access-control-allow-origin"] == PAGE
    assert mine.headers["vary"] == "Origin"
    other = guarded.ask("POST", "/predict", ROW, token=token, origin="https://evil.example.com")
    assert "access-control-allow-origin" not in other.headers


def test_a_websocket_opens_to_that_page_alone(guarded):
    protocols = ["pipeline", f"bearer.{guarded.tokens['predict']}"]
    answer, _ = asyncio.run(say(guarded, origin=PAGE, subprotocols=protocols))
    assert "result" in answer
    with pytest.raises(exceptions.InvalidStatus):
        asyncio.run(say(guarded, origin="https://evil.example.com", subprotocols=protocols))


# --- the file, and those who bring a token along


def test_a_token_is_known_as_soon_as_it_is_made_and_not_once_it_is_revoked(guarded, capsys):
    token = make_token(guarded.file, "read")
    wait_for(lambda: guarded.ask("GET", "/status", token=token).status == 200, "it is known")
    assert main(["token", "revoke", token.split("_")[1], "--tokens", guarded.file]) == 0
    wait_for(lambda: guarded.ask("GET", "/status", token=token).status == 401, "it is not known any more")


def test_an_upload_ends_with_its_token(guarded):
    token = make_token(guarded.file, "admin")
    wait_for(lambda: guarded.ask("GET", "/status", token=token).status == 200, "it is known")
    before = guarded.ask("GET", "/models", token="read").json
    body, content_type = upload(TWO, stored(TWO))
    begun, rest = body[: len(body) // 2], body[len(body) // 2 :]
    head = (
        f"PUT /set_weights HTTP/1.1\r\nhost: gw\r\nauthorization: Bearer {token}\r\n"
        f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", guarded.admin_port), timeout=60) as connection:
        connection.sendall(head.encode() + begun)
        assert main(["token", "revoke", token.split("_")[1], "--tokens", guarded.file]) == 0
        wait_for(lambda: guarded.ask("GET", "/status", token=token).status == 401, "it is not known any more")
        connection.sendall(rest)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"the token was revoked" in answer
    assert guarded.ask("GET", "/models", token="read").json == before


def test_the_command_line_and_the_curl_scripts_bring_a_token_along(guarded, capsys):
    url = guarded.gateway.url
    assert main(["status", "--json", "--url", url, "--token", guarded.tokens["read"]]) == 0
    assert main(["status", "--json", "--url", url]) == 1
    assert "give the gateway's token by --token or PIPELINE_TOKEN" in capsys.readouterr().err
    told = {**os.environ, "PIPELINE_URL": url, "PIPELINE_TOKEN": guarded.tokens["read"]}
    script = ["bash", "-c", ". scripts/lib.sh; request /status"]
    done = subprocess.run(script, env=told, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["status"] is True


def test_a_model_is_deployed_though_nobody_has_a_token_yet(site):
    file = str(site.folder / "tokens.json")
    make_token(file, "predict")
    model = ROOT / "data" / "shapes.pt2"
    gateway = site.spawn(
        Gateway, ROOT / "gw.py", "deploy", str(model), "--addr_rest", f"127.0.0.1:{site.rest_port}",
        *site.fleet, "--ephemeral", "--tokens", file,
    )  # fmt: skip
    gateway.wait_for_line("serves on")
