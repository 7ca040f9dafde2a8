"""The REST form of an inference: JSON, or JSON followed by raw tensors (the binary tensor extension). Pure.

    body: JSON header ‖ the tensors whose parameters have `binary_data_size`, in their order

How long the JSON is, a header of the message says; a length of 0 means that the body is one tensor and
nothing else. Tensors are views of the body they came in, and go out as the buffers they came from the worker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from common.errors import InvalidRequest
from common.tensor import BYTES, DATATYPES, Buffer, TensorSpec, pack_elements, values
from gateway.doors.json import JsonReader
from gateway.doors.predict.inputs import check_shape, flatten, pack
from gateway.doors.v2.infer import (
    NONE,
    InferRequest,
    InferResponse,
    InferTensor,
    Parameter,
    Signature,
    Wanted,
    refuse_shared_memory,
)

HEADER_LENGTH = b"inference-header-content-length"
SIZE = "binary_data_size"
_BINARY, _BINARY_BY_DEFAULT = "binary_data", "binary_data_output"

_Parameters = dict[str, Parameter]


class InputGiven(msgspec.Struct):
    """One input: its elements, or how many bytes of them follow the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: _Parameters | None = None
    data: list[Any] | None = None


class OutputWanted(msgspec.Struct):
    """An output that is asked for; all of them, where none is."""

    name: str
    parameters: _Parameters | None = None


class InferenceBody(msgspec.Struct):
    """The JSON of an inference."""

    inputs: list[InputGiven]
    id: str | None = None
    parameters: _Parameters | None = None
    outputs: list[OutputWanted] | None = None


_decoder = msgspec.json.Decoder(InferenceBody)
_encoder = msgspec.json.Encoder()


def read_header_length(header: bytes | None) -> int | None:
    """The header's number; `InvalidRequest` where it is none."""
    if header is None:
        return None
    if not header.isdigit() or len(header) > 18:
        raise InvalidRequest(f"{HEADER_LENGTH.decode()} should be a number of bytes")
    return int(header)


def read_request(
    body: Buffer, header_length: int | None, model: str, version: str | None, json: JsonReader
) -> InferRequest:
    """What a body says, whose JSON is `header_length` bytes (None: all of it); `InvalidRequest`."""
    view = memoryview(body)
    if header_length is not None and header_length > len(view):
        raise InvalidRequest(
            f"the header is said to have {header_length} bytes, and the body has {len(view)}"
        )
    text = view if header_length is None else view[:header_length]
    header = json.read(text, _decoder, "the request", "the request is not JSON: {error}")
    raw = view[len(view) if header_length is None else header_length :]
    inputs: list[InferTensor] = []
    at = 0
    for each in header.inputs:
        name = f"input {each.name}"
        refuse_shared_memory(name, each.parameters or NONE)
        size = (each.parameters or NONE).get(SIZE)
        data: Buffer
        if size is None:
            data = _pack(each, name)
        else:
            end = at + _check_size(size, len(raw) - at, name)
            if each.data is not None:
                raise InvalidRequest(f"{name} has both data and {SIZE}: give one")
            data, at = raw[at:end], end
        inputs.append(InferTensor(each.name, each.datatype, tuple(each.shape), data))
    if at != len(raw):
        raise InvalidRequest(f"the inputs take {at} bytes of binary data, and the body has {len(raw)}")
    outputs = [Wanted(each.name, each.parameters or NONE) for each in header.outputs or ()]
    return InferRequest(
        model, version, header.id or "", header.parameters or NONE, tuple(inputs), tuple(outputs)
    )


def _pack(given: InputGiven, name: str) -> bytes:
    """An input that stands in the JSON, as a buffer."""
    if given.data is None:
        raise InvalidRequest(f"{name} has neither data nor {SIZE}: give one")
    check_shape(given.name, given.shape)
    flat = flatten(given.data)
    if len(flat) != math.prod(given.shape):
        raise InvalidRequest(
            f"{name}: shape {given.shape} takes {math.prod(given.shape)} elements, and data has {len(flat)}"
        )
    return pack(flat, given.datatype, name)


def _check_size(size: Parameter, left: int, name: str) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= left:
        raise InvalidRequest(
            f"{name}: {SIZE} should be a number of the bytes that follow the JSON, of which {left} are left"
        )
    return size


def read_raw(body: Buffer, takes: Signature, model: str, version: str | None) -> InferRequest:
    """A body that is nothing but the one row of the model's one input; all outputs are to be binary."""
    if len(takes) != 1:
        known = f"takes {len(takes)} inputs" if takes else "does not say what it takes"
        raise InvalidRequest(f"a body without JSON is one input, and the model {known}: say which is which")
    (spec,) = takes
    data: Buffer = memoryview(body)
    if spec.datatype == BYTES:
        if math.prod(spec.row_shape) not in (1, -1):
            raise InvalidRequest(
                f"a body without JSON is one element, and the model takes {[*spec.row_shape]}"
            )
        data, shape = pack_elements([bytes(body)]), tuple(abs(size) for size in spec.row_shape)
    else:
        shape = _row_shape(spec, len(body))
    tensor = InferTensor(spec.name, spec.datatype, (1, *shape), data)
    return InferRequest(model, version, "", {_BINARY_BY_DEFAULT: True}, (tensor,))


def _row_shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    """The shape of a row of so many bytes, where one dimension of it may be free."""
    if spec.row_shape.count(-1) > 1:
        raise InvalidRequest(f"a body without JSON cannot say which shape of {[*spec.row_shape]} it has")
    fixed = DATATYPES[spec.datatype].itemsize * math.prod(each for each in spec.row_shape if each != -1)
    free = size // fixed if fixed else 0
    return tuple(free if each == -1 else each for each in spec.row_shape)


def write_response(response: InferResponse, request: InferRequest) -> tuple[bytes, list[Buffer]]:
    """(JSON, the tensors that follow it), as the request asked for each output.

    `InvalidRequest` where an output that was asked for in JSON has no form there.
    """
    default = request.parameters.get(_BINARY_BY_DEFAULT, False)
    asked = {each.name: each.parameters.get(_BINARY, default) for each in request.outputs}
    outputs: list[dict[str, Any]] = []
    buffers: list[Buffer] = []
    for tensor in response.outputs:
        output: dict[str, Any] = {
            "name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape,
        }  # fmt: skip
        if asked.get(tensor.name, default):
            output["parameters"] = {SIZE: len(tensor.data)}
            buffers.append(tensor.data)
        else:
            output["data"] = _as_json(tensor)
        outputs.append(output)
    header: dict[str, Any] = {"model_name": response.model, "model_version": response.version}
    if response.id:
        header["id"] = response.id
    header["parameters"] = response.parameters
    header["outputs"] = outputs
    return _encoder.encode(header), buffers


def _as_json(tensor: InferTensor) -> Sequence[Any]:
    why = ""
    if tensor.datatype == BYTES:
        try:
            return [element.decode() for element in values(tensor.data, BYTES)]
        except UnicodeDecodeError:
            why = "holds bytes that are no UTF-8 text"
    elif not DATATYPES[tensor.datatype].code:
        why = f"is of {tensor.datatype}"
    else:
        flat = values(tensor.data, tensor.datatype)
        if math.isfinite(sum(flat)) or all(map(math.isfinite, flat)):
            return flat
        why = "holds NaN or infinity"
    raise InvalidRequest(
        f"output {tensor.name} {why}, which JSON has no form for: ask for it with {_BINARY} true"
    )
