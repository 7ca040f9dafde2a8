"""Bringing a package to a gateway, as any client of its REST would; the standard library alone. Blocks."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from common import rest_client
from common.errors import LoadError, NoWorker
from gateway.deploy.package import Package

_PAUSE = 0.05  # between two looks at whether a worker has come
_PIECE = 4 << 20
_LOAD_ERROR = "common.errors.LoadError: "  # before a sentence that is meant to be read


class Deployed(NamedTuple):
    """A model that was taken: what GET says of it, of its version, and how many workers have loaded it."""

    model: dict[str, Any]
    version: dict[str, Any]
    workers: int


class RestClient(rest_client.RestClient):
    """One gateway's REST. Raises `LinkError` where it cannot be reached, `LoadError` with what it says where
    it refuses."""

    def do(self, method: str, path: str, body: bytes | Path | None = None) -> dict[str, Any]:
        """The JSON of an answer that says that it is done."""
        status, answer, _ = self.ask(method, path, body)
        if not isinstance(answer, dict) or status != 200 or answer.get("status") is not True:
            raise LoadError(_refusal(answer, status))
        return answer


def wait_for_worker(client: RestClient, timeout: float) -> None:
    """Return as soon as a worker is ready; `NoWorker` if none is in time."""
    deadline = time.monotonic() + timeout
    while not any(worker["state"] == "ready" for worker in client.do("GET", "/status")["workers"]):
        if time.monotonic() > deadline:
            raise NoWorker(f"no worker was ready within {timeout:g} s: what they say is above")
        time.sleep(_PAUSE)


def upload(client: RestClient, package: Package) -> Deployed:
    """Have a package serve, or nothing changed. The same file again is the same version, another the next."""
    path = f"/models/{quote(package.name)}"
    status, known, _ = client.ask("GET", path)
    known = known if status == 200 else {"settings": {}, "versions": []}
    with package.as_one_file() as file:
        version = package.version or _version_of(file, known["versions"])
        serves = any(each["version"] == version and each["serves"] for each in known["versions"])
        if package.settings is not None:
            # What serves and stays is tried by the new settings; the next version is loaded by them.
            reload = "true" if serves else "false"
            client.do("PUT", f"{path}?reload={reload}", msgspec.json.encode(package.settings))
        try:
            where = f"{path}/versions/{quote(version)}?activate=true&file={quote(package.file.name)}"
            taken = client.do("PUT", where, file)
        except LoadError as error:
            if package.settings is not None:
                client.do("PUT", f"{path}?reload=false", json.dumps(known["settings"]).encode())
            raise LoadError(f"{package.file} would not serve: {error}") from None
    model = client.do("GET", path)
    shown = next(each for each in model["versions"] if each["version"] == version)
    return Deployed(model, shown, taken["workers_count"])


def _version_of(file: Path, versions: list[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            digest.update(piece)
    same = next((each["version"] for each in versions if each["sha256"] == digest.hexdigest()), None)
    return same or str(max([0, *_numbers(versions)]) + 1)


def _numbers(versions: list[dict[str, Any]]) -> Iterator[int]:
    for each in versions:
        if each["version"].isascii() and each["version"].isdigit():
            yield int(each["version"])


def _refusal(answer: Any, status: int) -> str:
    """The sentence of a refusal: the last line of the first worker's stack trace, or the message."""
    if not isinstance(answer, dict):
        return f"the answer is {status}, and not JSON of a gateway"
    for worker in answer.get("workers", []):
        if isinstance(worker, dict) and not worker.get("result", True):
            trace = base64.b64decode(worker["trace"]).decode(errors="replace")
            return trace.strip().rpartition("\n")[2].removeprefix(_LOAD_ERROR)
    return str(answer.get("message", f"the answer is {status}"))
