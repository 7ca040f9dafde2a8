"""pure, and at the end contract: the short table, that the README has it, and what loads the server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.closed import ClosedLoop
from bench.quick import CASES, COLUMNS, START, Line, table
from bench.workloads import TINY
from bench.wrk import Load
from tests.bench.pages import table_cells
from tests.bench.servers import delayed_server

ROOT = Path(__file__).parents[2]


def test_the_readme_has_the_table_with_its_rows_and_columns():
    header, _, *rows = table_cells((ROOT / "README.md").read_text())
    assert header == list(COLUMNS)
    assert [row[0] for row in rows] == [*(case.name for case in CASES), START]
    for rate, p50, p99, cpu in (row[1:] for row in rows[:-1]):
        assert re.fullmatch(r"[\d,.]+", rate)
        assert re.fullmatch(r"[\d.]+ ms", p50)
        assert re.fullmatch(r"[\d.]+ ms", p99)
        assert re.fullmatch(r"[\d.]+ s", cpu)


def test_a_table_has_a_line_for_each_case():
    load = Load(requests=40_000, seconds=4.0, p50=0.0025, p99=0.00412, longest=0.1, errors=0)
    assert table(2.413, [Line("32 clients", load, 4.4)]) == (
        "| one gateway, one worker | requests/s | p50 | p99 | servers' CPU per 1,000 |\n"
        "|---|---|---|---|---|\n"
        "| 32 clients | 10,000 | 2.50 ms | 4.12 ms | 0.11 s |\n"
        "| start to first answer | | 2.41 s | | |\n"
    )


def test_a_page_without_markers_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    page = tmp_path / "page.md"
    page.write_text("# A title\n")
    assert main(["quick", "--write", str(page)]) == 2
    assert "no place for the table" in capsys.readouterr().err
    assert page.read_text() == "# A title\n"


@pytest.mark.parametrize("has_wrk", [True, False])
def test_either_generator_counts_what_the_server_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_wrk: bool
):
    if not has_wrk:
        monkeypatch.setattr("bench.closed.shutil.which", lambda name: None)
    with delayed_server("--delay", "0.02") as (url, _):
        loop = ClosedLoop(url, TINY._replace(inputs=5), door="starlette", clients=4, folder=tmp_path)
        if has_wrk and loop.generator != "wrk":
            pytest.skip("wrk is not installed")
        loop.warm_up(0.2)
        load = loop.run(1.0)
    assert load.errors == 0
    assert 4 <= load.requests <= 4 * 1.2 / 0.02
    assert 0.02 <= load.p50 <= load.p99 <= load.longest


def test_a_server_that_answers_with_errors_is_not_measured(tmp_path: Path):
    with delayed_server() as (url, _):
        loop = ClosedLoop(
            url, TINY._replace(inputs=5), door="rayserve", clients=2, folder=tmp_path, path="/busy"
        )
        with pytest.raises(RuntimeError, match="does not answer as it should: 503"):
            loop.warm_up(0.1)
