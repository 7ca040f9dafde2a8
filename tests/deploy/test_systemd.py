"""pure: the units of systemd, and their files of settings; systemd checks them too where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cli.main import main
from common.settings import GatewaySettings, WorkerSettings, read_settings

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = {"pipeline-gateway.service": GatewaySettings, "pipeline-worker@.service": WorkerSettings}
SANDBOX = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "ProtectKernelModules": "yes",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "DynamicUser": "yes",
}


def keys(unit: str) -> dict[str, list[str]]:
    """Every key of a unit with its values, in order."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / unit).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_shuts_its_program_in_and_gives_it_time_to_finish(unit: str) -> None:
    found = keys(unit)
    assert {name: found[name] for name in SANDBOX} == {name: [value] for name, value in SANDBOX.items()}
    assert int(found["TimeoutStopSec"][0]) > 45  # 30 s for what was admitted, 10 s for workers


@pytest.mark.parametrize(("unit", "cls"), UNITS.items())
def test_a_program_takes_the_flags_of_its_unit_and_its_file(unit: str, cls: type, monkeypatch) -> None:
    [command] = keys(unit)["ExecStart"]
    file = FOLDER / ("gateway.toml" if cls is GatewaySettings else "worker.toml")
    told = re.sub(r"/etc/pipeline/\w+\.toml", str(file), command)
    _, *flags = told.replace("${STATE_DIRECTORY}", "/var/lib/pipeline").replace("%l.%i", "host.1").split()
    settings = read_settings(cls, flags, {}, prog="", description="")
    assert settings.config == str(file)


@pytest.mark.parametrize("unit", UNITS)
def test_a_reload_checks_the_file_before_it_sends_the_signal(unit: str, capsys) -> None:
    check, signal = keys(unit)["ExecReload"]
    assert signal == "/bin/kill -HUP $MAINPID"
    program, *words = check.split()
    assert program == "/opt/pipeline/bin/pipeline"
    assert main([word.replace("/etc/pipeline", str(FOLDER)) for word in words]) == 0
    assert "nothing is wrong with it" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_nothing_wrong_and_little_exposed(unit: str, tmp_path: Path) -> None:
    there = tmp_path / unit
    there.write_text(re.sub(r"/opt/pipeline/bin/[\w-]+", "/bin/true", (FOLDER / unit).read_text()))
    for words in (["verify"], ["security", "--offline=true", "--threshold=25"]):
        done = subprocess.run(
            ["systemd-analyze", *words, there], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert words == ["security", "--offline=true", "--threshold=25"] or done.stderr == ""
