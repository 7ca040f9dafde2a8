"""Pure: common/model_file.py. Every mistake in a model.toml is a sentence with the file and the line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.model_file import (
    MAX_CHARACTERS,
    ModelSettingsError,
    find_line,
    read_model_settings,
    settings_of,
)
from common.models import ModelInput, ModelSettings

FILE = "models/iris/model.toml"
ALLOWED = (
    "allowed are runtime, architecture, arguments, inputs, input_type, output_type, image, text, audio,"
    " output, labels, max_batch, max_wait_ms, queue_max, timeout, cache_size, round_decimals, instances,"
    " warmup_rows, device, keep_versions, affinity"
)
BAD_LABELS = "labels should be a list of up to 32768 texts of 1 to 1000 characters, not"


def mistakes(text: str) -> list[str]:
    with pytest.raises(ModelSettingsError) as caught:
        read_model_settings(text, file=FILE)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    assert all(each.startswith(f"{FILE}:") for each in caught.value.mistakes)
    return [each.removeprefix(f"{FILE}:") for each in caught.value.mistakes]


def test_an_empty_file_is_all_defaults() -> None:
    assert read_model_settings("", file=FILE) == ModelSettings()


def test_everything_can_be_said() -> None:
    text = """
        runtime = "torch"
        architecture = "mlp"
        input_type = "tensor"
        labels = ["setosa", "virginica"]
        max_batch = 64
        max_wait_ms = 2
        queue_max = 100
        timeout = 3
        cache_size = 0
        round_decimals = 4
        instances = 2
        warmup_rows = [[1, 2], [3.5, 4]]
        device = "cuda:1"
        keep_versions = 3
        affinity = false

        [arguments]
        hidden = [20, 20]

        [[inputs]]
        name = "vector"
        datatype = "FP64"
        shape = [-1]
    """
    assert read_model_settings(text, file=FILE) == ModelSettings(
        runtime="torch",
        architecture="mlp",
        arguments={"hidden": [20, 20]},
        inputs=(ModelInput(name="vector", datatype="FP64", shape=(-1,)),),
        labels=("setosa", "virginica"),
        max_batch=64,
        max_wait_ms=2.0,
        queue_max=100,
        timeout=3.0,
        cache_size=0,
        round_decimals=4,
        instances=2,
        warmup_rows=((1.0, 2.0), (3.5, 4.0)),
        device="cuda:1",
        keep_versions=3,
        affinity=False,
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('max_batch = "many"', 'max_batch should be a whole number from 1 to 65536, not "many"'),
        ("max_batch = 0", "max_batch should be a whole number from 1 to 65536, not 0"),
        ("max_batch = true", "max_batch should be a whole number from 1 to 65536, not true"),
        ("max_wait_ms = -1", "max_wait_ms should be a number of milliseconds from 0 to 60000, not -1"),
        ("timeout = nan", "timeout should be a number of seconds above 0, at most 3600, not NaN"),
        ("queue_max = 1.5", "queue_max should be a whole number from 1 to 10000000, not 1.5"),
        ("cache_size = -1", "cache_size should be a whole number from 0 to 1000000000, not -1"),
        ("round_decimals = 16", "round_decimals should be a whole number from 0 to 15, not 16"),
        ("instances = 10001", "instances should be a whole number from 1 to 10000, not 10001"),
        ("keep_versions = 0", "keep_versions should be a whole number from 1 to 100, not 0"),
        ("affinity = 1", "affinity should be true or false, not 1"),
        ("device = 'gpu'", 'device should be one of auto, cpu, cuda, cuda:0, cuda:1, …, not "gpu"'),
        (
            "labels = ['a', '']",
            'labels should be a list of up to 32768 texts of 1 to 1000 characters, not ["a", ""]',
        ),
        (
            "input_type = 'sound'",
            'input_type should be one of tensor, vector, image, text, audio, json, not "sound"',
        ),
        ("image = 3", "image should be a table, not 3"),
        (
            "image.size = [0, 9]",
            "image.size should be a list of height and width, whole numbers from 1 to 16384, not [0, 9]",
        ),
        ("image.scale = nan", "image.scale should be a number from -1e9 to 1e9, not NaN"),
        (
            "text.tokenizer = '../t.json'",
            'text.tokenizer should be the name of a file beside the model, or nothing, not "../t.json"',
        ),
        (
            "output.pool = 'mean'",
            "there is no setting output.pool (did you mean pooling?): allowed are name, activation, top_n,"
            " pixels, palette, scale, fit, boxes, labels, scores, box_format, fractions, threshold,"
            " max_detections, pooling, normalise",
        ),
        ("architecture = 'a b'", 'architecture should be the name of a network, not "a b"'),
        (
            "runtime = 'onxn'",
            "runtime should be one of torch, torchscript, torch_export, safetensors, sklearn, pickle, onnx,"
            ' xgboost, lightgbm, python, not "onxn"',
        ),
        (
            "warmup_rows = [[inf]]",
            "warmup_rows should be a whole number from 0 to 1024, or a list of up to 1024 rows: lists of"
            " finite numbers, not [[Infinity]]",
        ),
        (
            "arguments = {since = 2020-01-01}",
            "arguments should be a table of text, finite numbers of up to 64 bits, true, false, lists and"
            ' tables, up to 32 deep, not {"since": "2020-01-01"}',
        ),
        ("inputs = 'x'", 'inputs should be a list of tables, not "x"'),
        (
            f"labels = '{'x' * 100}'",
            f'labels should be a list of up to 32768 texts of 1 to 1000 characters, not "{"x" * 59}…',
        ),
        ("max-batch = 3", f"there is no setting max-batch (did you mean max_batch?): {ALLOWED}"),
        ("Max_Bacth = 3", f"there is no setting Max_Bacth (did you mean max_batch?): {ALLOWED}"),
        ("colour = 3", f"there is no setting colour: {ALLOWED}"),
    ],
)
def test_a_mistake_is_a_sentence_with_its_line_and_what_is_allowed(line: str, sentence: str) -> None:
    assert mistakes(f"# iris\n\n{line}\n") == [f"3: {sentence}"]


def test_mistakes_within_inputs_name_the_input_and_its_line() -> None:
    text = """[[inputs]]
