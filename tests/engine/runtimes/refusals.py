"""What the tests of unsafe files share: a pickle that runs code, and what a file is refused with."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import LoadError
from engine.runtimes.formats import load_runtime
from engine.runtimes.options import LoadOptions
from tests.engine.runtimes.conftest import IMAGE

CPU = torch.device("cpu")
OPERATOR_ALLOWS_NOTHING = LoadOptions(inputs=IMAGE)


class RunsCode:
    """Pickles as a call of `os.mkdir`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def dumped(dump: Callable[..., Any], thing: object, **options: Any) -> bytes:
    file = io.BytesIO()
    dump(thing, file, **options)
    return file.getvalue()


def refused(
    data: bytes | Path, kind: str | None = None, options: LoadOptions = OPERATOR_ALLOWS_NOTHING
) -> str:
    with pytest.raises(LoadError) as raised:
        load_runtime(data, kind, options, CPU)
    assert len(str(raised.value)) < 500
    return str(raised.value)
