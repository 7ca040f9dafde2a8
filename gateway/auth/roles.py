"""What a route needs, and which tokens have it. Pure."""

from __future__ import annotations

import enum

from common.tokens import RoleName


class Role(str, enum.Enum):
    """What one has to hold. A route that says nothing needs `read` to be looked at, `admin` to be anything
    else, so that what is forgotten is shut."""

    OPEN = "open"  # no token: probes, pages without anything on them
    ANY = "any"  # whichever token
    PREDICT = "predict"
    READ = "read"
    ADMIN = "admin"


_HELD: dict[RoleName, frozenset[Role]] = {
    "predict": frozenset((Role.OPEN, Role.ANY, Role.PREDICT)),
    "read": frozenset((Role.OPEN, Role.ANY, Role.READ)),
    "admin": frozenset(Role),
}


def holds(held: RoleName, needed: Role) -> bool:
    """Whether a token of this role may do what needs that one. `predict` cannot look at the fleet, nor `read`
    have anything computed; `admin` may do all."""
    return needed in _HELD[held]


def role_of_method(method: str) -> Role:
    """What an operation needs that says nothing."""
    return Role.READ if method in ("GET", "HEAD") else Role.ADMIN
