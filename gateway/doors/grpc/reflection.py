"""grpc.reflection: what is served here, so that grpcurl and its like need no .proto files."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from google.protobuf import descriptor_pb2

from common.grpc.call import Call, Method, stream
from common.grpc.statuses import Status
from gateway.doors.grpc.codec import parse
from gateway.doors.grpc.messages import POOL, message

PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


class ReflectionDoor:
    """One of the two names that the service has."""

    def __init__(self, package: str, services: Collection[str]) -> None:
        self._services = sorted(services)
        self._request = message(f"{package}.ServerReflectionRequest")
        self._response = message(f"{package}.ServerReflectionResponse")

    def methods(self) -> dict[str, Method]:
        """By their names."""
        return {"ServerReflectionInfo": stream(self.info)}

    async def info(self, call: Call) -> None:
        """Answer each question in turn."""
        while (raw := await call.receive()) is not None:
            question = parse(self._request, raw)
            answer = self._response(valid_host=question.host, original_request=question)
            self._answer(question, answer)
            call.send(answer.SerializeToString())
            await call.sent(0)

    def _answer(self, question: Any, answer: Any) -> None:
        kind = question.WhichOneof("message_request")
        try:
            if kind == "list_services":
                answer.list_services_response.SetInParent()
                for name in self._services:
                    answer.list_services_response.service.add(name=name)
            elif kind == "file_by_filename":
                self._add_files(answer, POOL.FindFileByName(question.file_by_filename))
            elif kind == "file_containing_symbol":
                self._add_files(answer, POOL.FindFileContainingSymbol(question.file_containing_symbol))
            elif kind == "all_extension_numbers_of_type":
                POOL.FindMessageTypeByName(question.all_extension_numbers_of_type)
                name = question.all_extension_numbers_of_type
                answer.all_extension_numbers_response.base_type_name = name
            else:
                raise KeyError(kind)
        except KeyError:
            answer.error_response.error_code = Status.NOT_FOUND
            answer.error_response.error_message = "there is nothing of that name"

    def _add_files(self, answer: Any, file: Any) -> None:
        described = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(described)
        answer.file_descriptor_response.file_descriptor_proto.append(described.SerializeToString())
