"""The pages of the documentation, read as a sequence of code blocks. Nothing here is a test.

A comment before a block says how it is run where its language does not say it all:

    <!-- starts -->               its commands stay: they run until the page ends
    <!-- file: gateway.toml -->   it is the content of this file, which blocks below it use
    <!-- prints -->               it is what the block before it prints; … stands for anything
    <!-- not run: REASON -->      it needs what no test has

and on the third line of a page `<!-- run by tests/… -->` says that a test of its own runs all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
LANGUAGES = ("bash", "console", "python", "toml", "json", "yaml", "js", "text")

_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^>]+) -->\n)?^(?P<fence>```+)(?P<language>.*)\n(?P<code>(?:.*\n)*?)^(?P=fence)$",
    re.MULTILINE,
)
_RUN_BY = re.compile(r"^<!-- run by (\S+) -->$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block, its language, the comment right before it, and the line that its code begins on."""

    language: str
    code: str
    note: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that it is the content of."""
        return self.note.removeprefix("file: ") if self.note.startswith("file: ") else None

    @property
    def reason(self) -> str | None:
        """Why it is not run."""
        return self.note.removeprefix("not run: ") if self.note.startswith("not run: ") else None


class Page(NamedTuple):
    """A page, by its path in the repository."""

    name: str
    text: str

    @property
    def run_by(self) -> str | None:
        """The test that runs its blocks, where that is one of its own."""
        found = _RUN_BY.search(self.text)
        return found and found[1]

    @property
    def starts(self) -> bool:
        """Whether it has its reader start what it asks."""
        return any(block.note == "starts" for block in self.blocks())

    @property
    def directives(self) -> int:
        """How many fenced blocks are the site's, and no code."""
        return len(re.findall(r"^```+\{", self.text, re.MULTILINE))

    def blocks(self) -> Iterator[Block]:
        """Its code blocks in order; directives of the site are none."""
        for found in _BLOCK.finditer(self.text):
            if not found["language"].startswith("{"):
                line = self.text.count("\n", 0, found.start("code")) + 1
                yield Block(found["language"], found["code"], found["note"] or "", line)


def read_pages() -> list[Page]:
    """All of them."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [Page(str(path.relative_to(ROOT)), path.read_text()) for path in paths]


def matches(said: str, shown: str) -> bool:
    """Whether this is what the page shows: … stands for anything, and white space for any or none."""
    parts = (re.escape(re.sub(r"\s+", "", part)) for part in shown.split("…"))
    return re.fullmatch(".*?".join(parts), re.sub(r"\s+", "", said), re.DOTALL) is not None
