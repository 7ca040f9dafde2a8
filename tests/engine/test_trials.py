"""Collaboration: files that crash, hang or swell whoever loads them, and processes that try them first."""

from __future__ import annotations

import ctypes
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from common.errors import LoadError
from common.models import ModelSettings
from common.wire import Load, VersionKey
from engine import trials as module
from engine.runtimes.networks import SampleNetwork
from engine.runtimes.options import LoadOptions
from engine.trials import Trials, open_trials


class Crashes(torch.nn.Module):
    """Reads from address 0, as a library does that believes a damaged file."""

    def __init__(self) -> None:
        super().__init__()
        ctypes.string_at(0)


class Hangs(torch.nn.Module):
    """Takes for ever, and uses no processor."""

    def __init__(self) -> None:
        super().__init__()
        time.sleep(10_000)


class Swells(torch.nn.Module):
    """Wants more memory than the machine has, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces = [bytearray(1 << 28) for _ in range(100)]


class Exits(torch.nn.Module):
    """Ends the process, as some libraries do when they do not like a file."""

    def __init__(self) -> None:
        super().__init__()
        os._exit(3)


@pytest.fixture(scope="module")
def trials() -> Iterator[Trials]:
    with open_trials(LoadOptions(allow_code=(__name__,))) as opened:
        yield opened


def weights(network: torch.nn.Module) -> bytes:
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    return file.getvalue()


def load_of(sha256: str, kind: type[torch.nn.Module] | str = "") -> Load:
    architecture = kind if isinstance(kind, str) else f"{__name__}:{kind.__name__}"
    asked = ModelSettings(architecture=architecture)
    return Load([], VersionKey("m", "1", sha256, architecture), 1, settings=asked)


GOOD = weights(SampleNetwork())


def refusal(trials: Trials, load: Load, source: bytes = GOOD) -> str:
    with pytest.raises(LoadError) as refused:
        trials.check(load, source)
    return str(refused.value)


def test_a_good_file_passes_as_bytes_and_as_a_file_and_is_not_tried_again(
    trials: Trials, tmp_path: Path
) -> None:
    trials.check(load_of("bytes"), GOOD)
    path = tmp_path / "model.pt"
    path.write_bytes(GOOD)
    trials.check(load_of("file"), path)
    path.unlink()
    trials.check(load_of("file"), path)
    assert "cannot be read" in refusal(trials, load_of("file", Crashes), path)  # other settings


@pytest.mark.parametrize(("kind", "how"), [(Crashes, "killed by SIGSEGV"), (Exits, "exit code 3")])
def test_a_crash_costs_the_load_and_nothing_else(
    trials: Trials, kind: type[torch.nn.Module], how: str
) -> None:
    assert refusal(trials, load_of("crash", kind)) == (
        f"the file ends the process that loads it ({how}): it is damaged, or made to do that"
    )
    trials.check(load_of("after"), GOOD)


def test_memory_is_bounded(trials: Trials) -> None:
    assert refusal(trials, load_of("swell", Swells)) == (
        "the file takes more memory to load than a file of its size may"
    )
    trials.check(load_of("after"), GOOD)


def test_time_is_bounded_and_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIME", 0.5)
    before = set(psutil.Process().children(recursive=True))
    with open_trials(LoadOptions(allow_code=(__name__,))) as trials:
        assert refusal(trials, load_of("hang", Hangs)) == (
            "the file takes longer to load than 0.5 s, and may be made to"
        )
    assert set(psutil.Process().children(recursive=True)) <= before


def test_code_that_the_operator_allows_is_not_tried(trials: Trials) -> None:
    trials.check(load_of("code"), f"{__name__}:Crashes".encode())


def test_what_a_format_says_of_a_file_is_said(trials: Trials) -> None:
    assert refusal(trials, load_of("nonsense"), b"nonsense").startswith(
        "the file is of none of the known formats: "
    )
    assert refusal(trials, load_of("wrong", "linear")) == (
        "a linear model's state is one tensor, coefs, and this one has none"
    )


def test_without_the_process_that_tries_files_nothing_is_loaded() -> None:
    before = set(psutil.Process().children())
    with open_trials(LoadOptions()) as trials:
        (waiting,) = set(psutil.Process().children()) - before
        waiting.kill()
        assert refusal(trials, load_of("any")) == (
            "the process that tries files is gone: restart the worker, or give --trust_files"
        )
