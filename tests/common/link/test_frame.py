"""Contract: what a received frame's memory is good for."""

from __future__ import annotations

import gc
import weakref

import pynng

from common.link.nng import Frame


def test_a_piece_of_a_frame_outlives_it_and_the_last_piece_frees_it():
    message = pynng.Message(b"abc" * 100_000)
    gone = weakref.ref(message)
    frame = Frame(message)
    del message
    piece = frame.view[3:6]
    del frame
    gc.collect()
    assert gone() is not None
    assert bytes(piece) == b"abc"
    del piece
    gc.collect()
    assert gone() is None


def test_a_frame_of_nothing_is_empty():
    assert bytes(Frame(pynng.Message(b"")).view) == b""
