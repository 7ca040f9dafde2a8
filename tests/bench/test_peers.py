"""pure: the order of a run of peers, what its figures say together, its targets, tables and page."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.peers import command, environments, tables
from bench.peers.answers import Reply, is_right, numbers
from bench.peers.catalog import LIMIT, OTHERS, OURS, PEERS, Start, environment
from bench.peers.earlier import RATES
from bench.peers.found import Found, Series
from bench.peers.outcomes import About, Outcome, done, read_outcomes, write_about, write_outcome
from bench.peers.page import page
from bench.peers.plan import KINDS, Cell, Times, cells, duration, left, rotated
from bench.peers.run import shown
from bench.peers.targets import missed, targets
from bench.peers.tree import members, used
from bench.peers.workloads import WORKLOADS
from bench.results import Machine

EVERYTHING = list(PEERS)
NAMES = list(WORKLOADS)


def loaded(peer: str, workload: str, rate: float, rotation: int = 0, **fields: object) -> Outcome:
    figures = {"rate": rate, "p50": 0.001, "p99": 0.01, "alone_p50": 0.001, "alone_p99": 0.002}
    figures |= {"cpu_per_1000": 0.1, "rss": 2**20, "pss": 2**19, "ready": 2.0, "errors": 0, "wrong": 0}
    workers = 2 if workload == "transformer" else 1
    told = {"kind": "load", "peer": peer, "workload": workload, "workers": workers, "rotation": rotation}
    told |= {name: value for name, value in fields.items() if name in ("workers", "variant", "kind")}
    figures |= {name: value for name, value in fields.items() if name not in told}
    return Outcome(**told, figures={name: float(value) for name, value in figures.items()})


def about(**fields: object) -> About:
    told = {
        "started": "2024-05-01T12:00:00+00:00",
        "machine": Machine("a processor", 2, 8 << 30, "6.1", "3.11.9"),
        "commit": "0123456789ab", "is_dirty": False, "generator": "wrk", "rotations": 3, "seconds": 4.0,
        "is_quick": False, "peers": EVERYTHING, "workloads": NAMES, "has_processes": False,
        "versions": {"pipeline": "", "mosec": "0.9.8"}, "torches": {"mosec": "2.13.0"},
        "absent": {"rayserve": "pip failed"},
    }  # fmt: skip
    return About(**told | fields)


class TestPlan:
    def test_every_rotation_measures_the_same_and_begins_with_another(self):
        plan = [each for each in cells(EVERYTHING, ["tiny"], 3, has_processes=False) if each.kind == "load"]
        thirds = [[each for each in plan if each.rotation == n] for n in range(3)]
        things = [{each._replace(rotation=0) for each in third} for third in thirds]
        assert things[0] == things[1] == things[2]
        assert len({third[0].peer for third in thirds}) == 3
        assert [each.peer for each in thirds[0]] == [OURS, OURS, *OTHERS]

    def test_rotated_goes_on_where_it_left_off(self):
        entries = [Cell("load", str(n), "tiny", 1) for n in range(7)]
        order = [[int(each.peer) for each in rotated(entries, by)] for by in range(4)]
        assert order == [
            [0, 1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6, 0, 1], [4, 5, 6, 0, 1, 2, 3], [6, 0, 1, 2, 3, 4, 5]
        ]  # fmt: skip

    def test_ours_has_both_numbers_of_workers_and_its_variants(self):
        found = [each.name for each in cells([OURS], NAMES, 1, has_processes=True) if each.kind == "load"]
        assert found == [
            "load-tiny-pipeline-1-0", "load-tiny-pipeline-2-0", "load-tiny-pipeline-gateways-1-0",
            "load-mlp784-pipeline-1-0", "load-mlp784-pipeline-2-0", "load-mlp784-pipeline-binary-1-0",
            "load-transformer-pipeline-2-0", "load-transformer-limit-2-0", "load-transformer-pipeline-1-0",
        ]  # fmt: skip

    def test_faults_come_once_for_every_server_whose_workload_is_there(self):
        found = [each for each in cells(EVERYTHING, ["mlp784"], 3, has_processes=False) if each.kind in KINDS]
        assert [(each.kind, each.peer) for each in found] == [("neighbours", name) for name in PEERS]

    def test_what_is_done_is_not_measured_again(self):
        plan = cells(["mosec"], ["tiny"], 2, has_processes=False)
        assert [each.name for each in left(plan, ["load-tiny-mosec-1-0"])] == ["load-tiny-mosec-1-1"]

    def test_three_rotations_of_everything_take_less_than_25_minutes(self):
        plan = cells(EVERYTHING, NAMES, 3, has_processes=True)
        assert len({each.name for each in plan}) == len(plan)
        seconds = command._parser().get_default("seconds")
        assert 15 * 60 < duration(plan, Times.of(seconds, is_quick=False)) < 25 * 60


class TestTree:
    def test_members_are_the_roots_and_all_that_descend_from_them(self):
        parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20, 30: 1}
        assert members(parents, {10, 21, 99}) == {10, 11, 12, 21}

    def test_cpu_of_a_new_process_counts_from_its_start_and_one_that_ended_no_more(self):
        assert used({1: 5.0, 2: 3.0}, {1: 6.5, 3: 0.25}) == 1.75


class TestAnswers:
    @pytest.mark.parametrize(
        "document",
        [
            {"y": [1.0, 2.0]},
            [[1.0, 2.0]],
            {"outputs": [{"name": "y", "shape": [1, 2], "data": [1.0, 2.0]}]},
            {"status": True, "message": "1", "result": [1.0, 2.0]},
            {"status": True, "message": "1", "outputs": {"y": {"data": [[1.0, 2.0]]}}},
        ],
    )  # fmt: skip
    def test_a_row_is_read_whatever_the_shape(self, document):
        assert numbers(Reply(200, {}, json.dumps(document).encode())) == [1.0, 2.0]

    def test_a_row_is_read_of_binary(self):
        reply = Reply(200, {"Inference-Header-Content-Length": "2"}, b"{}" + struct.pack("<2f", 1, 2))
        assert numbers(reply) == [1.0, 2.0]

    @pytest.mark.parametrize("body", [b"", b"nothing", b"{}", b'"x"', b'{"status":false,"result":0.0}'])
    def test_what_is_no_answer_has_no_numbers(self, body):
        assert numbers(Reply(200, {}, body)) == []

    def test_right_is_what_is_close_and_all_of_it(self):
        def right(values, status=200):
            return is_right(Reply(status, {}, json.dumps(values).encode()), [1.0, 1000.0])

        assert right([1.0005, 1000.5])
        assert not right([1.01, 1000.0])
        assert not right([1.0])
        assert not right([1.0, 1000.0], status=500)


class TestFound:
    def test_a_ratio_is_the_median_of_each_rotation_s(self):
        outcomes = [loaded(OURS, "tiny", rate, n) for n, rate in enumerate((100, 10, 300))]
        outcomes += [loaded("mosec", "tiny", rate, n) for n, rate in enumerate((50, 10, 100))]
        found = Found(outcomes)
        assert found.typical(Series(OURS, "tiny"), "rate") == 100
        assert found.ratio(Series(OURS, "tiny"), Series("mosec", "tiny"), "rate") == 2

    def test_a_rotation_that_one_of_them_lacks_is_left_out_and_so_is_what_went_wrong(self):
        outcomes = [loaded(OURS, "tiny", 100, 0), loaded(OURS, "tiny", 900, 1), loaded("mosec", "tiny", 50)]
        broken = Outcome(kind="load", peer="mosec", workload="tiny", workers=1, rotation=1, error="gone")
        found = Found([*outcomes, broken])
        assert found.ratio(Series(OURS, "tiny"), Series("mosec", "tiny"), "rate") == 2
        assert found.ratio(Series(OURS, "tiny"), Series("litserve", "tiny"), "rate") is None

    def test_the_other_number_of_workers_and_variants_are_other_things(self):
        outcomes = [loaded(OURS, "tiny", 1), loaded(OURS, "tiny", 2, workers=2)]
        found = Found([*outcomes, loaded(OURS, "tiny", 3, variant="gateways")])
        assert found.typical(Series(OURS, "tiny"), "rate") == 1
        assert found.typical(Series(OURS, "tiny", workers=2), "rate") == 2
        assert found.typical(Series(OURS, "tiny", variant="gateways"), "rate") == 3

    def test_the_best_is_the_highest_or_the_lowest(self):
        found = Found([loaded("mosec", "tiny", 3, ready=9), loaded("bentoml", "tiny", 2, ready=1)])
        every = [Series(name, "tiny") for name in OTHERS]
        assert found.best(every, "rate") == Series("mosec", "tiny")
        assert found.best(every, "ready", is_lowest=True) == Series("bentoml", "tiny")
        assert found.best(every, "nothing") is None


def of_everything() -> list[Outcome]:
    """A run in which ours does as well as it is meant to, or just not: its p99 is 1.2 × Mosec's."""
    rates = {"tiny": 1200, "mlp784": 1500, "transformer": 105}
    outcomes = [loaded(OURS, name, rate, alone_p50=0.0004, ready=1.5) for name, rate in rates.items()]
    outcomes[0] = loaded(OURS, "tiny", 1200, p99=0.012, alone_p50=0.0004, ready=1.5, cpu_per_1000=0.09)
    outcomes.append(loaded(OURS, "mlp784", 1950, variant="binary"))
    outcomes += [loaded("mosec", name, 1000) for name in ("tiny", "mlp784")]
    outcomes += [loaded("mosec", "transformer", 100), loaded(LIMIT, "transformer", 110)]
    outcomes += [loaded("litserve", "tiny", 290), loaded("mlserver", "tiny", 300)]
    faults = {
        "neighbours": {"good": 500, "spoiled": 0}, "kill": {"failed": 2, "requests": 700},
        "overload": {"calm_rate": 100, "crowd_rate": 96},
    }  # fmt: skip
    for kind, figures in faults.items():
        workload = "mlp784" if kind == "neighbours" else "transformer"
        outcomes.append(Outcome(kind=kind, peer=OURS, workload=workload, workers=2, figures=dict(figures)))
    outcomes.append(loaded(OURS, "transformer", 500, kind="zipf", workers=4))
    outcomes.append(loaded("mosec", "transformer", 101, kind="zipf", workers=4))
    return outcomes


