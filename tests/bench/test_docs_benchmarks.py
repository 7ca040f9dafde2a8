"""End to end: what docs/benchmarks.md shows works, and its tables say what the programs say."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import compare, make, quick, sweep
from bench.__main__ import COMMANDS
from bench.executor import command as run
from bench.executor.doors import DOORS
from bench.peers import command as peers
from bench.profile import command as profile
from bench.profile.samplers import find_sampler
from bench.report import command as report
from bench.results import read_result
from bench.schedule import PATTERNS
from tests.bench.pages import table_cells
from tests.bench.servers import delayed_server

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text()
FIRST, REPEATS, SWEEP, PEERS, PROFILE, QUICK = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
SERVER = f"{sys.executable} {ROOT}/tests/services/paced_server.py {{port}} {{workers}}0"


def shell(script: str, folder: Path, url: str = "") -> str:
    """What a script prints that is run against this server, with short runs."""
    for old, new in (
        ("http://127.0.0.1:54321", url),
        ("--duration 30", "--duration 2"),
        ("--name", "--warm_up 0 --name"),
        ("--seconds 5", "--seconds 1"),
        ("bench quick", "bench quick --seconds 1"),
    ):
        script = script.replace(old, new)
    program = f'python() {{ "{sys.executable}" "$@" || [ $? = 1 ]; }}\n{script}'  # 1: a busy machine was late
    done = subprocess.run(
        ["bash", "-ec", program], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.apart  # loads of seconds each
def test_what_is_shown_of_runs_and_comparisons_works(tmp_path):
    pytest.importorskip("matplotlib", reason="it comes with the extra bench")
    with delayed_server("--delay", "0.01") as (url, _):
        said = shell(FIRST, tmp_path, url)
        again = shell(
            f"python -m bench make --rate 50 --duration 1 -o schedule.csv\n{REPEATS}", tmp_path, url
        )
    assert "requests in 2 s" in said
    assert re.search(r"^answered +[\d.]+/s +[\d.]+/s ", said, re.MULTILINE)  # a busy machine has no latencies
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert (tmp_path / "plots" / "throughput.png").is_file()
    assert re.search(r"^ +rest +binary +ratio +95 %$", again, re.MULTILINE)
    assert "One run of" not in again


@pytest.mark.apart  # loads of seconds each
def test_what_is_shown_of_a_sweep_works(tmp_path):
    script = re.sub(r"'python gw.py.*?'", f"'{SERVER}'", SWEEP)
    script = script.replace("--limit 0.05", "--limit 0.5 --start 16 --duration 1 --repeats 1 --tolerance 2")
    script = script.replace("--row", "--warm_up 0 --row")
    said = shell(script, tmp_path)
    assert [line.split()[0] for line in said.splitlines()[1:3]] == ["workers=1", "workers=2"]
    results = [read_result(path) for path in (tmp_path / "sweep").glob("*.json")]
    assert {result.schedule.pattern for result in results} == {"poisson"}
    assert "Throughput over time" in (tmp_path / "sweep.html").read_text()


@pytest.mark.apart
def test_what_is_shown_of_profiles_works(tmp_path):
    try:
        find_sampler("py-spy", gil=False, native=False).start(os.getpid(), 1.0, tmp_path)()
    except RuntimeError as error:
        pytest.skip(str(error))
    said = shell(PROFILE, tmp_path)
    assert "requests a second while it was looked at" in said
    found = {path.name: path.read_text() for path in (tmp_path / "profile").iterdir()}
    assert set(found) == {f"{who}.{end}" for who in ("gateway", "local-0") for end in ("svg", "txt")}
    assert "(gateway/http1/" in found["gateway.txt"]
    assert "thread data-" in found["local-0.txt"]


@pytest.mark.apart
def test_what_is_shown_of_the_readmes_table_works(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"# A title\n\n{quick.BEGIN}{quick.END}")
    said = shell(QUICK, tmp_path)
    written = page.read_text()
    assert written.partition(quick.BEGIN)[2].partition(quick.END)[0] in said
    assert "Measured on 20" in written
    header, _, *rows = table_cells(written)
    assert header == list(quick.COLUMNS)
    assert [row[0] for row in rows] == [*(case.name for case in quick.CASES), quick.START]
    assert all(float(row[1].replace(",", "")) > 0 for row in rows[:-1])


def flags(parser: Callable[[], argparse.ArgumentParser]) -> set[str]:
    usage = parser().format_usage()
    return set(re.findall(r"--\w+", usage)) | ({"--output"} if "-o " in usage else set())


@pytest.mark.parametrize(
    ("name", "parser"),
    [
        ("make", make._parser),
        ("run", run._parser),
        ("sweep", sweep._parser),
        ("peers", peers._parser),
        ("profile", profile._parser),
    ],
)
def test_every_flag_is_in_its_table_and_no_other(name, parser):
    table = PAGE.split(f"| of `{name}` |")[1].split("\n\n")[0]
    first = "\n".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"--\w+", first)) == flags(parser)


@pytest.mark.apart
def test_what_is_shown_of_other_servers_works_with_ours_alone(tmp_path):
    pytest.importorskip("matplotlib", reason="it comes with the extra bench")
    script = PEERS.replace("bench peers", "bench peers --only pipeline --envs envs")
    script = script.replace("--results", "--quick --workloads tiny --generator executor --results")
    (tmp_path / "docs").mkdir()
    said = shell(script, tmp_path)
    assert "| one client, tiny model: p50 | ≤ 1 ms |" in said
    ours = {path.name for path in (tmp_path / "peers").glob("load-tiny-pipeline-*.json")}
    assert ours == {f"load-tiny-pipeline-{each}.json" for each in ("1-0", "2-0", "gateways-1-0")}
    assert "**Pipeline**" in (tmp_path / "docs" / "performance.md").read_text()


@pytest.mark.parametrize("parser", [compare._parser, quick._parser, report._parser])
def test_every_flag_of_the_others_is_on_the_page(parser):
    assert [flag for flag in flags(parser) if flag not in PAGE and flag != "--output"] == []


def test_every_command_pattern_and_door_is_on_the_page():
    for heading, names in (("| command |", COMMANDS), ("| `--pattern` |", PATTERNS)):
        table = PAGE.split(heading)[1].split("\n\n")[0]
        assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == set(names)
    of_run = PAGE.split("| of `run` |")[1].split("\n\n")[0]
    (row,) = [line for line in of_run.splitlines() if line.startswith("| `--door`")]
    assert set(re.findall(r"`([\w-]+)`", row)) == {*DOORS, "--door"}
