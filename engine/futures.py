"""The futures that `predict_async` gives, and what hangs on them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

from common.errors import PipelineError
from common.log import event

log = logging.getLogger("pipeline.engine")

Callback = Callable[[Any, "BaseException | None"], object]  # (prediction, None) or (None, error)


class PredictionFuture(Future[Any]):
    """The future of one row's prediction; `request_id` is the caller's, or one made for it."""

    def __init__(
        self, request_id: str, withdraw: Callable[[Future[Any]], None], callback: Callback | None = None
    ) -> None:
        super().__init__()
        self.request_id = request_id
        self._withdraw = withdraw
        if callback is not None:
            self.add_done_callback(partial(_tell, callback))

    def cancel(self) -> bool:
        """Whether it was still queued; then it is never run, and makes room for another."""
        was_done = self.done()
        is_cancelled = super().cancel()
        if is_cancelled and not was_done:
            self._withdraw(self)
        return is_cancelled


def set_answer(future: Future[Any], answer: Any) -> None:
    """Set a future that runs to a prediction or an error; whatever hangs on it is called here."""
    if isinstance(answer, PipelineError):
        answer.request_id = getattr(future, "request_id", None)
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _tell(callback: Callback, future: Future[Any]) -> None:
    """Call a user's callback, whose errors are its own."""
    error = CancelledError() if future.cancelled() else future.exception()
    try:
        callback(None if error is not None else future.result(), error)
    except BaseException as raised:  # SystemExit too: the next future has to be set
        event(log, logging.ERROR, "a callback of predict_async failed", error=repr(raised))
        log.debug("where it happened", exc_info=raised)