class TestTargets:
    def test_each_says_whether_it_is_reached(self):
        found = targets(Found(of_everything()), has_processes=False)
        assert [(each.shown, each.bound, each.verdict, each.note) for each in found] == [
            ("1.20 ×", "≥ 1 ×", "reached", "1.3 × is not reached"),
            ("1.20 ×", "≤ 1 ×", "not reached", ""),
            ("4.00 ×", "≥ 4 ×", "reached", "that is MLServer"),
            ("0.4 ms", "≤ 1 ms", "reached", ""),
            ("0.40 ×", "≤ 0.4 ×", "reached", "that is Mosec"),
            ("1.5 s", "≤ 3 s", "reached", ""),
            ("0.75 ×", "≤ 1 ×", "reached", "that is Mosec"),
            ("0.90 ×", "≤ 1 ×", "reached", ""),
            ("1.50 ×", "≥ 1.5 ×", "reached", ""),
            ("1.30 ×", "≥ 1.3 ×", "reached", ""),
            ("1.05 ×", "≥ 1.05 ×", "reached", "that is Mosec"),
            ("0.95 ×", "≥ 0.95 ×", "reached", ""),
            ("0", "≤ 0", "reached", "of 500"),
            ("4.95 ×", "≥ 5 ×", "not reached", "that is Mosec"),
            ("2", "≤ 0", "not reached", "of 700"),
            ("0.96 ×", "≥ 0.95 ×", "reached", ""),
            ("–", "≤ 0", "not measured", "gw.py has no such flag yet"),
        ]
        assert [each.what[:20] for each in missed(found)] == [
            "its p99, beside Mose", "Zipf(1.1) repeats, 4", "a worker killed unde"
        ]  # fmt: skip

    def test_without_measurements_none_is_reached_or_missed(self):
        assert {each.verdict for each in targets(Found([]), has_processes=True)} == {"not measured"}


