"""How many more Pods of a kind would find room, by what nodes have and what Pods on them asked for. Pure.

It is the scheduler's arithmetic without its rules on affinity, so a number too high is possible; the Pod that
then waits says so itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from gateway.launchers.kubernetes.pods import Json
from gateway.launchers.kubernetes.quantities import parse_quantity

Amounts = dict[str, Fraction]


def requested(pod: Json) -> Amounts:
    """What a Pod takes of its node: its containers together, or one that runs before, if that is more."""
    spec = pod["spec"]
    first = spec.get("initContainers") or ()
    total: Amounts = {}
    for each in [*spec["containers"], *(each for each in first if _stays(each))]:
        _add(total, _amounts(each))
    for each in first:
        if not _stays(each):
            total |= {name: max(total.get(name, n), n) for name, n in _amounts(each).items()}
    _add(total, {name: parse_quantity(text) for name, text in (spec.get("overhead") or {}).items()})
    return {**total, "pods": Fraction(1)}


def _stays(container: Json) -> bool:
    """Whether a container that starts before the others runs beside them: a sidecar."""
    return bool(container.get("restartPolicy") == "Always")


def _add(total: Amounts, amounts: Amounts, sign: int = 1) -> None:
    for name, n in amounts.items():
        total[name] = total.get(name, Fraction(0)) + sign * n


def _amounts(container: Json) -> Amounts:
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: parse_quantity(quantity) for name, quantity in asked.items()}


def count_room(pod: Json, nodes: Iterable[Json], pods: Iterable[Json]) -> int:
    """How many such Pods fit on nodes that take them, beside all Pods that are there."""
    usable = {node["metadata"]["name"]: node for node in nodes if takes(node, pod)}
    free = {name: _allocatable(node) for name, node in usable.items()}
    for each in pods:
        name = each["spec"].get("nodeName")
        if name in free and (each.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            _add(free[name], requested(each), sign=-1)
    wanted = {resource: amount for resource, amount in requested(pod).items() if amount > 0}
    return sum(
        max(0, min(int(amounts.get(resource, Fraction(0)) // n) for resource, n in wanted.items()))
        for amounts in free.values()
    )


def _allocatable(node: Json) -> Amounts:
    return {name: parse_quantity(text) for name, text in (node["status"].get("allocatable") or {}).items()}


def takes(node: Json, pod: Json) -> bool:
    """Whether a node is there for a Pod at all: ready, not cordoned, selected, its taints tolerated."""
    spec, wanted = node.get("spec") or {}, pod["spec"].get("nodeSelector") or {}
    labels = node["metadata"].get("labels") or {}
    ready = [each["status"] for each in node["status"].get("conditions") or () if each["type"] == "Ready"]
    tolerations = pod["spec"].get("tolerations") or ()
    return (
        not spec.get("unschedulable")
        and ready != ["False"] and ready != ["Unknown"]
        and all(labels.get(name) == value for name, value in wanted.items())
        and all(
            any(_tolerates(each, taint) for each in tolerations)
            for taint in spec.get("taints") or ()
            if taint["effect"] in ("NoSchedule", "NoExecute")
        )
    )  # fmt: skip


def _tolerates(toleration: Json, taint: Json) -> bool:
    """As the scheduler matches them: an empty key or effect matches all."""
    exists = toleration.get("operator", "Equal") == "Exists"
    return (
        toleration.get("effect") in (None, "", taint["effect"])
        and (toleration.get("key") == taint["key"] or (exists and not toleration.get("key")))
        and (exists or toleration.get("value", "") == taint.get("value", ""))
    )
