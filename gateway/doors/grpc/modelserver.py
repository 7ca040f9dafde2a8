"""The service of modelserver.proto through the fleet: SetCoefs rolls a version of a linear model out, and
Predict asks it. What is wrong with a request is its answer's `error`; what is wrong with the fleet is the
call's status."""

from __future__ import annotations

import math
import time
from array import array
from typing import Any

import trio

from common.errors import CallerError, InvalidRequest, ModelError, NotFound, NoWeights, PipelineError
from common.grpc.call import Call, Method, direct, unary
from common.models import ModelSettings
from common.tensor import all_finite, vector_spec
from gateway.doors.grpc.codec import parse
from gateway.doors.grpc.coefs import coefs_file
from gateway.doors.grpc.inference import DOOR, time_left
from gateway.doors.grpc.messages import message
from gateway.models.catalog import Catalog
from gateway.models.rollout import Rollouts
from gateway.scheduling.predictions import Predictions
from gateway.scheduling.requests import Answer
from gateway.state.blobs import Blob
from gateway.state.state import State, VersionRecord

MODEL = "modelserver"
# One worker holds it: its ten answers are the service's ten, and another takes over if it goes.
SETTINGS = ModelSettings(
    runtime="torch", architecture="linear", round_decimals=4, cache_size=10, instances=1, keep_versions=1
)

_SetCoefs = message("SetCoefsRequest")
_CoefsSet = message("SetCoefsResponse")
_Predict = message("PredictRequest")
_Predicted = message("PredictResponse")


class ModelServerDoor:
    """Each SetCoefs is a version of its own, so that it begins without remembered answers."""

    def __init__(self, predictions: Predictions, catalog: Catalog, rollouts: Rollouts, state: State) -> None:
        self._predictions = predictions
        self._catalog = catalog
        self._rollouts = rollouts
        self._state = state
        self._turn = trio.Lock()  # for the number of the next version

    def methods(self) -> dict[str, Method]:
        """By their names."""
        return {"SetCoefs": unary(self.set_coefs), "Predict": direct(self.predict)}

    async def set_coefs(self, _call: Call, raw: bytes) -> bytes:
        """Use these coefficients from now on."""
        try:
            coefs = array("f", parse(_SetCoefs, raw).coefs)
            if not coefs or not all_finite(coefs):
                raise InvalidRequest("coefs have to be one finite number or more")
            async with self._turn:
                blob, version = await trio.to_thread.run_sync(self._store, coefs_file(coefs))
                record = VersionRecord(
                    MODEL, version, version, blob.sha256, blob.size, time.time(),
                    file="coefs.pt", settings=SETTINGS,
                )  # fmt: skip
                rolled = await self._rollouts.add(record, activate=True)
            traces = [trace for loaded, trace in rolled.results if not loaded]
            return _bytes(_CoefsSet(error=traces[0].strip().splitlines()[-1] if traces else ""))
        except CallerError as error:
            return _bytes(_CoefsSet(error=str(error)))

    def predict(self, call: Call, raw: bytes) -> None:
        """One row's answer."""

        def reply(answer: Answer | PipelineError) -> None:
            if isinstance(answer, CallerError | ModelError):
                call.respond(_bytes(_Predicted(error=str(answer))))
            elif isinstance(answer, PipelineError):
                call.fail(answer)
            else:
                y = answer.buffers[0].cast("f")[0]
                call.respond(_bytes(_Predicted(y=y, hit=answer.hit)))

        try:
            row = array("f", parse(_Predict, raw).X)
            if not row or not math.isfinite(sum(row)):
                raise InvalidRequest("X has to be one finite number or more")
            request = self._predictions.start(
                self._active(),
                vector_spec(len(row)),
                (row.tobytes(),),
                1,
                time_left(call),
                reply,
                door=DOOR,
                header=call.header,
                client=call.client,
            )
        except PipelineError as error:
            self._predictions.refused(DOOR, MODEL, error)
            if not isinstance(error, CallerError):
                raise
            reply(error)
        else:
            call.on_gone = lambda: self._predictions.cancel(request)

    def _active(self) -> Any:
        try:
            return self._catalog.active(MODEL)
        except (NotFound, NoWeights):
            raise NoWeights("there are no coefs yet: call SetCoefs first") from None

    def _store(self, file: bytes) -> tuple[Blob, str]:
        """(its blob, the number of the version it becomes)."""
        with self._state.blobs.new() as writer:
            writer.write(file)
            blob = writer.commit()
        known = [int(each.version) for each in self._state.versions(MODEL) if each.version.isdecimal()]
        return blob, str(max(known, default=0) + 1)


def _bytes(answer: Any) -> bytes:
    serialized: bytes = answer.SerializeToString()
    return serialized
