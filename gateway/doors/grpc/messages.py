"""The protocols' message classes, from the descriptors that protoc wrote.

They are kept in a pool of their own: the default one takes each name once, and a program (a test, say) that
has imported a client of the Open Inference Protocol has that client's messages there, of the same names.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import modelserver_pb2

_REFLECTION_ALPHA = "grpc.reflection.v1alpha"


def _load() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    stored = resources.files(__package__).joinpath("services.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(stored).file:
        pool.AddSerializedFile(file.SerializeToString())
        if file.package == "grpc.reflection.v1":
            pool.AddSerializedFile(_as_alpha(file).SerializeToString())
    pool.AddSerializedFile(modelserver_pb2.DESCRIPTOR.serialized_pb)
    return pool


def _as_alpha(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """The same under the name it had before, which most tools still ask by."""
    alpha = descriptor_pb2.FileDescriptorProto()
    alpha.CopyFrom(file)
    alpha.name, alpha.package = "reflection_v1alpha.proto", _REFLECTION_ALPHA
    for message in alpha.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = _renamed(field.type_name)
    for method in alpha.service[0].method:
        method.input_type, method.output_type = _renamed(method.input_type), _renamed(method.output_type)
    return alpha


def _renamed(name: str) -> str:
    return name.replace(".grpc.reflection.v1.", f".{_REFLECTION_ALPHA}.")


POOL = _load()


def message(name: str) -> Any:
    """A message's class, by its full name."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))
