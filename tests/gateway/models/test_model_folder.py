"""Collaboration: a folder of models, served and followed; real gateway, fake workers, virtual time."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from common import wire
from common.bundle import read_bundle
from common.models import ModelSettings
from gateway.models.model_folder import ModelFolder
from tests.gateway.fakes import FakeWorker
from tests.gateway.site import Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")


def write(folder: Path, path: str, text: str) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write(folder, "iris/1/model.onnx", "2")
    return folder


@asynccontextmanager
async def watched(
    site: Site, directory: Path, *workers: FakeWorker
) -> AsyncIterator[tuple[ModelFolder, FakeWorker]]:
    worker = workers[0] if workers else await site.ready_worker()
    followed = ModelFolder(directory, site.rollouts, site.configuring, site.catalog, site.state)
    await followed.load()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(followed.run)
        yield followed, worker
        nursery.cancel_scope.cancel()


async def test_a_model_is_loaded_by_its_file_of_settings(folder: Path):
    write(folder, "iris/model.toml", "max_batch = 7\nlabels = ['a']")
    async with open_site() as site, watched(site, folder) as (followed, worker):
        assert worker.settings["iris/1"] == ModelSettings(max_batch=7, labels=("a",))
        assert site.catalog.active("iris").settings == ModelSettings(max_batch=7, labels=("a",))
        assert len(worker.asked(wire.Load)) == 1
        assert followed.problems == []


async def test_settings_that_change_count_without_a_new_version(folder: Path):
    async with open_site() as site, watched(site, folder) as (followed, worker):
        write(folder, "iris/model.toml", "timeout = 5.0\nround_decimals = 2")
        wanted = ModelSettings(timeout=5.0, round_decimals=2)
        await site.until(lambda: worker.settings["iris/1"] == wanted)
        assert site.catalog.active("iris").settings == wanted
        (folder / "iris/model.toml").unlink()
        await site.until(lambda: worker.settings["iris/1"] == ModelSettings())
        assert site.catalog.active("iris").settings == ModelSettings()
        assert followed.problems == []


async def test_a_change_of_settings_leaves_the_version_active_that_somebody_went_back_to(folder: Path):
    write(folder, "iris/2/model.onnx", "3")
    async with open_site() as site, watched(site, folder):
        assert (await site.rollouts.activate("iris", "1")).ok
        write(folder, "iris/model.toml", "timeout = 5.0")
        await site.until(lambda: site.catalog.active("iris").settings.timeout == 5.0)
        await trio.sleep(5)
        assert site.catalog.active("iris").key.version == "1"


async def test_settings_that_do_not_fit_what_serves_are_told_and_count_for_the_next_version(folder: Path):
    async with open_site() as site:
        worker = await site.ready_worker(lacks={"cuda"})
        async with watched(site, folder, worker) as (followed, _):
            write(folder, "iris/model.toml", "timeout = 5.0\ndevice = 'cuda'")
            await site.until(lambda: bool(followed.problems))
            assert followed.problems == [
                f"{folder}/iris/model.toml: what serves does not load so, and serves on as it is:"
                " LoadError: it does not fit"
            ]
            assert site.catalog.active("iris").settings == ModelSettings(timeout=5.0)
            assert worker.settings["iris/1"] == ModelSettings()
            worker.lacks = set()
            write(folder, "iris/2/model.onnx", "3")
            await site.until(lambda: site.catalog.active("iris").key.version == "2")
            assert worker.settings["iris/2"] == ModelSettings(timeout=5.0, device="cuda")
            (folder / "iris").rename(folder / ".iris")
            await site.until(lambda: followed.problems == [])


async def test_a_version_that_was_refused_is_tried_again_when_the_settings_change(folder: Path):
    write(folder, "iris/model.toml", "device = 'cuda'")
    async with open_site() as site:
        worker = await site.ready_worker(lacks={"cuda"})
        async with watched(site, folder, worker) as (followed, _):
            assert followed.problems == [
                f"{folder}/iris/1/model.onnx does not load: LoadError: it does not fit"
            ]
            write(folder, "iris/model.toml", "device = 'cpu'")
            await site.until(lambda: site.catalog.get("iris") is not None)
            assert worker.settings["iris/1"] == ModelSettings(device="cpu")
            await site.until(lambda: followed.problems == [])


async def test_a_folder_without_settings_leaves_those_that_were_said_over_rest(folder: Path, tmp_path: Path):
    async with open_site(tmp_path / "state") as site, watched(site, folder):
        await site.configuring.change("iris", lambda _: ModelSettings(timeout=5.0))
    async with open_site(tmp_path / "state") as site, watched(site, folder):
        assert site.catalog.active("iris").settings == ModelSettings(timeout=5.0)
    write(folder, "iris/model.toml", "timeout = 7.0")
    async with open_site(tmp_path / "state") as site, watched(site, folder):
        assert site.catalog.active("iris").settings == ModelSettings(timeout=7.0)


async def test_a_model_travels_with_the_files_that_its_settings_name(folder: Path):
    write(folder, "iris/model.toml", "input_type = 'text'")
    write(folder, "iris/labels.txt", "good\nbad\n")
    write(folder, "iris/1/tokenizer.json", "{}")
    async with open_site() as site, watched(site, folder) as (followed, _):
        assert followed.problems == []
        active = site.catalog.active("iris")
        assert (active.file, active.settings.labels) == ("model.onnx", ("good", "bad"))
        bundle = read_bundle(io.BytesIO(site.state.blobs.read(active.sha256)))
        assert (bundle.name, bundle.size, bundle.files) == ("model.onnx", 1, {"tokenizer.json": b"{}"})
        write(folder, "iris/2/model.onnx", "2")
        write(folder, "iris/2/tokenizer.json", '{"a": 1}')
        await site.until(lambda: site.catalog.active("iris").key.version == "2")
        assert site.catalog.active("iris").sha256 != active.sha256
        write(folder, "iris/labels.txt", "good\nworse\n")
        await site.until(lambda: site.catalog.active("iris").settings.labels == ("good", "worse"))
