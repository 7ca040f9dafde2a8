"""The process of a front. It ends as soon as its gateway has gone, and otherwise only when that says so:
signals that are sent to all processes of a gateway are for the gateway to answer."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from collections.abc import Sequence

import msgspec

from common.channel import Channel
from common.log import configure
from gateway.doors.paths import is_direct
from gateway.fronts.front import Front
from gateway.fronts.messages import Options
from gateway.fronts.shared_crowd import SharedCrowd
from gateway.http1.limits import HttpLimits

EXIT_OK, EXIT_LEFT = 0, 1


def main(argv: Sequence[str]) -> int:
    """Serve what listens at the descriptors `argv[3:]`, with a gateway at `argv[0]`, as `argv[1]` says; at
    `argv[2]` is the table of connections."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    options = msgspec.json.decode(argv[1], type=Options)
    configure(options.log_level, options.log_format)
    limits = HttpLimits(max_body_of=_max_body_of, **options.limits)
    listeners = [socket.socket(fileno=int(each)) for each in argv[3:]]
    gc.freeze()
    kind = _secure() if options.is_secure else Front
    try:
        front = kind(Channel(socket.socket(fileno=int(argv[0]))), listeners, limits)
        front.crowd = SharedCrowd(limits.max_connections_per_address, int(argv[2]), options.row)
        front.run()
    except OSError:
        return EXIT_LEFT
    return EXIT_OK


def _secure() -> type[Front]:
    from gateway.fronts.secure import SecureFront  # OpenSSL takes several MiB

    return SecureFront


def _max_body_of(method: str, path: str) -> int | None:
    """What is not ours the gateway measures."""
    return None if is_direct(method, path) else sys.maxsize
