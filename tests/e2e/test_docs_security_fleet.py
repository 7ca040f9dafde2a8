"""end to end: the commands of docs/security-fleet.md, as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.settings import GatewaySettings, WorkerSettings, read_settings
from tests.e2e.processes import ROOT, Gateway, Site
from tests.e2e.weights import ONE, stored

TEXT = (ROOT / "docs" / "security-fleet.md").read_text()
TLS, TOKEN, SIGNED = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)


def run(folder: Path, block: str, **environment: str) -> None:
    """Everything of a block that ends by itself."""
    lines = [line for line in block.strip().splitlines() if not line.startswith("python ")]
    pipeline = f'pipeline() {{ "{sys.executable}" -m cli "$@"; }}'
    told = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    subprocess.run(["bash", "-ec", "\n".join([pipeline, *lines])], cwd=folder, env=told, check=True)


def words_of(block: str, program: str) -> list[str]:
    (line,) = [line for line in block.splitlines() if line.startswith(f"python {program}")]
    return shlex.split(line)[2:]


def test_certificates_are_made_and_their_gateway_starts(site: Site) -> None:
    run(site.folder, TLS)
    words = [word.replace("certs/", f"{site.folder}/certs/") for word in words_of(TLS, "gw.py")]
    gateway = site.start_gateway(*words, "127.0.0.1:0")
    assert gateway.lines("Pipeline serves on https://")


def test_a_token_is_made_and_both_ends_take_it(site: Site) -> None:
    run(site.folder, TOKEN)
    assert (site.folder / "fleet.token").stat().st_mode & 0o777 == 0o600
    for program, cls in (("gw.py", GatewaySettings), ("worker.py", WorkerSettings)):
        found = read_settings(cls, words_of(TOKEN, program), {}, prog=program, description="")
        assert found.fleet_token_file == "fleet.token"


@pytest.fixture
def model(site: Site) -> Path:
    """model.pt, in the site's folder."""
    (site.folder / "model.pt").write_bytes(stored(ONE))
    return site.folder


def test_a_signed_model_serves(site: Site, model: Path) -> None:
    *making, start, uploading = SIGNED.strip().splitlines()
    run(model, "\n".join(making))
    words = [word.replace("release", f"{model}/release") for word in shlex.split(start)[2:]]
    gateway: Gateway = site.start_gateway(*words)
    gateway.wait_ready(2)
    shutil.copy(model / "model.signed.pt", model / f"{ONE}.pt")
    run(model, uploading, PIPELINE_URL=gateway.url)
    assert [
        each["result"]
        for each in gateway.set_weights(ONE, (model / f"{ONE}.pt").read_bytes()).json["workers"]
    ] == [True] * 2
