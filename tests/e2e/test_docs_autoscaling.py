"""End to end: what docs/autoscaling.md shows works, and its tables say what the programs say."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.simulate import main
from common.scaling_settings import ScalingSettings

ROOT = Path(__file__).parents[2]
SHOWN = (ROOT / "docs" / "autoscaling.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", SHOWN, re.DOTALL)


def test_what_is_shown_of_the_doors_works(site):
    (script,) = [block for block in BLOCKS if "curl" in block]
    gateway = site.start_gateway("--min_workers", "1", "--max_workers", "2")
    gateway.wait_ready(1)
    here = f"127.0.0.1:{gateway.port}"
    said = subprocess.run(
        ["bash", "-c", script.replace("127.0.0.1:54321", here).replace("curl ", "curl -sS -m 20 ")],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    answers = [json.loads(each) for each in said.replace("}{", "}\n{").splitlines()]
    assert [answer["status"] for answer in answers] == [True] * 5
    assert answers[2]["policy"]["target_queue_ms"] == 50
    assert answers[3]["paused"] is True
    assert (answers[4]["min_workers"], answers[4]["paused"]) == (1, False)


@pytest.mark.parametrize("command", [each for each in BLOCKS if "bench.simulate --make" in each])
@pytest.mark.apart  # a day is simulated
def test_a_simulation_says_what_is_shown(command, tmp_path, capsys):
    words = shlex.split(command.replace("\\\n", " "))[3:]
    plot = words[words.index("--plot") + 1]
    assert (ROOT / plot).is_file()
    words[words.index("--plot") + 1] = str(tmp_path / "plot.svg")
    assert main(words) == 0
    table = capsys.readouterr().out
    if "--decisions" not in words:
        assert f"```\n{table}```" in SHOWN


def test_the_schedule_that_is_shown_is_one(tmp_path):
    (script,) = [block for block in BLOCKS if "schedule.csv" in block]
    said = subprocess.run(
        ["bash", "-c", f"cd {tmp_path} && {script}"],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert "idle: there was nothing to do for zero_grace" in said


def test_every_flag_is_in_the_table():
    flags = set(re.findall(r"`--(\w+)`", SHOWN.split("| flag |")[1].split("\n\n")[0]))
    assert flags == set(ScalingSettings.__dataclass_fields__)
