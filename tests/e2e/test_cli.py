"""end to end: `pipeline`, every command of it against a real gateway with real workers."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from cli.main import main
from tests.e2e.processes import ROOT, Gateway, Worker, clean_environment, wait_for
from tests.e2e.weights import DATA, ONE, TWO, expected, is_right, stored

FILES = {nn_id: str(next(DATA.glob(f"{nn_id}_*.b64"))) for nn_id in (ONE, TWO)}


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture(scope="module")
def gateway(shared_site) -> Gateway:
    """A gateway with one worker of its own; one that was started by hand, and a model of two versions."""
    gateway = shared_site.start_gateway("--workers", "1")
    shared_site.by_hand = shared_site.spawn_worker("--name", "by-hand")
    gateway.wait_ready(2)
    return gateway


@pytest.fixture
def run(gateway, capsys, monkeypatch) -> Run:
    """Runs a command in this process, against that gateway."""

    def run(*words: str) -> Done:
        code = main(words)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    monkeypatch.setenv("PIPELINE_URL", gateway.url)
    return run


@pytest.fixture(scope="module")
def summed(gateway, tmp_path_factory) -> str:
    """A model of two versions, the first of them active."""
    folder = tmp_path_factory.mktemp("sum")
    for words in (
        ("settings", "sum", "runtime=torch", "architecture=sample"),
        ("upload", "sum", _file(folder, ONE)),
        ("upload", "sum", _file(folder, TWO)),
    ):
        assert main(("models", *words, "--url", gateway.url)) == 0
    return "sum"


def _file(folder: Path, nn_id: str) -> str:
    file = folder / f"{nn_id}.pt"
    file.write_bytes(stored(nn_id))
    return str(file)


def installed(folder: Path, gateway: Gateway) -> dict[str, str]:
    """An environment in which `pipeline` is a program, as after an installation."""
    program = folder / "pipeline"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli "$@"\n')
    program.chmod(0o755)
    return {**clean_environment(), "PATH": f"{folder}:/usr/bin:/bin", "PIPELINE_URL": gateway.url}


def test_weights_are_set_and_rows_are_predicted(run, tmp_path):
    assert run("set-weights", FILES[ONE]) == (0, f"{ONE} answers now: 2 workers loaded it\n", "")
    assert is_right(float(run("predict", "0.3,0.7").out), ONE, 0.3, 0.7)
    first, second = map(float, run("predict", "-0.3,0.7", "[0.1, 0.2]").out.splitlines())
    assert is_right(first, ONE, -0.3, 0.7)
    assert is_right(second, ONE, 0.1, 0.2)
    answer = run("--json", "predict", "0.3,0.7").json
    assert (answer["status"], answer["answered_by"]["x_model_version"]) == (True, ONE)
    raw = tmp_path / "weights.pt"
    raw.write_bytes(stored(TWO))
    assert run("set-weights", str(raw), "--nn-id", TWO).out.startswith(f"{TWO} answers now: ")
    assert float(run("predict", "--body", '{"vector": [1, 2]}').out) == pytest.approx(
        expected(TWO, 1, 2), rel=1e-5
    )


def test_what_the_gateway_or_a_model_refuses_is_one_sentence_and_exit_code_1(run):
    assert run("set-weights", FILES[ONE]).code == 0
    code, out, err = run("predict", "1,2,3")
    assert (code, out) == (1, "")
    assert err.startswith("pipeline: ")
    assert err.count("\n") == 1
    code, _, err = run("set-weights", str(DATA / "bad_tensors.b64"), "--nn_id", "f" * 32)
    assert code == 1
    assert err.startswith("pipeline: One or more workers were failed with weights loading: ")
    assert run("models", "show", "none") == (
        1, "", "pipeline: there is no model none: GET /models says which there are\n",
    )  # fmt: skip
    assert run("jobs", "show", "none").code == 1
    assert run("workers", "drain", "nobody") == (
        1, "", "pipeline: there is no worker nobody: GET /status says which there are\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["predict"], "there is nothing to ask about: give rows of numbers, or one of --image, "),
        (["predict", "1,2", "--text", "x"], "--text and rows of numbers cannot go together: "),
        (["predict", "1,x"], "a row is numbers with commas between, like 0.3,0.7, not '1,x'"),
        (["predict", "--body", "{"], "this is not JSON: "),
        (["predict", "--image", "none.png"], "none.png cannot be read: No such file or directory"),
        (["predict", "--version", "1", "2"], "--version takes --model too"),
        (["set-weights", "none"], "none cannot be read: No such file or directory"),
        (["models", "settings", "sum", "max_batch"], "a change is NAME=VALUE, like max_batch=64, not 'max_"),
        (["jobs", "submit"], "give rows of numbers, or --input and --output, or --order"),
        (["experiments", "put", "x"], "an experiment takes --model and an --arm for each version"),
        (["status", "--url", "ftp://x"], "ftp://x is no address of a gateway: give one like http://127"),
    ],
)
def test_what_makes_no_sense_is_a_sentence_and_exit_code_2(run, words, sentence):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"pipeline: {sentence}")


def test_models_are_uploaded_listed_shown_and_deleted(run, tmp_path):
    assert run("models", "settings", "other", "runtime=torch", "architecture=sample").code == 0
    file = _file(tmp_path, ONE)
    assert run("models", "upload", "other", file).out == "other version 1 serves: 2 workers loaded it\n"
    activated = run("models", "upload", "other", _file(tmp_path, TWO), "--activate", "--json").json
    assert (activated["version"], activated["workers_count"]) == ("2", 2)
    listed = {each["name"]: each for each in run("models", "list", "--json").json}
    assert (listed["other"]["active"], listed["other"]["serving"]) == ("2", ["1", "2"])
    table = run("models", "list").out.splitlines()
    assert table[0].split() == ["model", "active", "serving", "takes", "gives"]
    assert "other" in [line.split()[0] for line in table[1:]]
    shown = run("models", "show", "other").out
    assert f"{ONE}.pt" in shown
    assert "by-hand" in shown
    assert run("models", "delete", "other", "1").out == "other version 1 is forgotten\n"
    assert run("models", "delete", "other", "2").err == (
        "pipeline: version 2 of other is active: activate another one first\n"
    )


def test_settings_are_patched_or_replaced_by_a_file(run, summed, tmp_path):
    assert run("models", "settings", "sum", "max_batch=64", "round_decimals=2").json["max_batch"] == 64
    assert "max_batch" not in run("models", "settings", "sum", "max_batch=").json
    file = tmp_path / "model.toml"
    file.write_text('runtime = "torch"\narchitecture = "sample"\n')
    assert run("models", "settings", "sum", "--file", str(file)).json == {
        "runtime": "torch", "architecture": "sample",
    }  # fmt: skip
    code, _, err = run("models", "settings", "sum", "max_bacth=1")
    assert code == 1
    assert err.startswith("pipeline: there is no setting max_bacth (did you mean max_batch?)")


def test_a_picture_is_sent_and_one_that_is_the_answer_is_kept(run, tmp_path):
    drawing, found = tmp_path / "drawing.png", tmp_path / "map.png"
    Image.new("L", (40, 30), 255).save(drawing)
    told = ("input_type=image", "output_type=image", "image.size=[32, 32]", "image.resize=stretch")
    assert run("models", "settings", "shapes", *told).json["image"] == {"size": [32, 32], "resize": "stretch"}
    assert run("models", "upload", "shapes", str(ROOT / "data" / "shapes.ts")).code == 0
    assert run("predict", "--model", "shapes", "--image", str(drawing), "--out", str(found)) == (0, "", "")
    with Image.open(found) as picture:
        assert (picture.format, picture.size) == ("PNG", (40, 30))
    assert run("predict", "0.3,0.7", "--out", str(found)).err == (
        "pipeline: the answer is no picture: leave out --out\n"
    )


def test_a_rollout_goes_forth_and_back(run, summed):
    assert run("rollout", "activate", "sum", "2").out == "sum version 2 answers now: 2 workers loaded it\n"
    assert is_right(float(run("predict", "--model", "sum", "0.3,0.7").out), TWO, 0.3, 0.7)
    assert is_right(float(run("predict", "--model", "sum", "--version", "1", "0.3,0.7").out), ONE, 0.3, 0.7)
    assert run("rollout", "show", "sum", "--json").json == {
        "model": "sum", "active": "2", "previous": "1", "serving": ["1", "2"],
    }  # fmt: skip
    assert run("rollout", "rollback", "sum").out == "sum version 1 answers again\n"
    assert run("rollout", "show", "sum").out.split()[:4] == ["model", "sum", "active", "1"]


def test_an_experiment_is_put_shown_and_ended(run, summed):
    put = run("experiments", "put", "split", "--model", "sum", "--arm", "1=90", "--arm", "2=10")
    assert put.code == 0
    assert put.out.split()[:2] == ["name", "split"]
    (listed,) = run("experiments", "list", "--json").json
    assert listed["weights"] == {"1": 90.0, "2": 10.0}
    assert "running" in run("experiments", "list").out
    assert run("experiments", "show", "split", "--json").json["arms"]["2"]["share"] == pytest.approx(
        0.1, abs=0.01
    )
    assert run("experiments", "end", "split", "--json").json["state"] == "ended"
    assert run("experiments", "list").out == "There is no experiment.\n"


def test_a_job_is_submitted_waited_for_and_forgotten(run):
    assert run("set-weights", FILES[ONE]).code == 0
    result = run("jobs", "submit", "0.3,0.7", "0.1,0.2", "--wait", "30").json
    assert len(result["results"]) == 2
    (job,) = run("jobs", "submit", "0.3,0.7", "--key", "k1").out.split()
    assert run("jobs", "submit", "0.3,0.7", "--key", "k1").out.split() == [job]
    assert is_right(run("jobs", "result", job, "--wait", "30").json["result"], ONE, 0.3, 0.7)
    assert job in [each["id"] for each in run("jobs", "list", "--json", "--state", "done").json]
    assert job in run("jobs", "list").out
    assert run("jobs", "show", job).out.split()[:4] == ["id", job, "state", "done"]
    assert run("jobs", "cancel", job).out == f"{job} was over, and is forgotten\n"
    assert run("jobs", "result", job).code == 1


def test_status_and_top_show_the_queue_and_every_worker(run):
    status = run("status", "--json").json
    assert sorted(worker["state"] for worker in status["workers"]) == ["ready", "ready"]
    shown = run("status").out
    assert "2 (2 ready)" in shown
    assert "by-hand" in shown
    assert [each["name"] for each in run("workers", "list", "--json").json] == [
        worker["name"] for worker in status["workers"]
    ]
    looks = run("top", "--count", "2", "--interval", "0.01").out
    assert looks.count("by-hand") == 2
    assert "requests/s" in looks
    lines = run("top", "--count", "2", "--interval", "0.01", "--json").out.splitlines()
    assert [json.loads(line)["workers_count"] for line in lines] == [2, 2]


def test_top_draws_on_a_terminal_and_gives_it_back(gateway, tmp_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cli", "top", "--count", "2", "--interval", "0.1"]
    environment = {**installed(tmp_path, gateway), "TERM": "xterm", "COLUMNS": "200", "LINES": "40"}
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=theirs) as program:
        os.close(theirs)
        drawn = ""
        with contextlib.suppress(OSError):  # so Linux says that nobody has the other end any more
            while said := os.read(ours, 1 << 16):
                drawn += said.decode(errors="replace")
    os.close(ours)
    assert program.returncode == 0
    assert "by-hand" in drawn
    assert drawn.index("\x1b[?1049h") < drawn.index("\x1b[?1049l")  # the other screen, and back


def test_no_gateway_is_a_sentence_that_says_what_to_do_and_exit_code_3(run, shared_site):
    url = f"http://127.0.0.1:{shared_site.ports.take()}"
    assert run("status", "--url", url) == (
        3, "",
        f"pipeline: the gateway at {url} cannot be asked: Connection refused. Start one (python gw.py), or"
        " say where it is by --url or PIPELINE_URL\n",
    )  # fmt: skip
    assert run("top", "--url", url, "--count", "1").code == 3


def test_a_shell_completes_commands_flags_and_names_of_the_gateway(run, summed, gateway, tmp_path):
    environment = installed(tmp_path, gateway)
    script = run("completion", "bash").out

    def complete(line: str) -> list[str]:
        words = " ".join(f"'{word}'" for word in line.split(" "))
        shell = f"{script}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _pipeline\n"
        shell += 'printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "-c", shell], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60,
            check=True,
        )  # fmt: skip
        return done.stdout.split()

    assert complete("pipeline mod") == ["models"]
    assert complete("pipeline rollout activate su") == ["sum"]
    assert complete("pipeline rollout activate sum ") == ["1", "2"]
    assert complete("pipeline models upload --act") == ["--activate"]


def test_a_worker_that_is_drained_ends_and_one_of_the_gateway_is_replaced(run, gateway, shared_site):
    assert run("workers", "drain", "by-hand", "--wait", "30").out == "by-hand has left\n"
    by_hand: Worker = shared_site.by_hand
    assert by_hand.wait() == 0
    (own,) = gateway.wait_ready(1)
    assert run("workers", "drain", own["name"]).out == f"{own['name']} leaves\n"
    others = wait_for(
        lambda: [each for each in gateway.status()["workers"] if each["id"] != own["id"]], "another worker"
    )
    assert others[0]["name"] != own["name"] or others[0]["id"] != own["id"]
