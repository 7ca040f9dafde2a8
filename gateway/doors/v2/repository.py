"""Loading and unloading models as the protocol's model repository extension asks for it."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import trio

from common.errors import InvalidRequest, LoadError, TooLarge
from gateway.doors.json import JsonReader
from gateway.doors.models.models import check_name
from gateway.doors.v2.config import read_config
from gateway.models.configuring import settings_of_next
from gateway.models.rollout import Rollouts
from gateway.models.switching import Rolled
from gateway.state.state import State, VersionRecord

FILE = "file:"
_FILE = re.compile(r"file:([^/]+)/([^/]+)")


class Repository:
    """`load_folder` looks for one model in the folder of models again, and says whether it is there."""

    def __init__(
        self,
        rollouts: Rollouts,
        state: State,
        load_folder: Callable[[str], Awaitable[bool]],
        *,
        max_upload: int,
        json: JsonReader,
    ) -> None:
        self._rollouts = rollouts
        self._state = state
        self._load_folder = load_folder
        self._max_upload = max_upload
        self._json = json

    async def load(self, model: str, parameters: Mapping[str, Any]) -> None:
        """Have a model serve: with a parameter `file:<version>/<name>` (bytes) that version, which is new, as
        `config` (JSON of a ModelConfig) says; else what served last.

        Raises `LoadError` where a worker refuses it, `NotFound`, `InvalidRequest`, `Conflict`.
        """
        files = {name: value for name, value in parameters.items() if name.startswith(FILE)}
        config = parameters.get("config")
        if files:
            await self._upload(model, config, files)
        elif config:
            raise InvalidRequest(
                "config alone changes nothing that is loaded: give the model's file with it, as a parameter"
                " like file:1/model.onnx"
            )
        elif not await self._load_folder(model):
            _expect(await self._rollouts.load(model))

    async def unload(self, model: str) -> None:
        """Have no version of a model serve until it is loaded again; `NotFound`, `Conflict`."""
        await self._rollouts.unload(model)

    async def _upload(self, model: str, config: object, files: Mapping[str, bytes]) -> None:
        if len(files) > 1:
            raise InvalidRequest(f"a version is one file, and there are {', '.join(sorted(files))}")
        [(name, data)] = files.items()
        match = _FILE.fullmatch(name)
        if match is None:
            raise InvalidRequest(f"{name[:80]} should be {FILE}<version>/<name>, as {FILE}1/model.onnx")
        version, file = match[1], match[2]
        check_name("model", model)
        check_name("version", version)
        if len(data) > self._max_upload:
            raise TooLarge(f"the file has more than {self._max_upload} bytes: see --max_upload")
        if not data:
            raise InvalidRequest(f"{name} is empty")
        record = await trio.to_thread.run_sync(self._record, model, version, file, config, data)
        _expect(await self._rollouts.add(record, activate=True))

    def _record(self, model: str, version: str, file: str, config: object, data: bytes) -> VersionRecord:
        settings = settings_of_next(self._state, model)
        if config:
            settings = msgspec.structs.replace(settings, **read_config(config, self._json))
        with self._state.blobs.new() as writer:
            writer.write(data)
            blob = writer.commit()
        return VersionRecord(
            model, version, version, blob.sha256, blob.size, time.time(), file=file[:255], settings=settings
        )


def _expect(rolled: Rolled) -> None:
    """`LoadError` with what the first worker says that refused."""
    for loaded, trace in rolled.results:
        if not loaded:
            raise LoadError((trace.strip().splitlines() or ["a worker refused it"])[-1], trace)
