"""end to end: a fleet that has a token, and those at its sockets who do not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.processes import SERVICES, Gateway, Process, Site, wait_for
from tests.e2e.weights import ONE, is_right, stored

TOKEN = "correct horse battery staple"


@pytest.fixture
def token(site: Site) -> tuple[str, str]:
    """The flag, and its file."""
    return "--fleet_token_file", written(site.folder / "token", TOKEN)


def written(path: Path, text: str) -> str:
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return str(path)


def strangers(gateway: Gateway) -> int:
    found = re.search(
        r"^pipeline_fleet_strangers_total (\d+)", gateway.ask("GET", "/metrics").body.decode(), re.M
    )
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("scheme", ["ws", "tcp"])
def test_who_has_the_token_serves_and_nobody_else_is_heard(
    site: Site, token: tuple[str, str], scheme: str
) -> None:
    site.use_scheme(scheme)
    gateway = site.start_gateway("--workers", "1", *token)
    workers = [
        site.spawn_worker("--name", "by-file", *token),
        site.spawn_worker("--name", "by-variable", PIPELINE_FLEET_TOKEN=TOKEN),
    ]
    gateway.wait_ready(3)
    assert strangers(gateway) == 0

    wrong = site.spawn_worker("--fleet_token_file", written(site.folder / "wrong", "another horse of them"))
    without = site.spawn_worker()
    service = f"{site.addr_service}/service" if scheme == "ws" else site.addr_service
    site.spawn(Process, SERVICES / "stranger.py", "garbage", service, site.addr_worker, "1")
    wrong.wait_for_line("not heard", "another fleet token")
    without.wait_for_line("the gateway asks who holds its fleet token: give --fleet_token_file")
    wait_for(lambda: strangers(gateway) > 10, "strangers are counted")
    gateway.wait_for_line("stranger refused")

    gateway.wait_ready(3)
    assert gateway.set_weights(ONE, stored(ONE)).json["workers"] == [{"result": True}] * 3
    answers = [gateway.predict(float(i), 2.0) for i in range(30)]
    assert all(is_right(answer.json["result"], ONE, float(i), 2.0) for i, answer in enumerate(answers))
    assert len({answer.headers["x-worker"] for answer in answers}) == 3
    workers[0].kill()
    gateway.wait_ready(2)


def test_a_worker_finds_a_gateway_that_restarted_and_not_one_without_the_token(
    site: Site, token: tuple[str, str]
) -> None:
    site.use_scheme("tcp")
    gateway = site.start_gateway(*token, ephemeral=False)
    worker = site.spawn_worker(*token)
    gateway.wait_ready(1)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    gateway.kill()

    gateway = site.start_gateway(ephemeral=False)
    worker.wait_for_line("not heard", "the gateway asks without a fleet token")
    assert gateway.status()["workers"] == []
    gateway.kill()

    gateway = site.start_gateway(*token, ephemeral=False)
    gateway.wait_ready(1)
    assert is_right(gateway.predict(3.0, 2.0).json["result"], ONE, 3.0, 2.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read: No such file or directory"),
        (
            "short",
            "has a token of 5 characters: give 16 or more, that nobody can guess (openssl rand -hex 32)",
        ),
    ],
)
@pytest.mark.parametrize("end", ["gateway", "worker"])
def test_a_token_that_is_none_is_said_at_once(site: Site, end: str, text: str | None, sentence: str) -> None:
    file = site.folder / "token"
    if text is not None:
        written(file, text)
    spawn = site.spawn_gateway if end == "gateway" else site.spawn_worker
    process = spawn("--fleet_token_file", str(file))
    assert process.wait() == 1
    program = "gw.py" if end == "gateway" else "worker.py"
    assert process.output == f"{program}: --fleet_token_file {file} {sentence}\n"
