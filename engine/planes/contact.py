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
    silent: Callable[[bool], None],
    give_up: Callable[[float], None] = lambda seconds: None,
    patience: float = 0.0,
) -> Iterator[None]:
    """Meanwhile `silent(is_long)` is called whenever there were no `hellos` for a while, again and again;
    `is_long` says that this is more than a gateway that was held up. After `patience` seconds (0: never)
    `give_up` is told so, once.

    Ticks are counted, and no time is measured: a process that was stopped hears what waits for it first.
    """
    over = threading.Event()

    def watch() -> None:
        heard, ticks = hellos(), 0
        while not over.wait(TICK):
            now = hellos()
            ticks = ticks + 1 if now == heard else 0
            heard = now
            if patience and ticks > 1 and ticks * TICK >= patience:
                return give_up(ticks * TICK)
            if ticks and ticks % SILENCE == 0:
                silent(ticks >= LONG * SILENCE)

    thread = threading.Thread(target=watch, name="contact", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
