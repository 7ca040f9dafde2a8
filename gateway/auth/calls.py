"""How calls of gRPC ask who their client is; and what each method needs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from common.errors import Forbidden
from common.grpc.call import Admission
from gateway.auth.asking import ELSEWHERE
from gateway.auth.clients import Client
from gateway.auth.gate import Gate
from gateway.auth.roles import Role

# By the methods' own names; one that is not here needs `admin`.
ROLES = {
    **dict.fromkeys(("ServerLive", "ServerReady", "ModelReady", "Check", "Watch"), Role.OPEN),
    **dict.fromkeys(("ServerMetadata", "ModelMetadata", "ModelConfig", "ServerReflectionInfo"), Role.ANY),
    **dict.fromkeys(("ModelInfer", "ModelStreamInfer", "Predict"), Role.PREDICT),
    **dict.fromkeys(("ModelStatistics", "RepositoryIndex"), Role.READ),
    **dict.fromkeys(("RepositoryModelLoad", "RepositoryModelUnload", "SetCoefs"), Role.ADMIN),
}


def role_of_path(path: bytes) -> Role:
    """What a method needs, by its path."""
    return ROLES.get(path.rpartition(b"/")[2].decode("latin-1"), Role.ADMIN)


class CallGuard:
    """Tokens come as metadata, `authorization: Bearer …`; a stranger is refused before its message is read.
    `is_public`: what needs `admin` is served elsewhere."""

    def __init__(self, gate: Gate | None, *, is_public: bool = False) -> None:
        self._gate = gate
        self._is_public = is_public

    def __call__(
        self, path: bytes, headers: Mapping[bytes, bytes], peer: str
    ) -> tuple[Client | None, Admission | None]:
        role = role_of_path(path)
        if role is Role.ADMIN and self._is_public:
            raise Forbidden(ELSEWHERE)
        if role is Role.OPEN or self._gate is None:
            return None, None
        header = headers.get(b"authorization")
        client = self._gate.recall(header, role)
        if client is not None:
            return client, None
        return None, partial(self._gate.prove, self._gate.begin(header, peer), role)