class TestPage:
    def test_what_was_measured_earlier_stands_in_a_column_of_its_own(self):
        table = tables.load_table(Found([loaded("mosec", "tiny", 1234.0)]), "tiny")
        head, _, mosec, torchserve, triton = [line.strip("| ").split(" | ") for line in table.splitlines()]
        assert (head[2], head[-1]) == ("requests/s", "measured earlier, requests/s")
        assert (mosec[0], mosec[2], mosec[-1]) == ("Mosec", "1,234", RATES["tiny"]["mosec"])
        assert (torchserve[0], set(torchserve[1:-1]), torchserve[-1]) == ("TorchServe", {"–"}, "5,200")
        assert triton[-1] == "2,420"

    def test_the_fastest_comes_first(self):
        found = Found([loaded("mosec", "tiny", 2), loaded(OURS, "tiny", 1), loaded("litserve", "tiny", 3)])
        first = [line.split(" | ")[0] for line in tables.load_table(found, "tiny").splitlines()[2:5]]
        assert first == ["| LitServe", "| Mosec", "| **Pipeline**"]

    def test_it_has_the_run_s_figures_and_says_what_is_not_reached(self):
        text = page(about(), of_everything(), "img")
        assert "a processor, 2 cores, 8 GiB" in text
        assert "3 rotations, 4 s a load (the transformer's twice that), by wrk" in text
        assert "This run did not reach:\n\n- its p99, beside Mosec's" in text
        assert "| Ray Serve | not installed: pip failed |  |" in text
        assert not re.search(r"\$\w", text)

    def test_a_quick_run_and_a_changed_tree_are_said_to_be_so(self):
        text = page(about(is_quick=True, is_dirty=True), [], "img")
        assert "It was a quick run" in text
        assert "`0123456789ab` with changes" in text
        assert "This run reached every target" in text

    def test_what_went_wrong_is_said(self):
        broken = Outcome(
            kind="kill", peer="mosec", workload="transformer", workers=2, error="RuntimeError: no"
        )
        assert "- Mosec, transformer, kill: RuntimeError: no" in page(about(), [broken], "img")


