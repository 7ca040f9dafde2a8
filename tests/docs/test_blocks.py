"""End to end: every code block of the README and of docs/ does what its page says, in order, for a reader
who follows the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cli.main import main
from common import toml
from common.model_file import ModelSettingsError, read_model_settings
from tests.docs.pages import LANGUAGES, ROOT, Block, Page, read_pages
from tests.docs.reader import Reader
from tests.e2e.processes import Site, open_site
from tests.e2e.weights import ONE, stored

PAGES = {page.name: page for page in read_pages()}
RUN = ("bash", "console", "python")
NOT_RUN_AT_MOST = 12


def is_followed(page: Page) -> bool:
    return page.run_by is None and any(block.language in RUN and not block.reason for block in page.blocks())


def starts(page: Page) -> bool:
    return any(block.note == "starts" for block in page.blocks())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, int]]:
    """A gateway as pages assume that do not start their own, and its port for gRPC."""
    with open_site(tmp_path_factory.mktemp("site")) as site:
        (site.folder / "batch").mkdir()
        grpc_port = site.ports.take()
        gateway = site.start_gateway(
            "--min_workers", "1", "--max_workers", "2", "--addr_grpc", f"127.0.0.1:{grpc_port}",
            "--batch_root", str(site.folder / "batch"),
        )  # fmt: skip
        gateway.wait_ready(1)
        assert gateway.set_weights(ONE, stored(ONE)).json["status"] is True
        yield site, grpc_port


@pytest.fixture
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A place where nothing runs yet."""
    with open_site(tmp_path_factory.mktemp("site")) as site:
        yield site


def follow(page: Page, folder: Path, site: Site, grpc_port: int) -> None:
    reader = Reader(page.name, folder, site, grpc_port=grpc_port)
    try:
        for block in page.blocks():
            reader.read(block)
    finally:
        reader.close()


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if is_followed(page) and starts(page)])
def test_a_page_that_starts_what_it_asks_can_be_followed(name: str, empty: Site) -> None:
    follow(PAGES[name], empty.folder / "reader", empty, empty.ports.take())


@pytest.mark.parametrize(
    "name", [name for name, page in PAGES.items() if is_followed(page) and not starts(page)]
)
def test_a_page_about_a_running_gateway_can_be_followed(name: str, served: tuple[Site, int]) -> None:
    site, grpc_port = served
    folder = site.folder / Path(name).stem
    folder.mkdir()
    (folder / "batch").symlink_to(site.folder / "batch")
    follow(PAGES[name], folder, site, grpc_port)


def every_block() -> Iterator[tuple[Page, Block]]:
    for page in PAGES.values():
        for block in page.blocks():
            yield page, block


def test_every_block_says_what_it_is() -> None:
    unknown = [
        f"{page.name}:{block.line}" for page, block in every_block() if block.language not in LANGUAGES
    ]
    assert unknown == []


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    reasons = [block.reason for page, block in every_block() if block.reason is not None]
    assert all(len(reason.split()) > 2 for reason in reasons)
    assert len(reasons) <= NOT_RUN_AT_MOST


def test_pages_with_a_test_of_their_own_have_it() -> None:
    for page in PAGES.values():
        if page.run_by is not None:
            assert Path(page.name).name in (ROOT / page.run_by).read_text()


def test_json_and_yaml_can_be_read() -> None:
    for _, block in every_block():
        if block.language == "json" and block.note != "prints":
            json.loads(block.code)
        if block.language == "yaml":
            list(yaml.safe_load_all(block.code))


@pytest.mark.parametrize(
    ("name", "block"),
    [
        pytest.param(page.name, block, id=f"{page.name}:{block.line}")
        for page, block in every_block()
        if block.language == "toml"
    ],
)
def test_a_file_of_settings_is_one(
    name: str, block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It belongs to a model, to `gw.py deploy`, or to one of the two programs."""
    path = tmp_path / "shown.toml"
    path.write_text(block.code)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "tokenizer.json").write_text("{}")
    try:
        read_model_settings(block.code, file="model.toml")
        return
    except ModelSettingsError:
        pass
    kinds = (["--deploy"],) if "model" in toml.loads(block.code) else ([], ["--program", "worker.py"])
    codes = [main(["config", "check", str(path), *kind]) for kind in kinds]
    assert 0 in codes, capsys.readouterr().err
