"""Pure: models/repository.py: what a listing of a folder means, what is wrong with it, and what changed."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.models import RUNTIMES, ModelSettings
from gateway.models.repository import (
    Changes,
    Look,
    Model,
    Reading,
    Settling,
    Stamp,
    Version,
    changes,
    read,
    version_order,
)

BAD_NAME = "has up to 64 of a-z, 0-9 and . _ -, and does not begin with a dot"
ONE_FILE = "a version has exactly one file called model.*, and"


def look(*files: str, settings: dict[str, bytes] | None = None, **how: Any) -> Look:
    """What is seen of a folder with these files; one that ends with a slash is an empty folder."""
    seen: dict[str, Stamp | None] = {}
    for path in [*files, *(f"{name}/model.toml" for name in settings or {})]:
        parts = path.rstrip("/").split("/")
        for depth in range(1, len(parts)):
            seen["/".join(parts[:depth])] = None
        seen["/".join(parts)] = None if path.endswith("/") else Stamp(10, 1)
    return Look(seen, settings or {}, **how)


def read_it(seen: Look, **how: Any) -> Reading:
    return read(seen, folder="models", **how)


def versions(reading: Reading) -> dict[str, list[str]]:
    return {name: [each.name for each in model.versions] for name, model in reading.models.items()}


def test_a_folder_gives_models_with_their_versions_and_settings() -> None:
    reading = read_it(
        look("iris/1/model.onnx", "iris/2/model.pt", settings={"iris": b'architecture = "mlp"\n'})
    )
    one = Version("1", "iris/1/model.onnx", "onnx", Stamp(10, 1))
    two = Version("2", "iris/2/model.pt", "torch", Stamp(10, 1))
    assert reading == Reading({"iris": Model("iris", ModelSettings(architecture="mlp"), (one, two))})


def test_versions_come_oldest_first_and_the_newest_are_kept() -> None:
    names = ["10", "9", "1", "v2", "v10", "1.10", "1.9"]
    reading = read_it(
        look(*(f"iris/{name}/model.onnx" for name in names), settings={"iris": b"keep_versions = 3"})
    )
    assert versions(reading) == {"iris": ["1", "1.9", "1.10", "9", "10", "v2", "v10"]}
    assert [each.name for each in reading.models["iris"].kept] == ["10", "v2", "v10"]


@given(st.lists(st.text("0123456789.-vab²é", max_size=6), unique=True))
def test_versions_have_one_order_whatever_their_names(names: list[str]) -> None:
    shuffled = random.Random(1).sample(names, len(names))
    assert sorted(shuffled, key=version_order) == sorted(names, key=version_order)
    assert len({version_order(name) for name in names}) == len(names)


@given(st.lists(st.integers(0, 10**30), unique=True))
def test_numbers_are_in_the_order_of_numbers(numbers: list[int]) -> None:
    assert sorted(map(str, numbers), key=version_order) == list(map(str, sorted(numbers)))


def test_a_runtime_that_settings_name_needs_no_known_ending() -> None:
    reading = read_it(look("iris/1/model.bin", settings={"iris": b'runtime = "onnx"'}))
    assert reading.models["iris"].versions[0].runtime == "onnx"


def test_what_is_beside_models_is_nobodys_mistake() -> None:
    seen = look(
        "README.md", ".git/config", "iris/notes.txt", "iris/.old/x", "iris/1/model.onnx", "iris/1/labels.txt"
    )
    assert read_it(seen).problems == ()  # fmt: skip
    assert versions(read_it(seen)) == {"iris": ["1"]}


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (
            ["Iris/1/model.onnx"],
            f"models/Iris: the name of a model {BAD_NAME}",
        ),
        (
            ["wine/V1/model.onnx", "wine/1/model.onnx"],
            f"models/wine/V1: the name of a version {BAD_NAME}",
        ),
        (["wine/"], "models/wine: there is no version: the model goes into a folder like 1/model.onnx"),
        (
            ["wine/model.onnx"],
            "models/wine/model.onnx: a model goes into its version's folder, like wine/1/model.onnx",
        ),
        (["wine/1/"], f"models/wine/1: {ONE_FILE} there is none"),
        (
            ["wine/1/model.pt", "wine/1/model.onnx"],
            f"models/wine/1: {ONE_FILE} there are model.onnx, model.pt",
        ),
        (["wine/1/model.onnx/"], "models/wine/1/model.onnx: the model should be a file, not a folder"),
        (
            ["wine/1/model.zip"],
            "models/wine/1/model.zip: no runtime is known by the ending .zip: say runtime in"
            f" models/wine/model.toml, one of {', '.join(RUNTIMES)}",
        ),
    ],
)
def test_a_mistake_is_a_sentence_and_the_other_models_serve(files: list[str], problem: str) -> None:
    reading = read_it(look("iris/1/model.onnx", *files))
    assert reading.problems == (problem,)
    assert versions(reading)["iris"] == ["1"]


def test_wrong_settings_hold_their_model_and_no_other() -> None:
    reading = read_it(
        look(
            "iris/1/model.onnx", "wine/1/model.onnx", settings={"wine": b"max_batch = 1\ncolour = 1\nz = 1\n"}
        )
    )
    assert versions(reading) == {"iris": ["1"]}
    assert [each.split(" (")[0].split(": allowed")[0] for each in reading.problems] == [
        "models/wine/model.toml:2: there is no setting colour",
        "models/wine/model.toml:3: there is no setting z",
    ]
    assert reading.held == {("wine", "")}


def test_settings_that_are_no_text_are_a_sentence_with_the_line() -> None:
    reading = read_it(look("iris/1/model.onnx", settings={"iris": b"max_batch = 1\n# \xff\n"}))
    assert reading.problems == ("models/iris/model.toml:2: this is not UTF-8 text",)


def test_a_byte_order_mark_is_no_mistake() -> None:
    reading = read_it(look("iris/1/model.onnx", settings={"iris": "\ufeffmax_batch = 7".encode()}))
    assert reading.models["iris"].settings.max_batch == 7


@pytest.mark.parametrize("name", ["model.onnx.part", "model.onnx~", ".model.onnx.Xy12", "model.tmp"])
def test_what_tools_call_a_file_until_it_is_whole_holds_its_version(name: str) -> None:
    reading = read_it(look("iris/1/model.onnx", f"iris/2/{name}"))
    assert (versions(reading), reading.problems) == ({"iris": ["1"]}, ())
    assert reading.held == {("iris", "2")}


def test_a_file_counts_once_two_looks_saw_it_alike() -> None:
    settling = Settling()
    small, large = Look({"a": None, "a/m": Stamp(1, 1)}), Look({"a": None, "a/m": Stamp(2, 1)})
    touched = Look({"a": None, "a/m": Stamp(2, 2)})
    looks = [small, large, large, touched, touched, Look({}), touched]
    told = [sorted(settling.unsettled(each)) for each in looks]
    assert told == [["a/m"], ["a/m"], [], ["a/m"], [], [], ["a/m"]]


def test_a_version_that_is_being_copied_is_not_there_yet_and_one_that_serves_stays() -> None:
    before = read_it(look("iris/1/model.onnx"))
    seen = look("iris/1/model.onnx", "iris/2/model.onnx")
    during = read_it(seen, unsettled=frozenset({"iris/1/model.onnx", "iris/2/model.onnx"}))
    assert (during.models, during.problems) == ({}, ())
    assert changes(before, during.keeping(before)) == Changes([], [], [], [])
    assert changes(before, read_it(seen).keeping(before)) == Changes([("iris", "2")], [], [], [])


def test_changes_are_what_came_what_differs_and_what_went() -> None:
    before = read_it(look("iris/1/model.onnx", "iris/2/model.onnx", "iris/3/model.onnx", "wine/1/model.onnx"))
    seen = look("iris/2/model.onnx", "iris/3/model.onnx", "iris/4/model.onnx", "beer/1/model.onnx",
                settings={"iris": b"max_batch = 2"})  # fmt: skip
    files = dict(seen.files) | {"iris/3/model.onnx": Stamp(11, 2)}
    after = read_it(Look(files, seen.settings))
    assert changes(before, after.keeping(before)) == Changes(
        added=[("beer", "1"), ("iris", "4")],
        changed=[("iris", "3")],
        removed=[("iris", "1"), ("wine", "1")],
        settings=["iris"],
    )


def test_a_mistake_in_a_change_takes_nothing_away_that_serves() -> None:
    before = read_it(look("iris/1/model.onnx", "iris/2/model.onnx", settings={"iris": b"max_batch = 2"}))
    broken = [
        look("iris/1/model.onnx", "iris/2/model.onnx", settings={"iris": b"max_batch ="}),
        look(
            "iris/1/model.onnx", "iris/2/model.onnx", "iris/2/model.pt", settings={"iris": b"max_batch = 2"}
        ),
        look("iris/1/model.onnx", "iris/2/", settings={"iris": b"max_batch = 2"}),
        look("iris/1/model.onnx", "iris/2/model.onnx", unreadable={"iris/model.toml": "no"}),
        look(
            "iris/1/model.onnx", "iris/2/", settings={"iris": b"max_batch = 2"}, unreadable={"iris/2": "no"}
        ),
        look("iris/", unreadable={"iris": "no"}),
    ]
    for each in broken:
        reading = read_it(each).keeping(before)
        assert reading.problems
        assert reading.models == before.models


def test_what_cannot_be_read_is_a_sentence() -> None:
    reading = read_it(look("iris/", unreadable={"iris": "this cannot be read: Permission denied"}))
    assert reading.problems[0] == "models/iris: this cannot be read: Permission denied"


PARTS = st.sampled_from(["a", "b", "B", "1", "2", "model.toml", "model.onnx", "model.pt", ".x"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@given(st.lists(PATHS, max_size=12), st.lists(PATHS, max_size=12))
def test_any_two_listings_can_be_read_and_lead_from_one_to_the_other(old: list[str], new: list[str]) -> None:
    first = read_it(_listing(old))
    second = read_it(_listing(new)).keeping(first)
    change = changes(first, second)
    keys = {(model.name, each.name) for model in first.models.values() for each in model.versions}
    after = {(model.name, each.name) for model in second.models.values() for each in model.versions}
    assert (keys | set(change.added)) - set(change.removed) == after
    assert all(path in _listing(new).files for path in ["/".join(key) for key in after - second.held])


def _listing(paths: list[str]) -> Look:
    """A file system has no file with things in it."""
    files = [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]
    return look(*files, settings={p.split("/")[0]: b"" for p in files if p.endswith("/model.toml")})


# --- files beside a model


TEXT = b'input_type = "text"\n'


def test_a_file_that_the_settings_name_belongs_to_the_version_if_it_is_there() -> None:
    files = "a/1/model.onnx", "a/1/tokenizer.json", "a/1/notes.txt", "a/2/model.onnx"
    one, two = read_it(look(*files, settings={"a": TEXT})).models["a"].versions
    assert one.others == (("tokenizer.json", Stamp(10, 1)),)
    assert two.others == ()
    assert read_it(look(*files)).models["a"].versions[0].others == ()


def test_a_version_whose_other_file_changes_is_another_one_and_waits_while_it_is_copied() -> None:
    seen = look("a/1/model.onnx", "a/1/tokenizer.json", settings={"a": TEXT})
    before = read_it(seen)
    after = read_it(Look({**seen.files, "a/1/tokenizer.json": Stamp(11, 1)}, seen.settings))
    assert changes(before, after).changed == [("a", "1")]
    copied = read_it(seen, unsettled=frozenset(["a/1/tokenizer.json"]))
    assert (copied.models, copied.held) == ({}, frozenset([("a", "1")]))


def test_the_lines_of_a_labels_file_are_the_labels_unless_the_settings_say_them() -> None:
    seen = look("a/1/model.onnx", "a/labels.txt", settings={"a": b""}, labels={"a": b"cat\r\n dog\n\n"})
    assert read_it(seen).models["a"].settings == ModelSettings(labels=("cat", "dog"))
    seen = look("a/1/model.onnx", settings={"a": b"labels = ['x']"}, labels={"a": b"cat"})
    assert read_it(seen).models["a"].settings.labels == ("x",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a\n\nb", "2: a label has 1 to 1000 characters"),
        (b"a\n\xff", "2: this is not UTF-8 text"),
        (b"a\n" * 32_769, "1: there are 32769 labels: at most 32768 are allowed"),
    ],
)
def test_a_labels_file_that_cannot_be_used_holds_the_model_back(text: bytes, said: str) -> None:
    reading = read_it(look("a/1/model.onnx", labels={"a": text}))
    assert reading.problems == (f"models/a/labels.txt:{said}",)
    assert reading.held == {("a", "")}
