"""Every method that the gateway serves over gRPC, by its path."""

from __future__ import annotations

from collections.abc import Mapping

from common.grpc.call import Method
from gateway.core import Core, Doors
from gateway.doors.grpc.health import HealthDoor
from gateway.doors.grpc.inference import InferenceDoor
from gateway.doors.grpc.models import ModelsDoor
from gateway.doors.grpc.modelserver import ModelServerDoor
from gateway.doors.grpc.reflection import PACKAGES, ReflectionDoor

INFERENCE = "inference.GRPCInferenceService"
MODEL_SERVER = "ModelServer"
HEALTH = "grpc.health.v1.Health"


def make_methods(core: Core, doors: Doors) -> dict[bytes, Method]:
    """What `GrpcServer` takes; the protocol's methods lead to where those of REST do."""
    models = ModelsDoor(doors.description, doors.repository)
    inference = InferenceDoor(doors.inference)
    model_server = ModelServerDoor(core.predictions, core.catalog, core.rollouts, core.state)
    reflections = [f"{package}.ServerReflection" for package in PACKAGES]
    named = (INFERENCE, MODEL_SERVER)
    services: dict[str, Mapping[str, Method]] = {
        INFERENCE: {**models.methods(), **inference.methods()},
        MODEL_SERVER: model_server.methods(),
        HEALTH: HealthDoor(doors.description.is_ready, named).methods(),
    }
    for package, name in zip(PACKAGES, reflections, strict=True):
        services[name] = ReflectionDoor(package, [*named, HEALTH, *reflections]).methods()
    return {
        f"/{service}/{name}".encode(): method
        for service, methods in services.items()
        for name, method in methods.items()
    }
