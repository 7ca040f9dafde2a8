"""What end-to-end tests share: a site of their own, and its logs where a test fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.processes import Site, open_site


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for name, value in item.funcargs.items():
            if isinstance(value, Site):
                report.sections.append((f"logs of {name}", value.tails()))
    return report


@pytest.fixture
def site(tmp_path_factory) -> Iterator[Site]:
    """A place to start processes for one test. Its path is short, whatever the test is called: Unix sockets
    are in it."""
    with open_site(tmp_path_factory.mktemp("site")) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory) -> Iterator[Site]:
    """A place whose processes all tests of a file share."""
    with open_site(tmp_path_factory.mktemp("site")) as opened:
        yield opened
