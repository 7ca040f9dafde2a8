"""Looking at a model repository's folder, once or every second.

By polling with `os.scandir`: it is the same on every system, and it sees what other hosts do to a folder on
NFS, which inotify does not. A look at a thousand versions is a few thousand `stat` calls.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import trio

from gateway.models.repository import LABELS, SETTINGS, Look, Reading, Settling, Stamp, read

LOOK_EVERY = 1.0
MAX_TEXT = 1 << 20  # bytes of a model.toml, or of its labels, that are read


def look_at(folder: Path) -> Look:
    """List a model repository, three levels deep; `OSError` if the folder itself cannot be listed.

    Links are followed. What goes away while we look was not there.
    """
    files: dict[str, Stamp | None] = {}
    texts: dict[str, dict[str, bytes]] = {SETTINGS: {}, LABELS: {}}
    unreadable: dict[str, str] = {}
    _list(folder, "", 3, files, unreadable)
    for path, stamp in files.items():
        name, _, rest = path.partition("/")
        if rest not in texts or stamp is None:
            continue
        try:
            with (folder / path).open("rb") as file:
                texts[rest][name] = file.read(MAX_TEXT)
        except OSError as error:
            unreadable[path] = f"this cannot be read: {error.strerror}"
    return Look(files, texts[SETTINGS], texts[LABELS], unreadable)


def _list(
    folder: Path, within: str, depth: int, files: dict[str, Stamp | None], unreadable: dict[str, str]
) -> None:
    with os.scandir(folder / within) as entries:
        for entry in entries:
            path = f"{within}/{entry.name}" if within else entry.name
            try:
                if not entry.is_dir():
                    status = entry.stat()
                    files[path] = Stamp(status.st_size, status.st_mtime_ns)
                    continue
                files[path] = None
                if depth > 1 and not entry.name.startswith("."):
                    _list(folder, path, depth - 1, files, unreadable)
            except FileNotFoundError:
                with suppress(KeyError):
                    del files[path]
            except OSError as error:
                unreadable[path] = f"this cannot be read: {error.strerror}"


async def read_settled(folder: Path, *, pause: float = LOOK_EVERY) -> Reading:
    """What is there now, by two looks; what is being copied meanwhile is left out."""
    settling = Settling()
    settling.unsettled(await trio.to_thread.run_sync(look_at, folder))
    await trio.sleep(pause)
    look = await trio.to_thread.run_sync(look_at, folder)
    return read(look, folder=str(folder), unsettled=settling.unsettled(look))


async def watch(folder: Path, first: Reading, *, every: float = LOOK_EVERY) -> AsyncIterator[Reading]:
    """Every reading that differs from the one before, beginning after `first`; never ends by itself.

    A folder that cannot be listed, as while its server is away, changes nothing but the problems.
    """
    settling, last = Settling(), first
    while True:
        try:
            look = await trio.to_thread.run_sync(look_at, folder)
            reading = read(look, folder=str(folder), unsettled=settling.unsettled(look)).keeping(last)
        except OSError as error:
            problem = f"{folder}: this cannot be read: {error.strerror}"
            reading = Reading(last.models, (problem,), last.held)
        if (reading.models, reading.problems) != (last.models, last.problems):
            yield reading
        last = reading
        await trio.sleep(every)
