"""end to end: a minute of what `scripts/soak` does for half an hour: enough to see that nobody fails and that
nothing is left behind, and too short to see what grows."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.soak.run import run


@pytest.mark.apart
def test_while_models_and_workers_are_replaced_nobody_fails_and_nothing_is_left() -> None:
    # Unix sockets are in it, deep down: a short path.
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        found = run(60.0, 50.0, Path(folder), print)
    assert found.violations == []
    assert found.replaced >= 3
    assert len(found.history.changes) > 10
    assert {len(samples) > 20 for samples in found.samples.values()} == {True}
