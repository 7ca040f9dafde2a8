"""Inference requests and answers of the Open Inference Protocol as protobuf has them. Pure.

An input is raw bytes, or `contents` by its type; answers are always raw, which is all that clients read.
"""

from __future__ import annotations

from array import array
from typing import Any

from google.protobuf.message import DecodeError

from common.errors import InvalidRequest
from common.tensor import BYTES, DATATYPES, Buffer, pack_elements
from gateway.doors.grpc.messages import message
from gateway.doors.predict.inputs import check_elements
from gateway.doors.v2.infer import (
    InferRequest,
    InferResponse,
    InferTensor,
    Parameter,
    Wanted,
    refuse_shared_memory,
)

_Request = message("inference.ModelInferRequest")
_Response = message("inference.ModelInferResponse")
_StreamResponse = message("inference.ModelStreamInferResponse")
_Output = message("inference.ModelInferResponse.InferOutputTensor")

# Where elements of a type stand in `contents`.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parse(kind: Any, raw: bytes) -> Any:
    """A message of a kind; `InvalidRequest` for bytes that are none."""
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise InvalidRequest(f"the message cannot be parsed: {error}") from None


def read_request(raw: bytes) -> InferRequest:
    """What a client asks; `InvalidRequest` where that cannot be told."""
    return convert_request(parse_request(raw))


def parse_request(raw: bytes) -> Any:
    """The message alone, for whoever needs its id whatever is wrong with the rest."""
    return parse(_Request, raw)


def convert_request(asked: Any) -> InferRequest:
    """What a parsed message asks; `InvalidRequest` where that cannot be told."""
    outputs = [Wanted(each.name, read_parameters(each.parameters)) for each in asked.outputs]
    return InferRequest(
        asked.model_name,
        asked.model_version or None,
        asked.id,
        read_parameters(asked.parameters),
        tuple(_read_inputs(asked.inputs, asked.raw_input_contents)),
        tuple(outputs),
    )


def read_parameters(parameters: Any) -> dict[str, Parameter]:
    """A map of parameters; `InvalidRequest` for one without a value."""
    return {name: read_parameter(name, value) for name, value in parameters.items()} if parameters else {}


def read_parameter(name: str, value: Any) -> Any:
    """What one parameter holds."""
    choice = value.WhichOneof("parameter_choice")
    if choice is None:
        raise InvalidRequest(f"parameter {name} has no value")
    return getattr(value, choice)


def write_response(response: InferResponse, *, final: bool = False) -> bytes:
    """An answer; `final` has it say that no other follows."""
    answered: bytes = _fill(response, final=final).SerializeToString()
    return answered


def write_stream_response(response: InferResponse, *, final: bool) -> bytes:
    """The same in a stream."""
    answered: bytes = _StreamResponse(infer_response=_fill(response, final=final)).SerializeToString()
    return answered


def write_stream_error(text: str, request_id: str) -> bytes:
    """An error in a stream, which goes on."""
    answered: bytes = _StreamResponse(
        error_message=text, infer_response=_Response(id=request_id)
    ).SerializeToString()
    return answered


def _read_inputs(inputs: Any, raw: Any) -> list[InferTensor]:
    for tensor in inputs:
        if tensor.parameters:
            refuse_shared_memory(f"input {tensor.name}", tensor.parameters)
    if not raw:
        return [_tensor(each, _read_contents(each)) for each in inputs]
    if len(raw) != len(inputs):
        raise InvalidRequest(
            f"raw_input_contents has {len(raw)} tensors for {len(inputs)} inputs: give one for each, or none"
        )
    for each in inputs:
        if each.HasField("contents"):
            raise InvalidRequest(
                f"input {each.name} has contents though raw_input_contents is used: give all inputs one way"
            )
    return [_tensor(each, data) for each, data in zip(inputs, raw, strict=True)]


def _tensor(given: Any, data: Buffer) -> InferTensor:
    return InferTensor(given.name, given.datatype, tuple(given.shape), data)


def _read_contents(tensor: Any) -> bytes:
    """Elements given by their type, as raw bytes."""
    field = _CONTENTS.get(tensor.datatype)
    given = [each.name for each, _ in tensor.contents.ListFields()]
    if field is None or given not in ([], [field]):
        where = f"in {field}" if field else "in raw_input_contents"
        raise InvalidRequest(
            f"input {tensor.name}: elements of {tensor.datatype[:60]!r} stand {where}, and the request has"
            f" {', '.join(given) or 'none'}"
        )
    elements = getattr(tensor.contents, field)
    if tensor.datatype == BYTES:
        check_elements(f"input {tensor.name}", len(elements))
        return pack_elements(elements)
    code = DATATYPES[tensor.datatype].code
    if code == "?":
        return bytes(elements)
    try:
        return array(code, elements).tobytes()
    except OverflowError:
        raise InvalidRequest(
            f"input {tensor.name} holds a number that {tensor.datatype} has no room for"
        ) from None


def _fill(response: InferResponse, *, final: bool) -> Any:
    answered = _Response(
        model_name=response.model,
        model_version=response.version,
        id=response.id,
        outputs=[
            _Output(name=each.name, datatype=each.datatype, shape=each.shape) for each in response.outputs
        ],
        raw_output_contents=[bytes(each.data) for each in response.outputs],
    )
    for name, value in response.parameters.items():
        _write_parameter(answered.parameters[name], value)
    if final:
        answered.parameters["triton_final_response"].bool_param = True
    return answered


def _write_parameter(parameter: Any, value: Parameter) -> None:
    if isinstance(value, str):
        parameter.string_param = value
    elif isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    else:
        parameter.double_param = value
