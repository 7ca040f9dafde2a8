"""How the HTTP lane's direct handlers ask who their client is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from common.errors import PipelineError
from gateway.auth.clients import Client
from gateway.auth.gate import Gate, Proof
from gateway.auth.roles import Role
from gateway.doors.shape import error_body, lines_of
from gateway.doors.v2.failures import status_of
from gateway.http1.exchange import Exchange, Handler
from gateway.http1.request import Refused


class LaneGuard:
    """Direct handlers predict, and so need that role. Who is known passes at once. A stranger is refused
    before the body is read, else the bodies of all strangers would have to be kept. `lines` are the header
    lines that go with that beside its own."""

    def __init__(self, gate: Gate, lines: Callable[[Exchange], bytes] = lambda exchange: b"") -> None:
        self._gate = gate
        self._lines = lines

    def __call__(self, exchange: Exchange, handler: Handler) -> Handler:
        header = exchange.header(b"authorization")
        try:
            client = self._gate.recall(header, Role.PREDICT)
        except PipelineError as error:
            if error.status == 401:
                raise self._refusal(exchange, error) from None
            return partial(_answer, error)
        if client is not None:
            exchange.client = client
            return handler
        try:
            proof = self._gate.begin(header, exchange.address)
        except PipelineError as error:
            raise self._refusal(exchange, error) from None
        return partial(self._prove, proof, handler)

    def _prove(self, proof: Proof, handler: Handler, exchange: Exchange) -> None:
        def proven(outcome: Client | PipelineError) -> None:
            if exchange.gone:
                return
            if isinstance(outcome, PipelineError):
                _answer(outcome, exchange)
                return
            exchange.client = outcome
            handler(exchange)

        self._gate.prove_soon(proof, Role.PREDICT, proven)

    def _refusal(self, exchange: Exchange, error: PipelineError) -> Refused:
        """It is answered, and its connection closed."""
        extra = lines_of(error, error.status) + self._lines(exchange)
        return Refused(error.status, str(error), exchange.path, extra)


def _answer(error: PipelineError, exchange: Exchange) -> None:
    status = status_of(error)
    exchange.respond(status, error_body(status, str(error), exchange.path), lines_of(error, status))
