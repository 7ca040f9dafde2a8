"""end to end: a gateway whose state directory was damaged, copied under it, or has no room left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT, Gateway, Site, clean_environment, wait_for
from tests.e2e.weights import ONE, TWO, is_right, padded, stored

FULL = "No space left on device"


def pipeline(*words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def refused(site: Site) -> str:
    """Why a gateway does not start."""
    gateway = site.spawn_gateway(ephemeral=False)
    assert gateway.wait() == 1
    [sentence] = [line for line in gateway.output.splitlines() if line.startswith("gw.py: ")]
    return sentence.removeprefix("gw.py: ")


def serves(gateway: Gateway, nn_id: str) -> bool:
    """Whether these weights answer."""
    answer = gateway.predict(3.0, 2.0)
    return (
        answer.status == 200 and answer.version == nn_id and is_right(answer.json["result"], nn_id, 3.0, 2.0)
    )


def test_a_damaged_state_is_refused_checked_repaired_and_serves_what_could_be_saved(site: Site):
    gateway = site.start_gateway(ephemeral=False)
    for nn_id in (ONE, TWO):
        assert gateway.set_weights(nn_id, stored(nn_id)).json["message"] == "OK"
    assert pipeline("state", "check", "--state", str(site.state))[0] == 0
    gateway.kill()

    [weights] = [path for path in site.state.glob("blobs/??/*") if path.read_bytes() == stored(TWO)]
    weights.write_bytes(stored(TWO)[:-1] + b"?")
    sentence = refused(site)
    assert sentence.startswith(
        f"{weights} (version {TWO} of default) does not have the sha256 that it is named for"
    )
    assert f"`pipeline state repair --state {site.state}` saves what can be read" in sentence
    code, out, _ = pipeline("state", "check", "--state", str(site.state), "--json")
    assert (code, [each["what"] for each in json.loads(out)["findings"]]) == (1, ["blob_sha256"])

    code, out, _ = pipeline("state", "repair", "--state", str(site.state))
    assert (code, f"lost: version {TWO} of default was active" in out) == (0, True)
    assert pipeline("state", "check", "--state", str(site.state))[0] == 0
    gateway = site.start_gateway(ephemeral=False)
    site.spawn_worker()
    gateway.wait_ready(1)
    assert gateway.predict(3.0, 2.0).json["message"] != "OK"  # nobody has said which of the others should
    assert pipeline("rollout", "activate", "default", ONE, "--url", gateway.url)[0] == 0
    assert serves(gateway, ONE)
    code, _, err = pipeline("state", "repair", "--state", str(site.state))
    assert (code, "is in use by another gateway" in err) == (4, True)


@pytest.mark.parametrize("content", [b"", b"This is my shopping list. " * 1000])
def test_a_database_that_is_none_is_refused_with_what_to_do(site: Site, content: bytes):
    site.start_gateway(ephemeral=False).kill()
    (site.state / "pipeline.sqlite").write_bytes(content)
    assert refused(site).startswith(f"{site.state / 'pipeline.sqlite'} is damaged (")
    assert pipeline("state", "repair", "--state", str(site.state))[0] == 0
    assert site.start_gateway(ephemeral=False).ask("GET", "/health/live").status == 200


def test_a_copy_made_while_a_gateway_serves_takes_its_place(site: Site):
    gateway = site.start_gateway(ephemeral=False)
    worker = site.spawn_worker()
    gateway.wait_ready(1)
    gateway.set_weights(ONE, stored(ONE))
    copy = site.folder / "copy"
    code, out, _ = pipeline("state", "backup", str(copy), "--state", str(site.state))
    assert (code, out) == (
        0,
        f"{copy}: 1 versions, 0 jobs, 1 files of theirs, {out.split(', ')[3]}, nothing is damaged\n",
    )
    gateway.set_weights(TWO, stored(TWO))
    assert serves(gateway, TWO)
    gateway.kill()
    wait_for(lambda: worker.lines("looking for the gateway"), "the worker misses it")
    site.state = copy
    gateway = site.start_gateway(ephemeral=False)
    gateway.wait_ready(1)
    assert serves(gateway, ONE)
    assert pipeline("state", "backup", str(copy), "--state", str(copy))[0] == 1


def test_a_disk_without_room_refuses_weights_serves_on_and_leaves_nothing_half_written(site: Site):
    small = site.folder / "small"
    small.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], check=False).returncode
    ):
        pytest.skip("a small file system can be mounted by root alone")
    try:
        site.state = small / "state"
        gateway = site.start_gateway(ephemeral=False)
        site.spawn_worker()
        gateway.wait_ready(1)
        assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
        before = _files(site.state)

        answer = gateway.set_weights(TWO, padded(TWO, 6 << 20))  # more than fits
        assert (answer.status, answer.json["status"], FULL in answer.json["message"]) == (507, False, True)
        assert (_files(site.state), serves(gateway, ONE)) == (before, True)

        with pytest.raises(OSError, match=FULL):
            _fill(small / "ballast")
        answers = [gateway.set_weights(TWO, stored(TWO)) for _ in range(3)]  # not even the database has room
        assert {(each.status, each.json["status"]) for each in answers} == {(507, False)}
        assert (_files(site.state), serves(gateway, ONE)) == (before, True)

        (small / "ballast").unlink()
        gateway.kill()
        assert pipeline("state", "check", "--state", str(site.state))[0] == 0
        gateway = site.start_gateway(ephemeral=False)
        gateway.wait_ready(1)
        assert serves(gateway, ONE)
        assert gateway.set_weights(TWO, stored(TWO)).json["message"] == "OK"
        assert serves(gateway, TWO)
    finally:
        for process in site.processes:
            process.kill()
        subprocess.run(["umount", "--lazy", small], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def _files(state: Path) -> set[str]:
    return {
        str(path.relative_to(state)) for path in state.rglob("*") if path.is_file() and path.parent != state
    }
