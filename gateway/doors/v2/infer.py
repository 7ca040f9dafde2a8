"""What an inference of the Open Inference Protocol is, whatever carried it: checked, started, answered.

A door reads its own format into an `InferRequest`, and writes an `InferResponse` into it. Nothing here knows
HTTP or gRPC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from common.errors import InvalidRequest, PipelineError, TooLarge
from common.tensor import BYTES, DATATYPE_NAMES, DATATYPES, Buffer, TensorSpec, row_ends
from common.wire import MAX_BATCH_BYTES
from gateway.auth.clients import Client
from gateway.doors.predict.inputs import check_elements, check_shape
from gateway.doors.v2.classify import classify, read_classes
from gateway.models.catalog import Catalog, Version
from gateway.scheduling.predictions import MAX_TIMEOUT, Predictions
from gateway.scheduling.requests import Answer, Request

Parameter = bool | int | float | str
Parameters = Mapping[str, Parameter]
Signature = tuple[TensorSpec, ...]

NONE: Parameters = {}

_MICROSECONDS = 1e6
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
_SHARED_MEMORY = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")


class InferTensor(NamedTuple):
    """One tensor: `shape` begins with the number of rows, `data` is little-endian and row-major; each element
    of BYTES has its length (u32) before it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Buffer


class Wanted(NamedTuple):
    """An output that is asked for."""

    name: str
    parameters: Parameters = NONE


class InferRequest(NamedTuple):
    """What a client asks. `version` None (or empty): ours to choose; `outputs` empty: all."""

    model: str
    version: str | None
    id: str
    parameters: Parameters
    inputs: tuple[InferTensor, ...]
    outputs: tuple[Wanted, ...] = ()


class InferResponse(NamedTuple):
    """What it is answered; `answer` is what it was made of, for a door that says more of it."""

    model: str
    version: str
    id: str
    parameters: Parameters
    outputs: tuple[InferTensor, ...]
    answer: Answer


class Checked(NamedTuple):
    """A request that was held against the version that answers it; `signature` is what its rows are."""

    request: InferRequest
    version: Version
    signature: Signature
    rows: int

    def buffers(self) -> tuple[Buffer, ...]:
        """Its tensors' data, in the order of the signature."""
        by_name = {tensor.name: tensor.data for tensor in self.request.inputs}
        return tuple([by_name[spec.name] for spec in self.signature])

    def respond(self, answer: Answer) -> InferResponse:
        """What it is answered; `InvalidRequest` where an output that was asked for is not there."""
        request = self.request
        return make_response(request.model, request.id, request.outputs, self.version, answer, self.rows)


class Inference:
    """What the doors of this protocol have in common."""

    def __init__(self, predictions: Predictions, catalog: Catalog) -> None:
        self._predictions = predictions
        self._catalog = catalog

    def start(
        self,
        request: InferRequest,
        *,
        header: Callable[[bytes], bytes | None],
        timeout: float | None,
        reply: Callable[[InferResponse | PipelineError], None],
        door: str,
        client: Client | None = None,
    ) -> Request:
        """Admit a request; `reply` comes later, exactly once, unless it is cancelled first.

        `header` gives a header or metadata entry by its lower-case name (an experiment may look for one),
        `timeout` is the transport's deadline in seconds from now. What is wrong is raised as a
        `PipelineError`; then there is no reply.
        """
        checked = self.check(request, header)

        def answered(answer: Answer | PipelineError) -> None:
            if isinstance(answer, PipelineError):
                reply(answer)
                return
            try:
                response = checked.respond(answer)
            except PipelineError as error:
                reply(error)
            else:
                reply(response)

        return self.begin(
            checked,
            checked.buffers(),
            header=header,
            timeout=timeout,
            reply=answered,
            door=door,
            client=client,
        )

    def check(self, request: InferRequest, header: Callable[[bytes], bytes | None]) -> Checked:
        """Everything that `start` asks of a request; nothing has begun."""
        check_parameters(request.parameters)
        combine_timeouts(request.parameters, None)
        version = self.find(request, header)
        check_wanted(request.outputs, version.outputs)
        takes = version.inputs or version.settings.signature
        signature, rows = read_inputs(request.inputs, takes, max_rows=self._predictions.max_rows)
        return Checked(request, version, signature, rows)

    def begin(
        self,
        checked: Checked,
        buffers: tuple[Buffer, ...],
        *,
        header: Callable[[bytes], bytes | None],
        timeout: float | None,
        reply: Callable[[Answer | PipelineError], None],
        door: str,
        client: Client | None = None,
    ) -> Request:
        """Admit a request that was checked, with its rows in the order of the signature."""
        parameters = checked.request.parameters
        seconds = combine_timeouts(parameters, timeout) if parameters else timeout
        return self._predictions.start(
            checked.version,
            checked.signature,
            buffers,
            checked.rows,
            seconds,
            reply,
            door=door,
            header=header,
            client=client,
        )

    def cancel(self, request: Request) -> None:
        """Whoever asked has gone."""
        self._predictions.cancel(request)

    def refused(self, door: str, model: str, error: PipelineError) -> None:
        """A door answered with an error what could not be started; `model` may be unknown ("")."""
        self._predictions.refused(door, model, error)

    def find(self, request: InferRequest, header: Callable[[bytes], bytes | None]) -> Version:
        """What answers it."""
        if request.version:
            return self._catalog.find(request.model, request.version)
        return self._catalog.choose(request.model, header)


