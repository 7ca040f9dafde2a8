"""ModelInfer, the hot path, and ModelStreamInfer."""

from __future__ import annotations

import time
from collections import deque

import trio

from common.errors import Draining, PipelineError
from common.grpc.call import Call, Metadata, Method, direct, stream
from common.grpc.statuses import status_of
from common.wire import MAX_BATCH_BYTES
from gateway.doors.grpc.codec import (
    convert_request,
    parse_request,
    read_request,
    write_response,
    write_stream_error,
    write_stream_response,
)
from gateway.doors.predict.results import provenance
from gateway.doors.v2.infer import Inference, InferResponse
from gateway.scheduling.predictions import MAX_TIMEOUT
from gateway.scheduling.requests import Answer, Request

MAX_IN_FLIGHT = 64  # requests of one stream that are not answered; the client waits with more
MAX_UNSENT = 1 << 20  # bytes of answers that it has not taken; then nothing more is read of it
MAX_MESSAGE = MAX_BATCH_BYTES + (1 << 20)  # the rows of a request, and what else it says
FINAL = "triton_enable_empty_final_response"
DOOR = "grpc"  # as figures call it
ERRORS_END = b"triton_grpc_error"  # metadata by which a client asks that an error end its stream


class InferenceDoor:
    """One request, or a stream of them."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def methods(self) -> dict[str, Method]:
        """By their names."""
        methods = {"ModelInfer": direct(self.infer), "ModelStreamInfer": stream(self.stream)}
        return {name: method._replace(max_message=MAX_MESSAGE) for name, method in methods.items()}

    def infer(self, call: Call, message: bytes) -> None:
        """Admit a request; it is answered when the batch loop has the answer."""

        def reply(answer: InferResponse | PipelineError) -> None:
            if isinstance(answer, PipelineError):
                call.fail(answer)
            else:
                call.respond(write_response(answer), metadata(answer.answer))

        model = ""
        try:
            asked = read_request(message)
            model = asked.model
            request = self._inference.start(
                asked, header=call.header, timeout=time_left(call), reply=reply, door=DOOR, client=call.client
            )
        except PipelineError as error:
            self._inference.refused(DOOR, model, error)
            raise
        call.on_gone = lambda: self._inference.cancel(request)

    async def stream(self, call: Call) -> None:
        """Each request is answered, in their order; what is wrong with one is its own answer."""
        flow = _Flow(call, self._inference)
        try:
            while (message := await call.receive()) is not None:
                await flow.until(MAX_IN_FLIGHT - 1)
                await call.sent(MAX_UNSENT)
                flow.start(message)
            await flow.until(0)
        except Draining:
            await flow.until(0)
            raise
        finally:
            flow.cancel()


class _Asked:
    """One request of a stream; `answer` is there when those before it may still be on their way."""

    __slots__ = ("answer", "id", "request")

    def __init__(self) -> None:
        self.id = ""
        self.request: Request | None = None
        self.answer: bytes | PipelineError | None = None


class _Flow:
    """Invariant: `_asked` holds what is not answered yet, in the order it came; the first of them has no
    answer."""

    def __init__(self, call: Call, inference: Inference) -> None:
        self._call = call
        self._inference = inference
        self._asked: deque[_Asked] = deque()
        self._moved = trio.Event()
        self._errors_end = call.header(ERRORS_END) == b"true"

    def start(self, message: bytes) -> None:
        """Ask what a message asks."""
        asked = _Asked()
        self._asked.append(asked)
        is_final, model = False, ""

        def reply(answer: InferResponse | PipelineError) -> None:
            if isinstance(answer, PipelineError):
                asked.answer = answer
            else:
                asked.answer = write_stream_response(answer, final=is_final)
            self._send()

        try:
            parsed = parse_request(message)
            asked.id, model = parsed.id, parsed.model_name
            request = convert_request(parsed)
            is_final = request.parameters.get(FINAL) is True
            client = self._call.client
            if client is not None:
                client.check(time.time())
                client.ask(trio.current_time())
            asked.request = self._inference.start(
                request, header=self._call.header, timeout=time_left(self._call), reply=reply, door=DOOR,
                client=client,
            )  # fmt: skip
        except PipelineError as error:
            self._inference.refused(DOOR, model, error)
            reply(error)

    async def until(self, most: int) -> None:
        """Until no more than so many are not answered."""
        while len(self._asked) > most:
            self._moved = trio.Event()
            await self._moved.wait()

    def cancel(self) -> None:
        """Nobody waits for what is not answered."""
        for asked in self._asked:
            if asked.request is not None and asked.answer is None:
                self._inference.cancel(asked.request)
        self._asked.clear()

    def _send(self) -> None:
        while self._asked and (answer := self._asked[0].answer) is not None:
            asked = self._asked.popleft()
            if isinstance(answer, bytes):
                self._call.send(answer)
            elif self._errors_end:
                self._call.stop(status_of(answer), str(answer))
                break
            else:
                self._call.send(write_stream_error(f"[{status_of(answer).name}] {answer}", asked.id))
        self._moved.set()


def metadata(answer: Answer) -> Metadata:
    """What an answer over HTTP has as headers: who gave it, and where its time went."""
    lines = provenance(answer).split(b"\r\n")
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines) if name]


def time_left(call: Call) -> float | None:
    """Seconds that a call has, as far as the gateway counts."""
    left = call.time_left()
    return None if left is None else min(left, MAX_TIMEOUT)