class TestFolder:
    def test_what_went_wrong_is_tried_again(self, tmp_path: Path):
        write_outcome(loaded(OURS, "tiny", 1), tmp_path, "a")
        write_outcome(Outcome(kind="load", peer=OURS, workload="tiny", workers=1, error="no"), tmp_path, "b")
        assert list(done(read_outcomes(tmp_path))) == ["a"]

    def test_the_table_and_the_page_are_made_of_a_folder_alone(self, tmp_path, capsys):
        pytest.importorskip("matplotlib", reason="it comes with the extra bench")
        write_about(about(absent={}), tmp_path)
        for n, outcome in enumerate(of_everything()):
            write_outcome(outcome, tmp_path, f"{n}")
        path = tmp_path / "docs" / "performance.md"
        path.parent.mkdir()
        assert main(["peers", "--table", "--results", str(tmp_path), "--write", str(path)]) == 0
        assert "| 1.20 × (1.3 × is not reached) | reached |" in capsys.readouterr().out
        images = re.findall(r"\]\((img/[\w.-]+)\)", path.read_text())
        assert len(images) == 3
        for image in images:
            assert (path.parent / image).read_text().startswith("<?xml")

    @pytest.mark.parametrize(
        ("flags", "sentence"),
        [
            (["--only", "mosec,nobody"], "there are no servers nobody: allowed are pipeline, mosec"),
            (["--workloads", "huge"], "there are no workloads huge: allowed are tiny, mlp784, transformer"),
            (["--rotations", "0"], "rotations and seconds are 1 or more"),
            (["--table"], "there is no run in"),
        ],
    )
    def test_what_makes_no_sense_is_said(self, tmp_path, capsys, flags, sentence):
        assert main(["peers", "--results", str(tmp_path), *flags]) == 2
        assert sentence in capsys.readouterr().err

    def test_a_run_is_gone_on_with_only_as_it_was_begun(self, tmp_path, capsys):
        write_about(about(), tmp_path)
        assert main(["peers", "--only", OURS, "--results", str(tmp_path)]) == 2
        assert "has a run with commit 0123456789ab, and this is one with" in capsys.readouterr().err

    def test_what_is_gone_on_with_has_the_servers_of_both(self):
        first = about(peers=["mosec", "rayserve"], workloads=["tiny"], absent={"rayserve": "pip failed"})
        later = about(peers=["rayserve"], workloads=["mlp784"], versions={"rayserve": "2.60.0"}, absent={})
        both = first.joined(later)
        assert (both.peers, both.workloads, both.absent) == (["mosec", "rayserve"], ["tiny", "mlp784"], {})
        assert both.versions == {"pipeline": "", "mosec": "0.9.8", "rayserve": "2.60.0"}

    def test_a_file_of_something_else_is_named(self, tmp_path, capsys):
        write_about(about(), tmp_path)
        (tmp_path / "x.json").write_text("[]")
        assert main(["peers", "--table", "--results", str(tmp_path)]) == 2
        assert f"{tmp_path}/x.json is no file of a run of peers" in capsys.readouterr().err


