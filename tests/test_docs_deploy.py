"""End to end: what docs/deploy.md shows is what happens, and its settings are settings."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

from gateway.deploy.config import read_config
from tests.e2e.processes import START, Gateway, open_site, wait_for

ROOT = Path(__file__).parents[1]
DEPLOY = (ROOT / "docs" / "deploy.md").read_text()
README = (ROOT / "README.md").read_text()


def test_the_command_and_the_request_that_are_shown_work(tmp_path_factory) -> None:
    (shown, _) = re.findall(r"```bash\n(.*?)```", DEPLOY, re.DOTALL)
    assert shown in README
    command, request = shown.splitlines()
    program, *arguments = shlex.split(command.removeprefix("python "))
    with open_site(tmp_path_factory.mktemp("site")) as site:
        where = f"127.0.0.1:{site.rest_port}"
        gateway = site.spawn(
            Gateway, ROOT / program, *arguments, "--addr_rest", where, *site.fleet, "--ephemeral"
        )
        wait_for(lambda: gateway.lines(" serves on ") or not gateway.is_alive, "the model serves", 2 * START)
        asked = request.replace("127.0.0.1:54321", where).replace("curl ", "curl -sS -m 20 ")
        said = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(said.stdout)["result"][0]["label"] == "weather"


def test_the_settings_that_are_shown_are_settings(tmp_path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", DEPLOY, re.DOTALL)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "tokenizer.json").write_text("{}")
    path = tmp_path / "deploy.toml"
    path.write_text(text)
    config = read_config(path)
    assert config.settings is not None
    assert config.settings.labels == ("cat", "dog")
    assert config.files == {"tokenizer.json": tmp_path / "tokenizer.json"}
    assert config.names == ("min_workers", "max_workers", "timeout")


def test_every_file_that_is_named_is_there() -> None:
    named = re.findall(r"(?:scripts|data)/[a-z_]+\.[a-z0-9]+", DEPLOY)
    assert len(named) >= 9
    assert [name for name in named if not (ROOT / name).is_file()] == []
