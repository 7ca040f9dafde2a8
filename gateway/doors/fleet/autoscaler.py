"""REST for the autoscaler: what it goes by, and why there are as many workers as there are."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from common.errors import InvalidRequest, NotFound
from gateway.autoscaler.autoscaler import Autoscaler, Made
from gateway.autoscaler.policy import Decision
from gateway.autoscaler.scaling import Values
from gateway.doors.answers import json_response
from gateway.doors.exchange import read_json
from gateway.doors.fleet.autoscaler_api import (
    CHANGE,
    EVENTS,
    MOST,
    SHOW,
    AutoscalerShown,
    DecisionShown,
    EventShown,
)
from gateway.openapi.operation import Described

LIMIT = 100
_decoder = msgspec.json.Decoder(Any)


def autoscaler_routes(autoscaler: Autoscaler | None) -> list[Described]:
    """`/autoscaler` for the app; None where the gateway starts no workers."""

    async def change(request: Request) -> Response:
        there = _there(autoscaler)
        if request.method == "PUT":
            await there.change(await _read(request))
        return json_response(shown(there))

    async def events(request: Request) -> Response:
        limit = _limit(request.query_params.get("limit", str(LIMIT)))
        newest = list(_there(autoscaler).events)[: -limit - 1 : -1]
        return json_response(
            {"status": True, "message": "OK", "events": [event_shown(each) for each in newest]}
        )

    return [
        Described("/autoscaler", change, get=SHOW, put=CHANGE),  # one route: 405 names the methods of one
        Described("/autoscaler/events", events, get=EVENTS),
    ]


def shown(autoscaler: Autoscaler) -> AutoscalerShown:
    """What `GET /autoscaler` answers."""
    scaling, last, held = autoscaler.scaling, autoscaler.last, autoscaler.policy.capacity
    counts = autoscaler.workforce.counts()
    rate = autoscaler.policy.traffic.rate(scaling.policy.panic_window)
    return {
        "status": True,
        "message": "OK",
        "min_workers": scaling.min_workers,
        "max_workers": scaling.max_workers,
        "scale_to_zero": scaling.scale_to_zero,
        "paused": scaling.paused,
        "policy": scaling.policy,
        "workers": {
            "wanted": autoscaler.workforce.target,
            "ready": counts.ready,
            "starting": counts.starting,
            "draining": counts.draining,
            "failing": counts.failing,
        },
        "decision": None if last is None else decision_shown(last.decision),
        "traffic": None
        if last is None
        else {
            "rows_per_second": round(rate, 3),
            "rows_waiting": last.seen.waiting,
            "requests_in_progress": last.seen.in_hand,
        },
        "capacity": None
        if held is None
        else {"rows_per_second": round(held.rate, 3), "batch_ms": round(held.batch_time * 1000, 3)},
    }


def decision_shown(decision: Decision) -> DecisionShown:
    """A decision as JSON has it."""
    return {"n": decision.n, "rule": decision.rule, "reason": decision.reason}


def event_shown(made: Made) -> EventShown:
    """A decision with its time, and what was seen then."""
    return {
        "number": made.number,
        "at": made.at,
        "before": made.before,
        **decision_shown(made.decision),
        "paused": made.paused,
        "workers_ready": made.seen.ready,
        "rows_waiting": made.seen.waiting,
        "requests_in_progress": made.seen.in_hand,
    }


def _there(autoscaler: Autoscaler | None) -> Autoscaler:
    if autoscaler is None:
        raise NotFound("this gateway starts no workers itself: start it with --max_workers")
    return autoscaler


async def _read(request: Request) -> Values:
    """The object in a body, not yet looked into."""
    patch = await read_json(request, _decoder)
    if not isinstance(patch, dict):
        raise InvalidRequest('the body should be an object, like {"paused": true}')
    return patch


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST):
        raise InvalidRequest(f"limit must be a whole number from 1 to {MOST}, not {text!r}")
    return int(text)
