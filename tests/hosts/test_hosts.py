"""collaboration: the hosts that other tests run on do what they say, and nothing is left of them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.processes import ROOT, wait_for
from tests.hosts.hosts import Host, open_hosts

pytestmark = pytest.mark.apart


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    with open_hosts(2) as opened:
        yield opened


def listen(host: Host) -> socket.socket:
    with host.on_network():
        return socket.create_server((host.ip, 7000))


def hears(server: socket.socket, sender: Host, within: float = 0.2) -> bool:
    """Whether a datagram from the sender arrives at the server within so many seconds."""
    with sender.on_network(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"hello", server.getsockname())
    server.settimeout(within)
    try:
        return server.recv(100) == b"hello"
    except TimeoutError:
        return False


def ear(host: Host) -> socket.socket:
    with host.on_network():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((host.ip, 7000))
    return server


def test_hosts_reach_each_other_by_name_and_see_only_their_own_processes(hosts: list[Host]) -> None:
    with listen(hosts[0]) as server:
        said = hosts[1].run(
            [sys.executable, "-c", "import os, socket; socket.create_connection(('host0', 7000));"
             "print(socket.gethostname(), len([each for each in os.listdir('/proc') if each.isdigit()]))"]
        )  # fmt: skip
        server.settimeout(1)
        peer, address = server.accept()
        peer.close()
    assert address[0] == hosts[1].ip
    assert said.stdout == "host1 2\n"


def test_a_cut_host_is_silent_until_it_is_mended(hosts: list[Host]) -> None:
    with ear(hosts[0]) as server:
        assert hears(server, hosts[1], 10)
        hosts[1].cut()
        assert not hears(server, hosts[1])
        hosts[1].mend()
        assert hears(server, hosts[1], 10)


def test_one_way_is_one_way(hosts: list[Host]) -> None:
    with ear(hosts[0]) as first, ear(hosts[1]) as second:
        assert hears(first, hosts[1], 10)
        assert hears(second, hosts[0], 10)
        hosts[0].ignore(hosts[1])
        assert not hears(first, hosts[1])
        assert hears(second, hosts[0], 10)
        hosts[0].heed_all()
        assert hears(first, hosts[1], 10)


def test_some_of_what_is_sent_is_lost(hosts: list[Host]) -> None:
    with ear(hosts[0]) as server:
        assert hears(server, hosts[1], 10)
        hosts[0].lose(0.5)
        arrived = sum(hears(server, hosts[1], 0.05) for _ in range(40))
    assert 0 < arrived < 40


def test_every_packet_is_late() -> None:
    with open_hosts(2, delay=0.02) as hosts, listen(hosts[0]), hosts[1].on_network():
        began = time.monotonic()
        socket.create_connection((hosts[0].ip, 7000)).close()
        assert time.monotonic() - began >= 0.04  # there and back; looking the other up takes as long again


def test_the_delay_of_a_host_is_changed_as_it_runs() -> None:
    with open_hosts(2, delay=0.0) as hosts, listen(hosts[0]), hosts[1].on_network():
        hosts[1].delay(0.2)
        began = time.monotonic()
        socket.create_connection((hosts[0].ip, 7000)).close()
        assert time.monotonic() - began >= 0.4


def test_a_crashed_host_takes_its_processes_along_and_nobody_is_told(hosts: list[Host]) -> None:
    with listen(hosts[0]) as server:
        talk = "import socket, time; c = socket.create_connection(('host0', 7000)); time.sleep(1000)"
        process = hosts[1].popen([sys.executable, "-c", talk])
        server.settimeout(10)
        peer, _ = server.accept()
        inner = process.inner_pid
        hosts[1].crash()
        assert inner is not None
        assert not psutil.pid_exists(inner)
        assert process.returncode == -signal.SIGKILL
        peer.settimeout(0.3)
        with peer, pytest.raises(TimeoutError):
            peer.recv(1)


def test_a_signal_reaches_the_process_and_its_exit_code_comes_back(hosts: list[Host]) -> None:
    told = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print(1, flush=True);"
    process = hosts[0].popen(
        [sys.executable, "-c", told + "time.sleep(1000)"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    process.terminate()
    assert process.wait(10) == 7


def test_a_process_that_was_stopped_goes_on_and_ends(hosts: list[Host]) -> None:
    process = hosts[0].popen(["sleep", "60"])
    while process.inner_pid is None:
        assert process.poll() is None
    process.send_signal(signal.SIGSTOP)
    while "T (stopped)" not in Path(f"/proc/{process.pid}/status").read_text():
        assert process.poll() is None
    process.send_signal(signal.SIGCONT)
    process.kill()
    assert process.wait(10) != 0


def test_nothing_is_left_when_whoever_opened_them_is_killed(tmp_path: Path) -> None:
    program = (
        "import time; from tests.hosts.hosts import open_hosts\n"
        "with open_hosts(2, delay=0.01) as hosts:\n"
        "    hosts[0].popen(['sleep', '1000'])\n"
        "    print(1, flush=True); time.sleep(1000)"
    )
    opener = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert opener.stdout is not None
    assert opener.stdout.readline() == "1\n"
    started = psutil.Process(opener.pid).children(recursive=True)
    assert len(started) >= 8  # the switch, two hosts with their first processes, two cables, one program
    opener.kill()
    opener.wait()
    opener.stdout.close()
    wait_for(lambda: not any(each.is_running() for each in started), "all of it ends", 10)