class TestServers:
    def test_other_requirements_want_another_environment(self, tmp_path):
        peer = PEERS["mosec"]
        (tmp_path / "mosec").mkdir()
        (tmp_path / "mosec" / "installed").write_text(environments._digest(peer.requirements))
        assert environments.is_installed(peer, tmp_path)
        (tmp_path / "mosec" / "installed").write_text("of something else")
        assert not environments.is_installed(peer, tmp_path)
        assert environments.is_installed(PEERS[OURS], tmp_path)  # which is this one

    @pytest.mark.parametrize("name", OTHERS)
    def test_every_version_is_pinned_and_torch_is_the_same(self, name):
        lines = PEERS[name].requirements.read_text().splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert "torch==2.13.0" in pins
        assert [pin for pin in pins if "==" not in pin] == (["uvloop<0.22"] if name == "mlserver" else [])

    @pytest.mark.parametrize("name", PEERS)
    def test_every_service_is_told_its_port_and_workers(self, name):
        start = Start("/env/bin/python", "tiny", 3, 4321, Path("/programs"), Path("/own"))
        told = [*PEERS[name].command(start), *(f"{k}={v}" for k, v in environment(start).items())]
        assert told[0] == "/env/bin/python"
        assert "4321" in " ".join(told)
        assert {"BENCH_WORKERS=3", "BENCH_WORKLOAD=tiny", "OMP_NUM_THREADS=1"} < set(told)

    def test_a_measurement_is_said_in_a_few_words(self):
        assert shown(loaded(OURS, "tiny", 1234.0)) == "1,234 a second"
        assert shown(loaded(OURS, "tiny", 1.0, wrong=3)) == "1 a second, 3 wrong answers"
        broken = Outcome(kind="load", peer=OURS, workload="tiny", workers=1, error="it fell\nover")
        assert shown(broken) == "not measured: it fell"
