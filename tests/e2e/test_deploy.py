"""end to end: `gw.py deploy`, one command from a model's file to a service, in every format."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.formats import CODE, MAKERS, Format, asked, format_of, is_right
from tests.e2e.processes import ROOT, START, Gateway, Site, wait_for

LINE = re.compile(r"(\S+) version (\S+) serves on (\S+) with (.+?)\. Try: (.+)")
DATA = ROOT / "data"


def spawn_deploy(site: Site, *arguments: str | Path, ephemeral: bool = True) -> Gateway:
    """`gw.py deploy …` at this site's addresses."""
    rest = ("--addr_rest", f"127.0.0.1:{site.rest_port}")
    kept = ("--ephemeral",) if ephemeral else ("--state", str(site.state))
    told = ("deploy", *map(str, arguments), *rest, *site.fleet, *kept)
    gateway: Gateway = site.spawn(Gateway, ROOT / "gw.py", *told)
    gateway.port = site.rest_port
    return gateway


def deployed(gateway: Gateway) -> tuple[str, ...]:
    """The line that it prints, waited for: name, version, URL, workers, and the command to try."""
    wait_for(lambda: gateway.lines("serves on") or not gateway.is_alive, "the model serves", 2 * START)
    assert gateway.is_alive, gateway.output
    found = LINE.search(gateway.lines(" serves on ")[0])
    assert found is not None, gateway.output
    return found.groups()


def pasted(command: str) -> Any:
    """The JSON that the shown command prints."""
    shell = command.replace("curl ", "curl -sS -m 20 ")
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def write(folder: Path, form: Format, version: str = "1") -> list[str | Path]:
    """The arguments that deploy a format: its file, and its settings if it needs any."""
    model = folder / f"my-model{form.suffix}"
    model.write_bytes(form.files[version])
    if not form.settings:
        return [model]
    config = folder / "deploy.toml"
    config.write_text(f"[model]\n{form.settings.replace('[[inputs]]', '[[model.inputs]]')}")
    return [model, "--config", config]


@pytest.mark.apart  # a gateway with a worker for each format
@pytest.mark.parametrize("name", MAKERS)
def test_a_model_of_any_format_is_deployed_in_one_command(site, tmp_path, name):
    form = format_of(name)
    gateway = spawn_deploy(site, *write(tmp_path, form), "--allow_code", CODE, "--allow_pickle")
    model, version, url, workers, command = deployed(gateway)
    assert (model, version, url, workers) == ("my-model", "1", gateway.url, "1 worker")
    assert is_right(gateway.ask("POST", "/models/my-model/predict", asked(form.rows)), form, slice(None))
    if name == "torchscript":
        command = command.partition(" (")[0]  # which says that the file does not say what it takes
    assert pasted(command)["status"] is True


def test_a_file_that_would_not_serve_is_a_sentence_and_no_gateway(site, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"nothing that anybody can load")
    gateway = spawn_deploy(site, path)
    assert gateway.wait() == 1
    said = gateway.output.splitlines()[-1]
    assert said.startswith(f"gw.py: {path} would not serve: ")
    assert "Traceback" not in gateway.output


@pytest.mark.apart  # four gateways with a worker each
def test_the_same_file_is_the_same_version_and_another_is_the_next(site, tmp_path):
    form = format_of("iris-skops")
    for content, number in (("1", "1"), ("1", "1"), ("2", "2"), ("1", "1")):
        gateway = spawn_deploy(site, *write(tmp_path, form, content), ephemeral=False)
        assert deployed(gateway)[1] == number
        answer = gateway.ask("POST", "/models/my-model/predict", asked(form.rows))
        assert answer.json["outputs"][0]["data"] == form.answers[content][0].tolist()
        gateway.kill()


def test_a_gateway_that_runs_takes_a_model_and_a_bad_one_changes_nothing(site, tmp_path):
    gateway = site.start_gateway("--workers", "1")
    gateway.wait_ready(1)
    form = format_of("iris-skops")
    command = write(tmp_path, form)

    def deploy(*arguments: str | Path) -> tuple[int, str]:
        process = site.spawn(Gateway, ROOT / "gw.py", "deploy", *map(str, arguments), "--to", gateway.url)
        return process.wait(), process.output

    config = tmp_path / "deploy.toml"
    config.write_text('[model]\nlabels = ["setosa"]\n')
    code, said = deploy(*command, "--name", "iris", "--config", config)
    found = LINE.fullmatch(said.strip())
    assert (code, found[1], found[4]) == (0, "iris", "1 worker")
    assert pasted(found[5])["result"] in (0, 1, 2)

    bad = tmp_path / "bad.skops"
    bad.write_bytes(b"nothing that anybody can load")
    config.write_text("[model]\nmax_batch = 8\n")
    code, said = deploy(bad, "--name", "iris", "--config", config)
    assert (code, said.startswith(f"gw.py: {bad} would not serve: ")) == (1, True), said
    shown = gateway.ask("GET", "/models/iris").json
    assert (shown["active"], len(shown["versions"])) == ("1", 1)
    assert shown["settings"] == {"labels": ["setosa"]}


def test_a_folder_of_a_version_is_deployed_by_its_names_and_its_settings(site, tmp_path):
    folder = tmp_path / "iris" / "7"
    folder.mkdir(parents=True)
    (folder / "model.skops").write_bytes(format_of("iris-skops").files["1"])
    (tmp_path / "iris" / "model.toml").write_text("cache_size = 0\n")
    gateway = spawn_deploy(site, folder)
    assert deployed(gateway)[:2] == ("iris", "7")
    assert gateway.ask("GET", "/models/iris").json["settings"] == {"cache_size": 0}


def test_a_gateway_that_is_told_to_end_before_its_model_serves_ends(site):
    gateway = spawn_deploy(site, DATA / "digits.pt2", "--models", str(site.folder))
    gateway.wait_for_line("worker started")
    gateway.interrupt_terminal()
    assert gateway.wait() == 0
    assert gateway.lines(" serves on ") == []
