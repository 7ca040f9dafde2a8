"""end to end: tokens are asked for behind fronts as they are without. The tests are those of one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.processes import Site
from tests.e2e.test_fronts import FrontedSite, opened
from tests.e2e.test_tokens import *  # noqa: F403

# A front knows no tokens: it has read a body, within the limits, before anybody can say who sent it.
del test_a_stranger_is_refused_before_the_body_is_read  # noqa: F821


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory) -> Iterator[Site]:
    yield from opened(FrontedSite(tmp_path_factory.mktemp("site")))