def check_parameters(parameters: Parameters) -> None:
    """`InvalidRequest` for what this protocol has a meaning for that is not served. Other parameters are the
    model's own affair, and have no effect."""
    for name in _SEQUENCE:
        if parameters.get(name):
            raise InvalidRequest(f"{name} is not served: every request stands alone, leave it out")
    priority = parameters.get("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int) or priority < 0:
        raise InvalidRequest("priority should be a whole number of 0 or more")


def refuse_shared_memory(name: str, parameters: Parameters) -> None:
    """`InvalidRequest` for a tensor that is said to lie in shared memory."""
    if any(key in parameters for key in _SHARED_MEMORY):
        raise InvalidRequest(f"{name}: shared memory is not served, send the tensor with the request")


def combine_timeouts(parameters: Parameters, transport: float | None) -> float | None:
    """Seconds: the smaller of the parameter `timeout` (microseconds; 0 is none) and the transport's own."""
    wanted = parameters.get("timeout", 0)
    most = round(MAX_TIMEOUT * _MICROSECONDS)
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not 0 <= wanted <= most:
        raise InvalidRequest(f"timeout should be a whole number of microseconds from 0 (none) to {most}")
    given = [wanted / _MICROSECONDS] if wanted else []
    if transport is not None:
        given.append(transport)
    return min(given, default=None)


def check_wanted(wanted: Sequence[Wanted], gives: Signature) -> None:
    """`InvalidRequest` for outputs that the model does not give, as far as that is known."""
    names = [each.name for each in wanted]
    if len(set(names)) < len(names):
        raise InvalidRequest(f"outputs name one twice: {', '.join(names)}")
    for each in wanted:
        refuse_shared_memory(f"output {each.name}", each.parameters)
        read_classes(each.name, each.parameters)
        if gives:
            _refuse_unknown(each.name, [spec.name for spec in gives])


def _refuse_unknown(name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise InvalidRequest(f"there is no output {name}: the model gives {', '.join(known)}")


def read_inputs(inputs: Sequence[InferTensor], takes: Signature, *, max_rows: int) -> tuple[Signature, int]:
    """(what one row of each input is, in the model's order, rows), checked against what the model takes;
    where nobody knows (`takes` is empty) the inputs are taken as they are. `InvalidRequest`, `TooLarge`."""
    if not inputs:
        raise InvalidRequest("inputs is empty: give at least one tensor")
    rows = inputs[0].shape[0] if inputs[0].shape else 0
    for tensor in inputs:
        check_shape(tensor.name, tensor.shape)
        if not tensor.shape or tensor.shape[0] != rows or rows < 1:
            raise InvalidRequest(
                f"input {tensor.name}: shape {list(tensor.shape)} should begin with the number of rows, the"
                " same for all inputs and at least 1"
            )
    if rows > max_rows:
        raise TooLarge(f"{rows} rows in one request: at most {max_rows} are allowed")
    size = sum([memoryview(tensor.data).nbytes for tensor in inputs])
    if size > MAX_BATCH_BYTES:  # before its elements are looked at, one by one
        raise TooLarge(f"the rows have {size} bytes: at most {MAX_BATCH_BYTES} go to a worker")
    signature = _fit(inputs, takes) if takes else _as_given(inputs)
    for tensor in inputs:
        check_data(tensor)
    return signature, rows


def _as_given(inputs: Sequence[InferTensor]) -> Signature:
    names = [tensor.name for tensor in inputs]
    if len(set(names)) < len(names):
        raise InvalidRequest(f"inputs have the same name twice: {', '.join(names)}")
    return tuple([TensorSpec(tensor.name, tensor.datatype, tensor.shape[1:]) for tensor in inputs])


def _fit(inputs: Sequence[InferTensor], takes: Signature) -> Signature:
    """What the model takes, with its free dimensions as they were given."""
    given = {tensor.name: tensor for tensor in inputs}
    if len(given) < len(inputs) or given.keys() != {spec.name for spec in takes}:
        raise InvalidRequest(
            f"the model takes the inputs {', '.join(spec.name for spec in takes)}, each once, and the request"
            f" has {', '.join(tensor.name for tensor in inputs)}"
        )
    is_free = False
    for spec in takes:
        tensor = given[spec.name]
        if tensor.datatype != spec.datatype:
            raise InvalidRequest(
                f"input {spec.name}: the model takes {spec.datatype}, and the request has {tensor.datatype}"
            )
        shape = tensor.shape[1:]
        if shape != spec.row_shape:
            is_free = True
            fits = len(shape) == len(spec.row_shape) and all(
                want in (-1, have) for want, have in zip(spec.row_shape, shape, strict=True)
            )
            if not fits:
                raise InvalidRequest(
                    f"input {spec.name}: the model takes the shape {[-1, *spec.row_shape]}, where -1 is any"
                    f" number, and the request has {list(tensor.shape)}"
                )
    if not is_free:
        return takes
    return tuple([TensorSpec(spec.name, spec.datatype, given[spec.name].shape[1:]) for spec in takes])


def check_data(tensor: InferTensor) -> None:
    """`InvalidRequest` unless the data is as long as the tensor's shape and datatype say; `TooLarge`."""
    name = f"input {tensor.name}"
    if tensor.datatype == BYTES:
        check_elements(name, math.prod(tensor.shape))
        try:
            row_ends(tensor.data, math.prod(tensor.shape), 1)
        except InvalidRequest as error:
            raise InvalidRequest(f"{name}: {error}") from None
        return
    known = DATATYPES.get(tensor.datatype)
    if known is None:
        raise InvalidRequest(
            f"{name}: datatype {tensor.datatype[:60]!r} is not known: use one of {', '.join(DATATYPE_NAMES)}"
        )
    size = memoryview(tensor.data).nbytes
    wanted = math.prod(tensor.shape) * known.itemsize
    if size != wanted:
        raise InvalidRequest(
            f"{name}: {list(tensor.shape)} of {tensor.datatype} takes {wanted} bytes, and there are {size}"
        )
    if known.code == "?" and bytes(tensor.data).translate(None, b"\0\1"):
        raise InvalidRequest(f"{name}: BOOL takes bytes of 0 and 1 only")


def make_response(
    model: str, request_id: str, wanted: Sequence[Wanted], version: Version, answer: Answer, rows: int
) -> InferResponse:
    """The outputs that were asked for, in that order; `InvalidRequest` where one is not there."""
    outputs = {
        spec.name: InferTensor(spec.name, spec.datatype, (rows, *spec.row_shape), buffer)
        for spec, buffer in zip(answer.outputs, answer.buffers, strict=True)
    }
    chosen = outputs.values() if not wanted else [_choose(each, outputs, version) for each in wanted]
    by = {"worker": answer.by.worker, "cache": "hit" if answer.hit else "miss"}
    return InferResponse(model, version.key.version, request_id, by, tuple(chosen), answer)


def _choose(wanted: Wanted, outputs: Mapping[str, InferTensor], version: Version) -> InferTensor:
    _refuse_unknown(wanted.name, list(outputs))
    output = outputs[wanted.name]
    count = read_classes(wanted.name, wanted.parameters)
    if not count:
        return output
    shape, data = classify(output.datatype, output.shape, output.data, count, version.settings.labels)
    return output._replace(datatype=BYTES, shape=shape, data=data)
