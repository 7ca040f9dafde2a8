"""Noticing that a gateway has fallen silent: its host may be cut off and no connection end, so NNG waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TICK = 0.5
SILENCE = 6  # ticks without a hello; the gateway says two a second, and has given the worker up by then
LONG = 3  # silences


@contextmanager
def kept_contact(
    hellos: Callable[[], int],
    connection: Callable[[], object],
    silent: Callable[[bool], None],
    give_up: Callable[[float], None] = lambda seconds: None,
    patience: float = 0.0,
) -> Iterator[None]:
    """Meanwhile `silent(is_long)` is called whenever there were no `hellos` over a `connection` for a while,
    again and again; `is_long` says that there were none for longer than a gateway is held up. After
    `patience` seconds without any (0: never) `give_up` is told so, once.

    Ticks are counted, and no time is measured: a process that was stopped hears what waits for it first.
    """
    over = threading.Event()

    def watch() -> None:
        heard, over_which = hellos(), connection()
        alone = silence = 0  # ticks without a hello, and those of them over one connection
        while not over.wait(TICK):
            now, over_this = hellos(), connection()
            alone = alone + 1 if now == heard else 0
            silence = silence + 1 if now == heard and over_this is over_which else 0
            heard, over_which = now, over_this
            if patience and alone > 1 and alone * TICK >= patience:
                return give_up(alone * TICK)
            if silence and silence % SILENCE == 0:
                silent(alone >= LONG * SILENCE)

    thread = threading.Thread(target=watch, name="contact", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
