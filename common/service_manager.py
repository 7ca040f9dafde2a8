"""Telling the service manager that a program serves, as sd_notify of systemd does."""

from __future__ import annotations

import contextlib
import socket

READY = b"READY=1"


def notify(address: str, state: bytes) -> None:
    """Send a state to the socket that `NOTIFY_SOCKET` names; nothing where nobody wants to know."""
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.sendto(state, f"\0{address[1:]}" if address.startswith("@") else address)
