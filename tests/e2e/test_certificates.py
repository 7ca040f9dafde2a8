"""end to end: a fleet whose sockets speak TLS, beside a local worker that needs none."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography.x509 import IPAddress

from gateway.certificates import init
from tests.e2e.processes import Site
from tests.e2e.weights import ONE, is_right, stored


def made(folder: Path) -> Path:
    init(folder, [IPAddress(ip_address("127.0.0.1"))])
    return folder


def flags(folder: Path, end: str) -> tuple[str, ...]:
    files = {"ca": "ca.pem", "cert": f"{end}.pem", "key": f"{end}.key"}
    return tuple(word for flag, name in files.items() for word in (f"--fleet_{flag}", str(folder / name)))


@pytest.mark.parametrize("scheme", ["wss", "tls+tcp"])
def test_workers_with_certificates_and_a_local_one_serve_together(site: Site, scheme: str) -> None:
    folder = made(site.folder / "certs")
    site.use_scheme(scheme)
    gateway = site.start_gateway("--workers", "1", *flags(folder, "gateway"))
    spawned = [site.spawn_worker(*flags(folder, "worker")) for _ in range(2)]
    gateway.wait_ready(3)
    assert gateway.set_weights(ONE, stored(ONE)).json["workers"] == [{"result": True}] * 3
    answers = [gateway.predict(float(i), 2.0) for i in range(30)]
    assert all(is_right(answer.json["result"], ONE, float(i), 2.0) for i, answer in enumerate(answers))
    assert len({answer.headers["x-worker"] for answer in answers}) == 3
    spawned[0].kill()
    gateway.wait_ready(2)


def test_a_gateway_whose_variables_name_certificates_starts_local_workers(site: Site) -> None:
    folder = made(site.folder / "certs")
    site.use_scheme("wss")
    files = {"CA": "ca.pem", "CERT": "gateway.pem", "KEY": "gateway.key"}
    environment = {f"PIPELINE_FLEET_{name}": str(folder / file) for name, file in files.items()}
    gateway = site.start_gateway("--workers", "1", **environment)
    gateway.wait_ready(1)


@pytest.mark.parametrize("end", ["gateway", "worker"])
def test_a_file_that_is_not_there_is_said_at_once(site: Site, end: str) -> None:
    folder = made(site.folder / "certs")
    (folder / f"{end}.key").unlink()
    site.use_scheme("wss")
    spawn = site.spawn_gateway if end == "gateway" else site.spawn_worker
    process = spawn(*flags(folder, end))
    assert process.wait() == 1
    program = "gw.py" if end == "gateway" else "worker.py"
    assert process.output == (
        f"{program}: --fleet_key {folder}/{end}.key cannot be read: No such file or directory\n"
    )
