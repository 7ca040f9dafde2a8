"""What a server and its models are, over gRPC: the plain values that all doors of the protocol share, as
protobuf."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.json_format import ParseDict

from common.grpc.call import Call, Method, unary
from gateway.doors.grpc.codec import parse, read_parameter
from gateway.doors.grpc.messages import message
from gateway.doors.v2.describe import Description
from gateway.doors.v2.repository import Repository

Json = Mapping[str, Any]
Ask = Callable[[Any], Awaitable[Json]]


class ModelsDoor:
    """Every method but those that infer."""

    def __init__(self, description: Description, repository: Repository) -> None:
        self._description = description
        self._repository = repository

    def methods(self) -> dict[str, Method]:
        """By their names."""
        asks: dict[str, Ask] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        return {name: _method(name, ask) for name, ask in asks.items()}

    async def _server_live(self, _asked: Any) -> Json:
        return {"live": True}

    async def _server_ready(self, _asked: Any) -> Json:
        return {"ready": self._description.is_ready()}

    async def _model_ready(self, asked: Any) -> Json:
        return {"ready": self._description.is_model_ready(asked.name, asked.version)}

    async def _server_metadata(self, _asked: Any) -> Json:
        return self._description.server()

    async def _model_metadata(self, asked: Any) -> Json:
        return self._description.metadata(asked.name, asked.version)

    async def _model_config(self, asked: Any) -> Json:
        return {"config": self._description.config(asked.name, asked.version)}

    async def _model_statistics(self, asked: Any) -> Json:
        return self._description.statistics(asked.name or None, asked.version)

    async def _repository_index(self, asked: Any) -> Json:
        return {"models": await self._description.repository_index(ready=asked.ready)}

    async def _load(self, asked: Any) -> Json:
        parameters = {name: read_parameter(name, value) for name, value in asked.parameters.items()}
        await self._repository.load(asked.model_name, parameters)
        return {}

    async def _unload(self, asked: Any) -> Json:
        await self._repository.unload(asked.model_name)
        return {}


def _method(name: str, ask: Ask) -> Method:
    request, response = message(f"inference.{name}Request"), message(f"inference.{name}Response")

    async def answer(_call: Call, raw: bytes) -> bytes:
        told = await ask(parse(request, raw))
        serialized: bytes = ParseDict(told, response()).SerializeToString()
        return serialized

    return unary(answer)
