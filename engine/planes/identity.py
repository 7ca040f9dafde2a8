"""Who a worker is: its id, its name, its host's addresses."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass, field
from typing import Any

import netifaces


@dataclass(frozen=True)
class Identity:
    """`id` is made anew by each process, so a worker that died can never be taken for its successor.
    `incarnation` is what its launcher counts; 0 where it was started by hand."""

    name: str
    incarnation: int = 0
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


def identify(name: str | None, incarnation: int = 0) -> Identity:
    """This process, called `name`, or after its host and process id."""
    return Identity(name or f"{socket.gethostname()}-{os.getpid()}", incarnation)


def host_addresses() -> list[str]:
    """Every IP address of this host, IPv4 before IPv6, loopback last, none with its interface's name."""
    found: list[str] = []
    for interface in netifaces.interfaces():
        try:
            families: Any = netifaces.ifaddresses(interface)
        except (OSError, ValueError):  # it went away since it was listed
            continue
        for family in (netifaces.AF_INET, netifaces.AF_INET6):
            found += [
                entry["addr"].partition("%")[0] for entry in families.get(family, ()) if "addr" in entry
            ]
    return sorted(dict.fromkeys(found), key=lambda address: (address in ("127.0.0.1", "::1"), ":" in address))
