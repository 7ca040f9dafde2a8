"""A slow cable: run as a program, it is the process between two Ethernet devices that it makes.

    wire.py DELAY NETWORK DEVICE NETWORK DEVICE

A NETWORK is a path such as /proc/PID/ns/net. Frames reach the other device DELAY seconds later; a line of
standard input is another DELAY from then on. It says one line when both devices are there, and ends with its
standard input, so that it never outlives who started it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque
from contextlib import suppress

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
FRAME = 65536


def enter_network(path: str) -> None:
    """Have the calling thread, and what it starts, use another network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "rb") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"{path} cannot be entered")


def open_device(network: str, name: str) -> int:
    """A new Ethernet device in a network; what is sent through it is read here."""
    enter_network(network)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def relay(delay: float, a: int, b: int) -> None:
    """Carry frames both ways until standard input ends."""
    other = {a: b, b: a}
    on_the_way: deque[tuple[float, int, bytes]] = deque()  # as they came: none overtakes another
    while True:
        timeout = max(0.0, on_the_way[0][0] - time.monotonic()) if on_the_way else None
        readable = select.select([0, a, b], [], [], timeout)[0]
        if 0 in readable:
            said = os.read(0, FRAME)
            if not said:
                return
            delay = float(said.split()[-1])
            readable.remove(0)
        now = time.monotonic()
        for device in readable:
            on_the_way.append((now + delay, other[device], os.read(device, FRAME)))
        while on_the_way and on_the_way[0][0] <= now:
            _, device, frame = on_the_way.popleft()
            with suppress(OSError):  # it is down, or full: the frame is lost, as on any cable
                os.write(device, frame)


def main() -> None:
    delay, *ends = sys.argv[1:]
    devices = [open_device(network, name) for network, name in zip(ends[::2], ends[1::2], strict=True)]
    print("ready", flush=True)
    relay(float(delay), *devices)


if __name__ == "__main__":
    main()