name = "x"
shape = [-1, 0]

[[inputs]]
name = "x"
datatype = "FP31"
shpae = [3]
"""
    shape = "a list of up to 8 whole numbers: the lengths of one row, -1 for any"
    datatypes = (
        "BOOL, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FP16, BF16, FP32, FP64, BYTES"
    )
    assert mistakes(text) == [
        f"3: inputs[0].shape should be {shape}, not [-1, 0]",
        f"5: inputs[1] has no shape: it should be {shape}",
        '6: two inputs are called "x": names should differ',
        f'7: inputs[1].datatype should be one of {datatypes}, not "FP31"',
        "8: there is no setting inputs[1].shpae (did you mean shape?): allowed are name, datatype, shape",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("max_batch =\n", "1: this is not TOML: invalid value (column 12)"),
        ("\nmax_batch = 1 2\n", "2: this is not TOML: expected newline or end of document after a statement"
         " (column 15)"),
        ('a = 1\nb = """x\n\n', "2: this is not TOML: unterminated string at the end of the file"),
        (f"a = {'[' * 100_000}", "1: this is not TOML: it is nested too deeply"),
        ("#" * (MAX_CHARACTERS + 1), f"1: this is longer than {MAX_CHARACTERS} characters"),
    ],
)  # fmt: skip
def test_what_is_not_toml_is_a_sentence_with_its_line(text: str, sentence: str) -> None:
    assert mistakes(text) == [sentence]


def test_every_mistake_is_told_in_the_order_of_its_line() -> None:
    told = mistakes("timeout = 0\ninstances = 0\ncolour = 1\nmax_batch = 0\n")
    assert [each.split(":")[0] for each in told] == ["1", "2", "3", "4"]


def test_a_value_over_several_lines_is_found_where_it_begins() -> None:
    assert mistakes('max_batch = 3\nlabels = [\n  "labels = 1",\n  "",\n]\n')[0].startswith(
        "2: labels should"
    )


def test_text_that_looks_like_a_key_is_none() -> None:
    text = 'architecture = """\nmax_batch = 3\n"""\nmax_batch = 0 # max_batch = 0\n# max_batch = 0\n'
    assert [each.split(" ")[:2] for each in mistakes(text)] == [["1:", "architecture"], ["4:", "max_batch"]]


