"""What tests on several hosts share: they say what is missing here, if they cannot run."""

from __future__ import annotations

import pytest

from tests.hosts.hosts import missing_for_hosts


@pytest.fixture(scope="session", autouse=True)
def _possible() -> None:
    if missing := missing_for_hosts():
        pytest.skip(missing)
