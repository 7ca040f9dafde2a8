"""Certificates that are older than they would be today."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

from gateway import certificates


@contextmanager
def issued_days_ago(days: int) -> Iterator[None]:
    """Meanwhile `gateway.certificates` believes that it is so many days ago."""

    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(days=days)

    with patch.object(certificates, "datetime", Then):
        yield
