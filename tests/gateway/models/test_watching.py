"""Collaboration: gateway/models/watching.py over a real folder, with time in our hands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
import trio.testing

from gateway.models.repository import Reading, changes
from gateway.models.watching import look_at, read_settled, watch


@pytest.fixture
def clock(autojump_clock: trio.testing.MockClock, virtual_time: None) -> trio.testing.MockClock:
    return autojump_clock


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "iris/1").mkdir(parents=True)
    (tmp_path / "iris/1/model.onnx").write_bytes(b"one")
    (tmp_path / "iris/model.toml").write_text("max_batch = 2\n")
    yield tmp_path
    (tmp_path / "iris").chmod(0o755)


def test_a_look_lists_three_levels_and_reads_settings(folder: Path) -> None:
    (folder / "iris/1/assets/deep").mkdir(parents=True)
    (folder / ".hidden/x").mkdir(parents=True)
    look = look_at(folder)
    assert sorted(look.files) == [
        ".hidden", "iris", "iris/1", "iris/1/assets", "iris/1/model.onnx", "iris/model.toml",
    ]  # fmt: skip
    status = (folder / "iris/1/model.onnx").stat()
    assert look.files["iris/1/model.onnx"] == (3, status.st_mtime_ns)
    assert look.settings == {"iris": b"max_batch = 2\n"}


def test_links_are_followed_and_broken_ones_are_not_there(folder: Path, tmp_path: Path) -> None:
    (folder / "wine").symlink_to(folder / "iris")
    (folder / "beer").symlink_to(tmp_path / "nowhere")
    look = look_at(folder)
    assert "wine/1/model.onnx" in look.files
    assert "beer" not in look.files


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_told_and_the_others_are_read(folder: Path) -> None:
    (folder / "wine/1").mkdir(parents=True)
    (folder / "iris").chmod(0)
    look = look_at(folder)
    assert look.unreadable == {"iris": "this cannot be read: Permission denied"}
    assert "wine/1" in look.files


def test_a_loop_of_links_ends(folder: Path) -> None:
    (folder / "iris/1/again").symlink_to(folder)
    assert len(look_at(folder).files) < 20


async def test_the_first_reading_leaves_out_what_is_being_copied(
    clock: trio.testing.MockClock, folder: Path
) -> None:
    path = folder / "iris/2/model.onnx"
    path.parent.mkdir()
    path.write_bytes(b"tw")
    async with trio.open_nursery() as nursery:

        async def copy() -> None:
            await trio.sleep(0.5)
            path.write_bytes(b"two")

        nursery.start_soon(copy)
        reading = await read_settled(folder)
    assert [each.name for each in reading.models["iris"].versions] == ["1"]


async def test_a_watch_tells_of_each_change_once_it_has_settled(
    clock: trio.testing.MockClock, folder: Path
) -> None:
    first = await read_settled(folder)
    before, told = first, list[str]()
    path = folder / "iris/2/model.onnx"
    started = trio.current_time()

    async def change() -> None:
        await trio.sleep(10.5)
        path.parent.mkdir()
        for size in range(5):  # a slow copy
            path.write_bytes(b"x" * (size + 1))
            await trio.sleep(1)
        await trio.sleep(4)
        (folder / "iris/1/model.onnx").unlink()
        (folder / "iris/1").rmdir()

    async with trio.open_nursery() as nursery, aclosing(watch(folder, first)) as readings:
        nursery.start_soon(change)
        async for reading in readings:
            change_ = changes(before, reading)
            told.append(f"{trio.current_time() - started:.0f} +{change_.added} -{change_.removed}")
            before = reading
            if len(told) == 2:
                break
    # The last byte came at 14.5: the look at 15 sees it first, that at 16 sees it again.
    assert told == ["16 +[('iris', '2')] -[]", "20 +[] -[('iris', '1')]"]


async def test_a_folder_that_is_away_changes_nothing_but_the_problems(
    clock: trio.testing.MockClock, folder: Path, tmp_path: Path
) -> None:
    first = await read_settled(folder)
    away = tmp_path.parent / f"{tmp_path.name}-away"
    os.rename(folder, away)
    seen: list[Reading] = []
    async with aclosing(watch(folder, first)) as readings:
        async for reading in readings:
            seen.append(reading)
            if len(seen) == 2:
                break
            os.rename(away, folder)
    assert seen[0].problems == (f"{folder}: this cannot be read: No such file or directory",)
    assert seen[0].models == seen[1].models == first.models
    assert seen[1].problems == ()


async def test_a_folder_that_is_not_there_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await read_settled(tmp_path / "nowhere")
