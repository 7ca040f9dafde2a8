"""REST for experiments: what is asked as a `Plan`, what an experiment did as JSON values, and the routes."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from common.intervals import Interval, mean_difference, percentile_interval, rate_difference, rate_interval
from gateway.doors.answers import json_response, rolled_answer
from gateway.doors.exchange import read_json
from gateway.doors.models.experiments_api import (
    END,
    LIST,
    PROMOTE,
    PUT,
    SHOW,
    ArmFigures,
    Compared,
    Difference,
    Estimate,
    Figures,
    Promoted,
    Promotion,
    Report,
    ShadowFigures,
    Summary,
)
from gateway.experiments.experimenting import Experimenting
from gateway.experiments.experiments import Arm, Experiment
from gateway.experiments.plans import Plan
from gateway.experiments.split import BUCKETS
from gateway.openapi.operation import Described

_plan, _promotion = msgspec.json.Decoder(Plan), msgspec.json.Decoder(Promotion)


def experiment_routes(experimenting: Experimenting) -> list[Described]:
    """`/experiments` for the app."""

    async def list_them(_request: Request) -> Response:
        shown = [summary(each) for each in experimenting.experiments.all()]
        return json_response({"status": True, "message": "OK", "experiments": shown})

    async def show(request: Request) -> Response:
        return json_response(report(experimenting.experiments.get(request.path_params["name"])))

    async def put(request: Request) -> Response:
        plan = await read_json(request, _plan)
        return json_response(report(await experimenting.put(request.path_params["name"], plan)))

    async def promote(request: Request) -> Response:
        body = await read_json(request, _promotion, empty=b"{}")
        experiment, rolled = await experimenting.promote(request.path_params["name"], body.arm)
        promoted: Promoted = {**report(experiment), **rolled_answer(rolled)}
        return json_response(promoted)

    async def end(request: Request) -> Response:
        return json_response(report(await experimenting.end(request.path_params["name"])))

    async def change(request: Request) -> Response:
        return await {"PUT": put, "DELETE": end}.get(request.method, show)(request)

    name = "/experiments/{name}"
    return [
        Described("/experiments", list_them, get=LIST),
        Described(name, change, get=SHOW, put=PUT, delete=END),  # one route: 405 names the methods of one
        Described(f"{name}/promote", promote, post=PROMOTE),
    ]


def summary(experiment: Experiment) -> Summary:
    """What an experiment is, without what it did."""
    record, plan = experiment.record, experiment.plan
    return {
        "name": record.name,
        "model": plan.model,
        "state": record.state.value,
        "reason": record.reason,
        "promoted": record.winner or None,
        "created": record.created,
        "sticky": plan.sticky,
        "control": experiment.control,
        "guard": plan.guard,
        "weights": plan.arms,
    }


def report(experiment: Experiment) -> Report:
    """What `GET /experiments/{name}` answers: every figure with its 95 % interval, whose ends are null where
    there is too little to say; times in milliseconds."""
    control = experiment.arms[experiment.control]
    arms: dict[str, ArmFigures] = {}
    for name, arm in experiment.arms.items():
        arms[name] = {
            "weight": experiment.plan.arms[name],
            "share": experiment.split.count(name) / BUCKETS,
            **figures(arm),
            "difference": None if arm is control else difference(control, arm),
        }
    shadows: dict[str, ShadowFigures] = {
        name: {**figures(arm), **shadow_figures(arm)} for name, arm in experiment.shadows.items()
    }
    return {"status": True, "message": "OK", **summary(experiment), "arms": arms, "shadows": shadows}


def figures(arm: Arm) -> Figures:
    """What one arm did. Latencies are of requests that did not fail."""
    rate = arm.errors / arm.requests if arm.requests else 0.0
    return {
        "requests": arm.requests,
        "errors": arm.errors,
        "error_rate": estimate(rate, rate_interval(arm.errors, arm.requests)),
        "latency_ms": {
            "mean": estimate(arm.seconds.mean, arm.seconds.interval, scale=1000),
            "p50": percentile(arm, 50),
            "p95": percentile(arm, 95),
            "p99": percentile(arm, 99),
        },
    }


def percentile(arm: Arm, q: int) -> Estimate:
    """A percentile of an arm's latency, in milliseconds."""
    return estimate(arm.latency.percentile(q), percentile_interval(arm.latency, q), scale=1000)


def shadow_figures(arm: Arm) -> Compared:
    """How far a shadow's answers were from those that were given."""
    off = arm.differences
    return {
        "compared": off.count,
        "left_out": arm.left_out,
        "mean_absolute_difference": estimate(off.mean, off.interval) if off.count else None,
    }


def difference(control: Arm, arm: Arm) -> Difference:
    """How an arm differs from the control: above 0 is more errors, or slower."""
    rates = [each.errors / each.requests if each.requests else 0.0 for each in (control, arm)]
    errors = rate_difference((control.errors, control.requests), (arm.errors, arm.requests))
    seconds = mean_difference(control.seconds, arm.seconds)
    return {
        "error_rate": estimate(rates[1] - rates[0], errors),
        "latency_ms": estimate(arm.seconds.mean - control.seconds.mean, seconds, scale=1000),
    }


def estimate(value: float, interval: Interval | None, *, scale: float = 1.0) -> Estimate:
    """A figure and where it lies at 95 %."""
    return {
        "value": value * scale,
        "low": None if interval is None else interval.low * scale,
        "high": None if interval is None else interval.high * scale,
    }
