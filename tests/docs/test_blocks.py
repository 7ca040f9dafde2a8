"""End to end: every code block of the README and of docs/ does what its page says, in order, for a reader
who follows the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import Page, read_pages
from tests.docs.reader import Reader
from tests.e2e.processes import Site, open_site
from tests.e2e.weights import ONE, stored

RUN = ("bash", "console", "python")
LONG = ("docs/autoscaling.md",)  # simulations of minutes of traffic


def pages(kind: Callable[[Page], bool]) -> list[Any]:
    """Those of one kind that have something to run, as a test's parameters."""
    return [
        pytest.param(page, id=page.name, marks=[pytest.mark.apart] if page.name in LONG else [])
        for page in read_pages()
        if page.run_by is None
        and kind(page)
        and any(b.language in RUN and not b.reason for b in page.blocks())
    ]


def follow(page: Page, folder: Path, site: Site, grpc_port: int) -> None:
    reader = Reader(page.name, folder, site, grpc_port=grpc_port)
    try:
        for block in page.blocks():
            reader.read(block)
    finally:
        reader.close()


@pytest.fixture
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A place where nothing runs yet."""
    with open_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, int]]:
    """A gateway as pages assume that do not start their own, and its port for gRPC."""
    with open_site(tmp_path_factory.mktemp("site")) as site:
        (site.folder / "batch").mkdir()
        grpc_port = site.ports.take()
        gateway = site.start_gateway(
            "--min_workers", "1", "--max_workers", "2", "--addr_grpc", f"127.0.0.1:{grpc_port}",
            "--batch_root", str(site.folder / "batch"), ephemeral=False,
        )  # fmt: skip
        gateway.wait_ready(1)
        assert gateway.set_weights(ONE, stored(ONE)).json["status"] is True
        yield site, grpc_port


@pytest.mark.parametrize("page", pages(lambda page: page.starts))
def test_a_page_that_starts_what_it_asks_can_be_followed(page: Page, empty: Site) -> None:
    follow(page, empty.folder / "reader", empty, empty.ports.take())


@pytest.mark.parametrize("page", pages(lambda page: not page.starts))
def test_a_page_about_a_running_gateway_can_be_followed(page: Page, served: tuple[Site, int]) -> None:
    site, grpc_port = served
    folder = site.folder / Path(page.name).stem
    folder.mkdir()
    for name in ("batch", "state"):
        (folder / name).symlink_to(site.folder / name)
    follow(page, folder, site, grpc_port)


RIGHT = """
<!-- file: row.txt -->
```text
0.3
```

```bash
cat row.txt
```

<!-- prints -->
```text
0.…
```

```python
x = 1
```

```python
print(x + 1)
```

<!-- prints -->
```text
2
```

```console
$ echo one \\
    two
one two
$ false
$ pip install 'pipeline-inference[grpc,worker]'
```
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.…", "1.…"), ("cat row.txt", "cat none.txt"), ("x + 1", "y + 1"), ("2\n", "3\n"), ("one two", "one"),
     ("$ false\n", "$ false\nfalse"), ("[grpc,", "[grcp,")],
)  # fmt: skip
def test_a_page_that_shows_what_is_not_so_is_found_out(old: str, new: str, empty: Site) -> None:
    follow(Page("right.md", RIGHT), empty.folder / "right", empty, 0)
    with pytest.raises(AssertionError, match=r"wrong\.md"):
        follow(Page("wrong.md", RIGHT.replace(old, new)), empty.folder / "wrong", empty, 0)
