"""Pure: every code block of the README and of docs/ says what it is, and what only has to be read can be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from cli.main import main
from common import toml
from common.model_file import ModelSettingsError, read_model_settings
from tests.docs.pages import LANGUAGES, ROOT, Block, matches, read_pages

NOT_RUN_AT_MOST = 12
NOTES = ("", "starts", "prints")

PAGES = read_pages()
BLOCKS = [(page, block) for page in PAGES for block in page.blocks()]


def test_every_fence_is_a_block_of_a_known_language() -> None:
    assert [f"{page.name}:{block.line}" for page, block in BLOCKS if block.language not in LANGUAGES] == []
    for page in PAGES:
        fences = sum(line.lstrip().startswith("```") for line in page.text.splitlines())
        assert fences == 2 * (len(list(page.blocks())) + page.directives), page.name


def test_every_comment_before_a_block_is_understood() -> None:
    for page, block in BLOCKS:
        if page.run_by is None:
            is_written = f"<!-- end of {block.note} -->" in page.text  # by what measures it
            known = block.note in NOTES or block.file or block.reason or is_written
            assert known, f"{page.name}:{block.line}"


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    reasons = [block.reason for _, block in BLOCKS if block.reason is not None]
    assert [reason for reason in reasons if len(reason.split()) < 4] == []
    assert len(reasons) <= NOT_RUN_AT_MOST


def test_pages_with_a_test_of_their_own_have_it() -> None:
    for page in PAGES:
        if page.run_by is not None:
            assert Path(page.name).name in (ROOT / page.run_by).read_text()


def test_every_file_that_the_readme_links_to_is_there() -> None:
    """Links of docs/ are held by the site's own build."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    assert "docs/quickstart.md" in links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_json_and_yaml_can_be_read() -> None:
    for _, block in BLOCKS:
        if block.language == "json" and block.note != "prints":
            json.loads(block.code)
        if block.language == "yaml":
            assert list(yaml.safe_load_all(block.code))


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"{page.name}:{block.line}")
        for page, block in BLOCKS
        if block.language == "toml"
    ],
)
def test_a_file_of_settings_is_one(block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


@pytest.mark.parametrize(
    ("said", "shown", "is_so"),
    [
        ('{"a": 1}\n', '{"a":1}', True),
        ("one two", "o…o", True),
        ("one two", "…", True),
        ("one two", "one", False),
        ("one two", "one…three", False),
        ("a+b", "a.b", False),
    ],
)
def test_what_is_shown_stands_for_what_is_said(said: str, shown: str, is_so: bool) -> None:
    assert matches(said, shown) is is_so
