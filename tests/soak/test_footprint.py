"""pure: what a process holds, of this very one; and what is left in common places."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import psutil

from tests.soak.footprint import footprint, left


def test_what_is_opened_is_counted_and_what_is_closed_is_not():
    own = psutil.Process()
    before = footprint(own)
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    memfd = os.memfd_create("soak")
    with socket.socket():
        during = footprint(own)
    os.close(memfd)
    go.set()
    thread.join()
    grown = [now - then for now, then in zip(during, before, strict=True)][1:]
    assert grown == [2, 1, 1, 1]
    assert footprint(own)[1:4] == before[1:4]
    assert before.rss > 1 << 20


def test_clients_are_not_counted():
    own = psutil.Process()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        before = footprint(own, {port})
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            during = footprint(own, {port})
    assert (during.sockets, during.descriptors) == (before.sockets + 1, before.descriptors + 1)  # our own end


def test_files_that_are_left_have_their_names(tmp_path: Path):
    before = left(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    assert [name for name in left(tmp_path) if name not in before and "folder" in name] == [
        str(tmp_path / "folder" / "file")
    ]
