"""pure, but for files: the report of runs, its axes, its pictures, and the files that it becomes."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from bench.report import svg
from bench.report.command import main
from bench.report.page import page
from bench.report.pictures import Heat, by_percentile, by_rate, curve, pictures
from bench.report.scales import Scale, scale_of
from bench.results import Kept, Times, write_result
from tests.bench.runs import made_run, times


@pytest.mark.parametrize(
    ("kind", "values", "low", "high", "labels"),
    [
        ("linear", [3, 47], 0, 50, ["0", "10", "20", "30", "40", "50"]),
        ("linear", [], 0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ("linear", [0.4, 12_345], 0, 12_500, ["0", "2,500", "5,000", "7,500", "10,000", "12,500"]),
        ("log", [3, 47], 2, 50, ["2", "5", "10", "20", "50"]),
        ("log", [10], 10, 100, ["10", "20", "50", "100"]),
        ("log", [0.0, 0.03, 9000], 0.02, 10_000, ["0.1", "1", "10", "100", "1,000", "10,000"]),
        ("percentile", [0.2, 0.9995], 0, 0.9995, ["0", "50", "90", "99", "99.9"]),
    ],
)
def test_an_axis_ends_at_round_values_and_names_them(kind, values, low, high, labels):
    scale = scale_of(kind, values)
    assert scale == (kind, pytest.approx(low), pytest.approx(high))
    assert [tick.label for tick in scale.ticks()] == labels
    assert all(0 <= scale.place(tick.value) <= 1 for tick in scale.ticks())


def test_each_nine_of_a_percentile_takes_the_same_room():
    scale = Scale("percentile", 0.0, 0.9999)
    assert [scale.place(share) for share in (0, 0.9, 0.99, 0.999, 0.9999)] == pytest.approx(
        [0, 1 / 4, 1 / 2, 3 / 4, 1]
    )


def test_the_curve_by_percentile_is_that_of_the_distribution_and_goes_no_further_than_its_requests():
    values = np.random.default_rng(1).lognormal(-4, 1, 10_000)
    points = curve(times(values))
    shares = [share for share, _ in points]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert 0.999 < shares[-1] <= 0.9999
    wanted = 1000 * np.quantile(values, shares[1:-20])
    assert [ms for _, ms in points[1:-20]] == pytest.approx(wanted, rel=0.03)
    assert curve(Times()) == []


def test_what_a_closed_loop_would_have_seen_is_dashed():
    lines = by_percentile({"a": [made_run(1)]}).lines
    assert [(line.name, line.is_dashed) for line in lines] == [("a", False), ("", True)]
    assert len(by_percentile({"a": [made_run(1, is_closed=True)]}).lines) == 1


def test_a_run_whose_schedule_was_not_kept_has_no_curve():
    late = made_run(1, kept_schedule=Kept(is_kept=False))
    assert by_percentile({"a": [late]}).lines == []
    assert [line.points for line in by_rate({"a": [late]}).lines] == [[], []]


def test_latency_by_rate_has_a_point_for_each_run_in_order_of_the_rates():
    runs = {f"x at {rate}/s": [made_run(n, name="x", rate=rate)] for n, rate in enumerate((300, 100, 200))}
    slow, usual = by_rate(runs).lines
    assert [rate for rate, _ in slow.points] == [100, 200, 300]
    assert slow.points[0][1] == pytest.approx(1000 * runs["x at 100/s"][0].latency.p99)
    assert usual.is_dashed
    assert (slow.name, slow.colour) == ("x", 0)


def test_a_picture_with_nothing_in_it_is_left_out():
    names = [picture.name for picture in pictures({"a": [made_run(1)]})]
    assert names == ["percentiles", "throughput", "latency", "in-flight", "heat-0"]
    assert [each.name for each in pictures({"a": [made_run(1, timeline=[], heat=[])]})] == ["percentiles"]


def test_heat_has_neighbouring_buckets_together_so_that_they_can_be_seen():
    run = made_run(1)
    heat = next(picture.heat for picture in pictures({"a": [run]}) if picture.heat)
    assert len(run.heat_edges) == 4 * len(heat.edges)
    assert [sum(counts) for counts in heat.counts] == [second.answered for second in run.timeline]
    assert heat.edges == [1000 * edge for edge in run.heat_edges[::4]]


def test_heat_is_darkest_where_most_answers_are_and_each_second_is_a_column():
    heat = Heat([[0, 9, 0], [0, 1, 99]], [1.0, 10 ** (1 / 16), 10 ** (2 / 16)], 0)
    rows = svg.heat_alpha(heat, Scale("log", 1.0, 10 ** (4 / 16)))
    assert set(rows[: svg.HEAT_ROWS // 4]) == {bytes([0, 0])}
    rows, third = rows[svg.HEAT_ROWS // 4 :], svg.HEAT_ROWS // 4
    assert set(rows[:third]) == {bytes([0, 255])}
    assert set(rows[third : 2 * third]) == {bytes([128, 38])}
    assert set(rows[2 * third :]) == {bytes([0, 0])}


def test_an_image_of_heat_is_a_png():
    data = svg.png_of_alpha([bytes([0, 128]), bytes([255, 1])])
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    length, kind, wide, high, depth, colours = struct.unpack(">I4sIIBB", data[8:26])
    assert (length, kind, wide, high, depth, colours) == (13, b"IHDR", 2, 2, 8, 4)
    at = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[at - 4 : at])
    assert zlib.decompress(data[at + 4 : at + 4 + length]) == bytes([0, 0, 0, 0, 128, 0, 0, 255, 0, 1])


def test_a_page_asks_for_nothing_and_escapes_what_is_in_results():
    bad = "<script>alert(1)</script>"
    late = Kept(is_kept=False, sentence=f"late {bad}")
    run = made_run(1, name=bad, url=f"http://{bad}", kept_schedule=late, errors={bad: 3}, workers={bad: 1.0})
    text = page({bad: [run], "b": [made_run(2)]}, bad)
    assert bad not in text
    assert text.count("<script>") == 1
    assert "late &lt;script&gt;" in text
    assert set(re.findall(r'(?:src|href)="(.*?)[,"]', text)) == {"data:", "data:image/png;base64"}
    assert "default-src 'none'" in text


def test_a_page_has_a_comparison_with_the_first_but_none_of_one_thing_at_two_rates():
    runs = {"a": [made_run(1)], "b": [made_run(2)]}
    assert "<h2>b beside a</h2>" in page(runs, "")
    rates = {f"x at {rate}/s": [made_run(rate, name="x", rate=rate)] for rate in (100, 200)}
    text = page(rates, "")
    assert " beside " not in text
    assert "Latency by rate" in text


def write(folder: Path) -> list[str]:
    paths = []
    for n, name in enumerate("ab"):
        paths.append(str(folder / f"{name}.json"))
        write_result(made_run(n, name=name, duration=10), Path(paths[-1]))
    return paths


def test_the_command_writes_the_same_page_every_time(tmp_path, capsys):
    pages = [tmp_path / "1.html", tmp_path / "2.html"]
    for path in pages:
        assert main([*write(tmp_path), "-o", str(path), "--title", "Two runs"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"written to {path}" for path in pages]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert "<title>Two runs</title>" in pages[0].read_text()


def test_the_command_writes_every_picture_as_the_same_png_file_every_time(tmp_path):
    pytest.importorskip("matplotlib", reason="it comes with the extra bench")
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder in folders:
        page = ["-o", str(tmp_path / "report.html")]
        assert main([write(tmp_path)[0], *page, "--png", str(folder)]) == 0
    names = sorted(path.name for path in folders[0].iterdir())
    plots = ("heat-0", "in-flight", "latency", "percentiles", "throughput")
    assert names == [f"{name}.png" for name in plots]
    for name in names:
        data = (folders[0] / name).read_bytes()
        assert data == (folders[1] / name).read_bytes()
        assert len(data) > 10_000


def test_a_file_that_is_no_result_is_said_so(tmp_path, capsys):
    (tmp_path / "a.json").write_text('{"name": "a"}')
    assert main([str(tmp_path / "a.json"), "-o", str(tmp_path / "report.html")]) == 2
    assert capsys.readouterr().err.startswith(f"bench report: {tmp_path}/a.json is no result of a run")
    assert not (tmp_path / "report.html").exists()
