"""pure, but for files: results beside each other, of runs whose distributions are known."""

from __future__ import annotations

import pytest

from bench.compare import main
from bench.comparing import compare, grouped
from bench.results import Kept, Times, write_result
from tests.bench.runs import made_run


@pytest.fixture
def compared(tmp_path, capsys):
    """Writes runs, compares them, and returns what was printed as lines."""

    def compared(*runs, options=()):
        paths = [tmp_path / f"{n}.json" for n in range(len(runs))]
        for run, path in zip(runs, paths, strict=True):
            write_result(run, path)
        assert main([*options, *map(str, paths)]) == 0
        return capsys.readouterr().out.splitlines()

    return compared


def verdicts(first, second, **how):
    return {each.quantity.name: each.verdict for each in compare(first, second, **how)}


def test_the_same_distribution_shows_no_difference():
    found = verdicts([made_run(1)], [made_run(2)])
    for name in ("answered", "goodput", "p50", "p90", "p99", "p99.9"):
        assert found[name] == "no difference shown"
    assert found["errors"] == "none in either"
    assert found["CPU per 1,000"] == "too little to say"  # one run has one of it


def test_a_slower_run_is_worse_and_a_faster_one_better():
    slow, fast = made_run(1, median=0.015, rate=150), made_run(2)
    assert verdicts([slow], [fast])["p99"] == verdicts([slow], [fast])["answered"] == "better"
    assert verdicts([fast], [slow])["p50"] == verdicts([fast], [slow])["goodput"] == "worse"


def test_the_ratio_is_that_of_the_two_figures_and_its_interval_holds_the_true_one():
    one, other = made_run(1), made_run(2, median=0.013)
    (p50,) = [each for each in compare([one], [other]) if each.quantity.name == "p50"]
    assert p50.ratio.ratio == pytest.approx(other.latency.p50 / one.latency.p50)
    assert p50.ratio.low <= 1.3 <= p50.ratio.high
    assert p50.ratio.high / p50.ratio.low < 1.1


def test_a_difference_finer_than_the_buckets_of_latency_is_not_shown_by_one_run_of_each():
    runs = [[made_run(1, median=median, spread=0.001)] for median in (0.01, 0.0102, 0.0108)]
    for first, second, verdict in ((0, 1, "no difference shown"), (0, 2, "worse"), (2, 0, "better")):
        found = {each.quantity.name: each for each in compare(runs[first], runs[second])}
        assert found["p50"].verdict == verdict
        assert found["p50"].ratio.low < found["p50"].ratio.ratio < found["p50"].ratio.high


def test_two_seconds_of_stall_make_a_p99_that_nobody_can_be_sure_of():
    found = {each.quantity.name: each for each in compare([made_run(1)], [made_run(2, stall=(10, 12))])}
    assert found["p99"].ratio.ratio > 25
    assert found["p99"].ratio.low < 2
    assert found["p50"].ratio.high < 1.5


def test_repeats_make_every_figure_comparable():
    first = [made_run(n, cpu_per_1000=0.1 + 0.001 * n) for n in range(3)]
    second = [made_run(n + 9, cpu_per_1000=0.2 + 0.001 * n) for n in range(3)]
    assert verdicts(first, second)["CPU per 1,000"] == "worse"
    assert verdicts(first, second, are_paired=True)["CPU per 1,000"] == "worse"
    assert verdicts(first, first)["CPU per 1,000"] == "no difference shown"


def test_a_run_without_an_answer_has_no_latency():
    none = made_run(2, answered=0, latency=Times(), errors={"503": 9}, requests=9, goodput=0.0)
    assert set(verdicts([made_run(1)], [none])) == {"answered", "goodput", "errors", "CPU per 1,000"}


def test_too_short_a_run_says_nothing():
    assert verdicts([made_run(1, duration=3)], [made_run(2, duration=3)])["p99"] == "too little to say"


def test_errors_are_a_share_of_the_requests():
    some = made_run(1, errors={"503": 60}, requests=6060)
    found = {each.quantity.name: each for each in compare([made_run(2)], [some])}
    assert found["errors"].second == pytest.approx(0.0099, abs=1e-4)
    assert found["errors"].verdict == "none in one"


def test_files_are_grouped_by_their_runs_names_or_else_by_their_own(tmp_path):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    assert list(grouped([(a, made_run(1, name="x")), (b, made_run(2, name="y"))])) == ["x", "y"]
    assert list(grouped([(a, made_run(1)), (b, made_run(2))])) == ["a", "b"]
    rates = [(a, made_run(1, name="x", rate=100)), (b, made_run(2, name="x", rate=200))]
    assert list(grouped(rates)) == ["x at 100/s", "x at 200/s"]
    namesakes = [(a, made_run(1)), (tmp_path / "c" / "a.json", made_run(2))]
    assert list(grouped(namesakes)) == [str(path) for path, _ in namesakes]


def test_the_table_has_a_line_for_each_figure_and_says_what_it_was_made_of(compared):
    lines = compared(made_run(1, name="old"), made_run(2, name="new"))
    assert lines[0].split() == ["old", "new", "ratio", "95", "%"]
    assert lines[1].startswith("answered")
    assert lines[1].endswith("no difference shown")
    assert [line.split("  ")[0] for line in lines[2:9]] == [
        "goodput", "p50", "p90", "p99", "p99.9", "errors", "CPU per 1,000"
    ]  # fmt: skip
    said = "One run of old, new: intervals are of its seconds, another run may differ by more."
    assert lines[-1] == said


def test_what_makes_a_comparison_unfair_is_said(compared):
    late = Kept(is_kept=False, sentence="the schedule was not kept: 9 requests were never sent")
    text = "\n".join(compared(made_run(1, name="old"), made_run(2, name="new", rate=300, kept_schedule=late)))
    assert "new: the schedule was not kept: 9 requests were never sent. Latencies are left out." in text
    assert [line.split()[0] for line in text.splitlines()[1:4]] == ["answered", "errors", "CPU"]
    assert "These runs differ in offered rate: 200/s, 300/s." in text
    assert "differ in machine" not in text


def test_every_other_thing_is_beside_the_first(compared):
    lines = compared(*(made_run(n, name=name) for n, name in enumerate("abcabc")))
    assert [line.split()[:2] for line in lines if "ratio" in line] == [["a", "b"], ["a", "c"]]


@pytest.mark.parametrize(
    ("names", "options", "problem"),
    [
        (["a"], [], "there is nothing to compare: give the results of two runs or more"),
        (["a", "b", "b"], ["--paired"], "pairs need as many runs of each: a has 1, b 2"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_sentence(names, options, problem, tmp_path, capsys):
    paths = []
    for n, name in enumerate(names):
        paths.append(tmp_path / f"{n}.json")
        write_result(made_run(n, name=name, duration=6), paths[-1])
    assert main([*options, *map(str, paths)]) == 2
    assert capsys.readouterr().err == f"bench compare: {problem}\n"


def test_a_file_that_is_no_result_is_said_so(tmp_path, capsys):
    (tmp_path / "a.json").write_text("{}")
    assert main([str(tmp_path / "a.json")]) == 2
    assert "a.json is no result of a run" in capsys.readouterr().err
