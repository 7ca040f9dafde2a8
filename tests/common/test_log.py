"""Pure: common/log.py, but for what `configure` sets up, which is read back from stderr."""

import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.log import LineFormatter, OncePer, configure, event

LOGGER = logging.getLogger("pipeline.test")


def line(text: str, level: int = logging.INFO) -> str:
    record = logging.LogRecord("pipeline.fleet", level, "", 0, text, None, None)
    record.created = 1795248000.1239
    return LineFormatter().format(record)


def test_a_line_says_when_how_bad_who_and_what() -> None:
    assert line("worker joined") == "2026-11-21T08:00:00.123Z INFO  pipeline.fleet worker joined"
    assert line("x", logging.WARNING) == "2026-11-21T08:00:00.123Z WARN  pipeline.fleet x"
    assert line("x", logging.ERROR) == "2026-11-21T08:00:00.123Z ERROR pipeline.fleet x"


def test_an_event_is_its_text_and_its_fields_in_order(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    event(LOGGER, logging.INFO, "worker joined", worker="abc", name="a b", rows=3, seconds=0.1 + 0.2)
    assert caplog.messages == ['worker joined worker=abc name="a b" rows=3 seconds=0.3']


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("", '""'),
        ("a=b", '"a=b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("C:\\temp", '"C:\\\\temp"'),
        ("two\nlines\r", '"two\\nlines\\r"'),
        ("\x1b[31mred", '"\\x1b[31mred"'),
        ("\u2028", '"\\u2028"'),
        ("\ud800", '"\\ud800"'),
        ("größe", "größe"),
        (None, "None"),
        (True, "True"),
        (ValueError("no good"), '"ValueError: no good"'),
    ],
)
def test_a_value_is_quoted_where_it_could_be_misread(
    caplog: pytest.LogCaptureFixture, value: object, written: str
) -> None:
    caplog.set_level(logging.INFO)
    event(LOGGER, logging.INFO, "x", value=value)
    assert caplog.messages == [f"x value={written}"]


def test_fields_may_be_called_like_the_parameters(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    event(LOGGER, logging.INFO, "x", logger=1, level=2, text=3)
    assert caplog.messages == ["x logger=1 level=2 text=3"]


def test_percent_signs_are_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    event(LOGGER, logging.INFO, "100%s", share="5%d")
    assert caplog.messages == ["100%s share=5%d"]


def test_a_long_field_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    event(LOGGER, logging.INFO, "bad frame", frame="A" * 10_000_000)
    assert caplog.messages == [f"bad frame frame={'A' * 4000}…"]


@given(st.text())
def test_whatever_is_logged_is_one_line_of_printable_text(text: str) -> None:
    written = line(text)
    assert len(written.splitlines()) == 1
    assert written.isprintable()


def test_a_stack_trace_is_a_field_of_the_same_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        LOGGER.exception("it broke")
    (written,) = capsys.readouterr().err.splitlines()
    assert ' ERROR pipeline.test it broke trace="Traceback (most recent call last):\\n' in written
    assert written.endswith('RuntimeError: boom"')


def test_as_json_a_line_is_an_object_whose_fields_keep_their_kinds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("info", "json")
    fields = {"worker": "größe\u2028", "rows": 3, "seconds": 0.1 + 0.2, "is_new": True, "none": None}
    event(
        LOGGER, logging.INFO, "worker joined", **fields, error=ValueError("no"), time="mine", n=float("inf")
    )
    (written,) = capsys.readouterr().err.splitlines()
    assert written.isascii()
    told = json.loads(written)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z", told.pop("time"))
    assert told == {
        "level": "INFO", "logger": "pipeline.test", "event": "worker joined", "worker": "größe\u2028",
        "rows": 3, "seconds": 0.3, "is_new": True, "none": None, "error": "ValueError: no", "n": "inf",
    }  # fmt: skip


def test_as_json_a_stack_trace_is_a_field_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        LOGGER.exception("%s broke", "it")
    told = json.loads(capsys.readouterr().err)
    assert told["event"] == "it broke"
    assert told["trace"].endswith("RuntimeError: boom")


@pytest.mark.parametrize("style", ["text", "json"])
def test_what_is_called_a_secret_is_not_told(capsys: pytest.CaptureFixture[str], style: str) -> None:
    configure("info", style)
    event(LOGGER, logging.INFO, "x", fleet_token="abc123", password="abc123", rows=1)
    written = capsys.readouterr().err
    assert "abc123" not in written
    assert "fleet_token" in written


def test_configure_shows_ours_at_the_level_and_warnings_of_everything_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("debug")
    LOGGER.debug("ours")
    logging.getLogger("hypercorn").info("hidden")
    logging.getLogger("hypercorn").warning("shown")
    out, err = capsys.readouterr()
    assert out == ""
    assert [re.sub(r"^\S+Z ", "", each) for each in err.splitlines()] == [
        "DEBUG pipeline.test ours",
        "WARN  hypercorn shown",
    ]


def test_configuring_again_replaces_and_never_doubles(capsys: pytest.CaptureFixture[str]) -> None:
    configure("debug")
    configure("error")
    LOGGER.warning("hidden")
    LOGGER.error("shown")
    assert capsys.readouterr().err.count("\n") == 1


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^'loud' is not a log level: use debug, info, warning or error$"):
        configure("loud")


def test_an_event_below_the_level_costs_no_formatting() -> None:
    class Explosive:
        def __str__(self) -> str:
            raise AssertionError("formatted for nothing")

    logging.getLogger("pipeline").setLevel(logging.ERROR)
    event(LOGGER, logging.INFO, "x", value=Explosive())


def test_the_gate_lets_one_through_and_counts_what_it_swallowed() -> None:
    gate = OncePer(10.0)
    assert gate.allow("a", 0.0) == 0
    assert [gate.allow("a", now) for now in (0.0, 5.0, 9.9)] == [None, None, None]
    assert gate.allow("a", 10.0) == 3
    assert gate.allow("a", 20.0) == 0


def test_keys_do_not_hold_each_other_back() -> None:
    gate = OncePer(10.0)
    assert (gate.allow("a", 0.0), gate.allow("b", 0.0), gate.allow("a", 1.0)) == (0, 0, None)


def test_a_flood_of_new_keys_is_held_back_in_bounded_memory() -> None:
    gate = OncePer(10.0, max_keys=3)
    allowed = [gate.allow(f"key {number}", number / 1000) for number in range(1000)]
    assert (
        allowed == [0, 0, 0, 0] + [None] * 996
    )  # three keys of their own, and the one that all others share
    assert len(gate._gates) == 3
    assert gate.allow("another", 10.003) == 0  # the oldest key's time is over, so this one takes its place


def test_keys_beyond_the_bound_are_counted_together() -> None:
    gate = OncePer(10.0, max_keys=1)
    assert gate.allow("a", 0.0) == 0
    assert [gate.allow(key, 1.0) for key in "bcd"] == [0, None, None]
    assert gate.allow("a", 10.5) == 0  # fresh again, so the others go on sharing
    assert gate.allow("b", 11.0) == 2
