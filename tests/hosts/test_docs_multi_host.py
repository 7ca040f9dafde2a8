"""End to end: docs/multi-host.md, block by block, each on the host it is for; and strangers who try too."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT, Process, clean_environment, wait_for
from tests.e2e.weights import ONE, is_right
from tests.hosts.hosts import Host, open_hosts

pytestmark = pytest.mark.apart

TEXT = (ROOT / "docs" / "multi-host.md").read_text()
SHOWN = dict(re.findall(r"<!-- (\w+) -->\n```bash\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[Host]]:
    with open_hosts(4, names={0: "gateway.example.com"}) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The repository, as far as the commands need it, and certificates of its own."""
    for name in ("gw.py", "worker.py", "scripts", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


class Console:
    """A folder in which commands are run, on any host, as the documentation writes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []
        programs = Path(sys.executable).parent
        self._environment = clean_environment() | {"PATH": f"{programs}:{os.environ['PATH']}"}

    def run(self, host: Host, command: str) -> str:
        shell = ["bash", "-ec", command]
        return host.run(shell, cwd=self.folder, env=self._environment).stdout

    def start(self, host: Host, command: str) -> Process:
        name = f"{host.name}-{len(self.processes)}"
        log = self.folder / f"{name}.log"

        def popen(command: list[str], **options: object) -> object:
            return host.popen(command, **{**options, "cwd": self.folder})

        shell = ["bash", "-ec", f"exec {command}"]
        self.processes.append(Process(name, shell, self._environment, log, popen))
        return self.processes[-1]


def test_what_is_shown_works_and_strangers_get_nothing(hosts: list[Host], folder: Path) -> None:
    assert sorted(SHOWN) == [
        "anywhere", "client", "firewall", "gateway", "token", "token_gateway", "token_worker", "why",
        "worker",
    ]  # fmt: skip
    console = Console(folder)
    console.run(hosts[0], SHOWN["firewall"])
    console.run(hosts[3], SHOWN["anywhere"])
    gateway = console.start(hosts[0], SHOWN["gateway"])
    greeting = gateway.wait_for_line("Pipeline serves on")
    assert (
        "worker.py --addr_service tls+tcp://host0:54000 --addr_worker tls+tcp://host0:54001 --fleet_ca"
        in greeting
    )
    for host in hosts[1:3]:
        console.start(host, SHOWN["worker"])
    (folder / "other").mkdir()
    console.run(hosts[3], SHOWN["anywhere"].replace("certs --hosts", "other --hosts"))
    plain = re.sub(r"--fleet_\w+ \S+", "", SHOWN["worker"].replace("\\\n", "")).replace("tls+tcp:", "tcp:")
    foreign = SHOWN["worker"].replace("certs/worker", "other/worker").replace("certs/ca.pem", "other/ca.pem")
    for stranger in (plain, foreign):
        console.start(hosts[3], stranger).wait_for_line("looking for the gateway")

    def names() -> list[str]:
        status = json.loads(console.run(hosts[0], "curl -sS http://127.0.0.1:54321/status"))
        return sorted(w["name"].partition("-")[0] for w in status["workers"] if w["state"] == "ready")

    wait_for(lambda: names() == ["host1", "host2"], "two workers are ready")
    said = console.run(hosts[0], SHOWN["client"])
    status, uploaded, predicted = _objects(said)
    assert len(status["workers"]) == 2  # and nobody else is known
    assert uploaded["workers"] == [{"result": True}] * 2
    assert is_right(predicted["result"], ONE, 0.1, 0.2)
    assert names() == ["host1", "host2"]
    assert "Verification: OK\n" in console.run(hosts[1], f"{SHOWN['why'].rstrip()} 2>&1")
    outside = hosts[1].run(["curl", "-sS", "-m", "1", "http://gateway.example.com:54321/status"], check=False)
    assert (outside.returncode, outside.stdout) == (28, "")  # it timed out: the firewall says nothing
    for process in console.processes:
        assert process.is_alive
        assert "Traceback" not in process.output
        process.kill()


def test_a_token_does_instead_of_certificates(hosts: list[Host], folder: Path) -> None:
    console = Console(folder)
    console.run(hosts[0], SHOWN["token"])
    gateway = console.start(hosts[0], SHOWN["token_gateway"])
    gateway.wait_for_line("Pipeline serves on", "--fleet_token_file …")
    for host in hosts[1:3]:
        console.start(host, SHOWN["token_worker"])
    console.run(hosts[3], SHOWN["token"].replace("fleet.token", "other.token"))
    stranger = console.start(hosts[3], SHOWN["token_worker"].replace("fleet.token", "other.token"))
    stranger.wait_for_line("not heard", "another fleet token")

    def states() -> list[str]:
        status = json.loads(console.run(hosts[0], "curl -sS http://127.0.0.1:54321/status"))
        return [worker["state"] for worker in status["workers"]]

    wait_for(lambda: states() == ["ready"] * 2, "two workers are ready, and nobody else is known")
    _, uploaded, predicted = _objects(console.run(hosts[0], SHOWN["client"]))
    assert uploaded["workers"] == [{"result": True}] * 2
    assert is_right(predicted["result"], ONE, 0.1, 0.2)
    for process in console.processes:
        assert process.is_alive
        assert "Traceback" not in process.output
        process.kill()


def _objects(text: str) -> list[dict[str, object]]:
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        each, end = decoder.raw_decode(text)
        found.append(each)
        text = text[end:]
    return found