@pytest.mark.parametrize("key", ['"max_batch"', "'max_batch'"])
def test_a_quoted_key_is_found_too(key: str) -> None:
    assert mistakes(f"\n{key} = 0")[0].startswith("2: max_batch should be")


def test_a_key_that_is_written_with_escapes_still_has_its_sentence() -> None:
    assert mistakes('\n"max_\\u0062atch" = 0')[0].startswith("1: max_batch should be")


NAMES = st.sampled_from(["a", "ab", "b", "max_batch", "labels"])
VALUES = st.sampled_from(
    [
        "1",
        '"a = 1"',
        '"""\na = 1\n"""',
        '[\n  1,\n  "a",\n]',
        "{ a = 1, b = 2 }",
        "2020-01-01",
        "'''a\nb = 1'''",
    ]
)
LINES = st.one_of(
    st.tuples(st.just("key"), NAMES, VALUES),
    st.tuples(st.just("other"), st.sampled_from(["", "# a = 1", "   # labels"]), st.just("")),
)


@given(st.lists(LINES, max_size=12), st.data())
def test_the_line_found_is_the_one_the_key_was_written_on(
    written: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    text, lines = "", dict[str, int]()
    for kind, name, value in written:
        if kind == "key" and name not in lines:
            lines[name] = text.count("\n") + 1
            text += f"{name} = {value}\n"
        elif kind == "other":
            text += f"{name}\n"
    if lines:
        name = data.draw(st.sampled_from(sorted(lines)))
        assert find_line(text, (name,)) == lines[name]


TOML = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.floats(), st.text('ax1"=#\\\n é', max_size=5)),
    lambda each: st.lists(each, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([*ModelSettings.__struct_fields__, "name", "colour"])


@settings(deadline=None)
@given(st.dictionaries(KEYS, TOML, max_size=5))
def test_whatever_a_file_says_it_is_settings_or_sentences(said: dict[str, Any]) -> None:
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in said.items())
    try:
        read_model_settings(text, file=FILE)
    except ModelSettingsError as error:
        lines = [int(each.split(":")[1]) for each in error.mistakes]
        assert lines == sorted(lines)
        assert all(1 <= line <= len(said) for line in lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value if not 0xD800 <= ord(c) < 0xE000) + '"'
    return repr(value)


# --- the same as JSON


def test_a_table_is_read_as_a_file_is() -> None:
    assert settings_of({}) == ModelSettings()
    table = {"max_batch": 8, "labels": ["a", "b"], "timeout": None, "inputs": [{"name": "x", "shape": [2]}]}
    assert settings_of(table) == ModelSettings(
        max_batch=8, labels=("a", "b"), inputs=(ModelInput(name="x", shape=(2,)),)
    )


@pytest.mark.parametrize(
    ("table", "sentences"),
    [
        ({"max_batch": 0}, ["max_batch should be a whole number from 1 to 65536, not 0"]),
        ({"max_batch": None}, ["max_batch should be a whole number from 1 to 65536, not null"]),
        ({"max_batch": True}, ["max_batch should be a whole number from 1 to 65536, not true"]),
        (
            {"max_bacth": 3, "timeout": -1},
            [
                f"there is no setting max_bacth (did you mean max_batch?): {ALLOWED}",
                "timeout should be a number of seconds above 0, at most 3600, not -1",
            ],
        ),
        (
            {"inputs": [{"name": "x"}]},
            [
                "inputs[0] has no shape: it should be a list of up to 8 whole numbers: the"
                " lengths of one row, -1 for any"
            ],
        ),
        ({"labels": "abc"}, [f'{BAD_LABELS} "abc"']),
        ({"labels": [1]}, [f"{BAD_LABELS} [1]"]),
        ({"labels": ["a" * 1001]}, [f'{BAD_LABELS} ["{"a" * 58}…']),
        ({"labels": ["a"] * 32_769}, [f"{BAD_LABELS} [" + '"a", ' * 11 + '"a",…']),
    ],
)
def test_mistakes_in_a_table_are_the_same_sentences_without_a_place(
    table: dict[str, Any], sentences: list[str]
) -> None:
    with pytest.raises(ModelSettingsError) as caught:
        settings_of(table)
    assert caught.value.mistakes == sentences


def test_the_most_labels_and_the_longest_are_taken() -> None:
    assert len(settings_of({"labels": ["x" * 1000] * 32_768}).labels) == 32_768
