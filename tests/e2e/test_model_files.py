"""end to end: files that nobody should load, at workers that serve all the while."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from cli.main import main
from tests.e2e.processes import Gateway, Site
from tests.e2e.test_models import put
from tests.e2e.weights import ONE, TWO, is_right, stored

CODE = '''
"""Networks that do not get far."""

import ctypes
import torch


class Crashes(torch.nn.Module):
    def __init__(self):
        super().__init__()
        ctypes.string_at(0)
'''


def crash(gateway: Gateway) -> None:
    """Upload a model that crashes whoever makes it."""
    settings = json.dumps({"runtime": "torch", "architecture": "crashing:Crashes"}).encode()
    assert gateway.ask("PUT", "/models/crash", settings).status == 200
    assert put(gateway, "crash/versions/1", stored(TWO)).json["status"] is False


def test_a_file_that_crashes_its_loader_costs_nobody_but_itself(site: Site) -> None:
    (site.folder / "crashing.py").write_text(CODE)
    path = f"{site.folder}:{Path(__file__).parents[2]}"
    gateway = site.start_gateway()
    workers = [
        site.spawn_worker("--allow_code", "crashing", PYTHONPATH=path),
        site.spawn_worker("--allow_code", "crashing", PYTHONPATH=path),
    ]
    gateway.wait_ready(2)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    crash(gateway)
    for worker in workers:
        worker.wait_for_line("weights refused model=crash", "(killed by SIGSEGV)")
    assert {worker["pid"] for worker in gateway.wait_ready(2)} == {worker.pid for worker in workers}
    assert is_right(gateway.predict(3.0, 2.0).json["result"], ONE, 3.0, 2.0)
    assert gateway.set_weights(TWO, stored(TWO)).json["workers"] == [{"result": True}] * 2
    waiting = [child for worker in workers for child in worker.children()]
    assert len(waiting) == 2
    workers[0].kill()
    psutil.wait_procs(waiting[:1], timeout=30)
    assert not waiting[0].is_running()


def test_only_signed_files_serve_where_that_is_asked_for(site: Site) -> None:
    for name in ("ours", "theirs"):
        assert main(["keys", "create", str(site.folder / name)]) == 0
    gateway = site.start_gateway(
        "--workers", "1", "--require_signed", "--trusted_keys", str(site.folder / "ours.pub")
    )
    gateway.wait_ready(1)
    (site.folder / "model.pt").write_bytes(stored(ONE))
    for name in ("theirs", "ours"):
        argv = ["sign", str(site.folder / "model.pt"), "--key", str(site.folder / f"{name}.key")]
        assert main([*argv, "--out", str(site.folder / f"{name}.pt")]) == 0
    for data, sentence in (
        (stored(ONE), "the file is not signed, and --require_signed is given"),
        ((site.folder / "theirs.pt").read_bytes(), "which is not among the --trusted_keys"),
    ):
        assert gateway.set_weights(ONE, data).json["status"] is False
        gateway.wait_for_line("weights refused", sentence)
    assert gateway.set_weights(ONE, (site.folder / "ours.pt").read_bytes()).json["message"] == "OK"
    assert is_right(gateway.predict(3.0, 2.0).json["result"], ONE, 3.0, 2.0)


@pytest.mark.parametrize("flags", [("--require_signed",), ("--trusted_keys", "keys")])
def test_keys_and_the_demand_for_them_need_each_other(site: Site, flags: tuple[str, ...]) -> None:
    worker = site.spawn_worker(*flags)
    assert worker.wait() == 2
    assert worker.output == (
        "worker.py: error: --require_signed and --trusted_keys need each other:"
        " whose signatures are to count\n"
    )
