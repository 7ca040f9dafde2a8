"""What an API server refuses of a Pod, in a namespace that enforces the Pod Security Standard "restricted".

Its own reading of the rules (names: RFC 1123; quantities; resources; security), so that it does not repeat
a mistake of the program that it tests.
"""

from __future__ import annotations

import re
from typing import Any

Json = dict[str, Any]

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
STANDARD = {"cpu", "memory", "ephemeral-storage"}
POWERS = {"m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


class Denied(Exception):
    """Raised when the API server answers with a Status in place of what was asked for."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message


def amount(text: str) -> float:
    """A quantity as a number; `ValueError` for what is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGTPE]i|[mkMGTPE]|)", text)
    if match is None:
        raise ValueError(text)
    number, unit = float(match[1]), match[2]
    return number * (1024.0 ** (1 + "KMGTPE".index(unit[0])) if unit.endswith("i") else 10.0 ** POWERS[unit])


def requests(pod: Json) -> dict[str, float]:
    """What its containers ask for, together."""
    total: dict[str, float] = {}
    for each in pod["spec"]["containers"]:
        resources = each.get("resources", {})
        for name, text in {**resources.get("limits", {}), **resources.get("requests", {})}.items():
            total[name] = total.get(name, 0) + amount(text)
    return total


def admit(pod: Json, namespace: str) -> None:
    """`Denied` where a real cluster would not take it."""
    metadata, spec = pod.get("metadata", {}), pod.get("spec", {})
    name = metadata.get("name", "")
    problems = [*_metadata_problems(metadata, namespace), *_spec_problems(spec)]
    if (pod.get("apiVersion"), pod.get("kind")) != ("v1", "Pod"):
        problems.append("should be a Pod of apiVersion v1")
    if problems:
        raise Denied(422, "Invalid", f'Pod "{name}" is invalid: {"; ".join(problems)}')
    unsafe = _security_problems(spec)
    if unsafe:
        raise Denied(
            403,
            "Forbidden",
            f'pods "{name}" is forbidden: violates PodSecurity "restricted:latest": {unsafe}',
        )


def _metadata_problems(metadata: Json, namespace: str) -> list[str]:
    name, problems = metadata.get("name", ""), []
    if not SUBDOMAIN.fullmatch(name) or len(name) > 253:
        problems.append(f"metadata.name: Invalid value: {name!r}: a lowercase RFC 1123 subdomain")
    if len(name) > 63 or "." in name:  # a warning of the real one, as it cuts the host name
        problems.append(f"metadata.name: {name!r} is no host name")
    if metadata.get("namespace", namespace) != namespace:
        problems.append("metadata.namespace: does not match the namespace of the request")
    for key, value in metadata.get("labels", {}).items():
        prefix, _, rest = key.rpartition("/")
        if not NAME.fullmatch(rest) or len(rest) > 63 or (prefix and not SUBDOMAIN.fullmatch(prefix)):
            problems.append(f"metadata.labels: Invalid key {key!r}")
        if not isinstance(value, str) or len(value) > 63 or (value and not NAME.fullmatch(value)):
            problems.append(f"metadata.labels: Invalid value: {value!r}")
    return problems


def _spec_problems(spec: Json) -> list[str]:
    problems = []
    if not spec.get("containers"):
        problems.append("spec.containers: Required value")
    if spec.get("restartPolicy", "Always") not in ("Always", "OnFailure", "Never"):
        problems.append("spec.restartPolicy: Unsupported value")
    for each in spec.get("containers", ()):
        if not LABEL.fullmatch(each.get("name", "")):
            problems.append(f"spec.containers.name: Invalid value: {each.get('name')!r}")
        if not each.get("image"):
            problems.append("spec.containers.image: Required value")
        texts = [*each.get("command", ()), *each.get("args", ())]
        texts += [variable.get(key) for variable in each.get("env", ()) for key in ("name", "value")]
        if not all(isinstance(text, str) for text in texts):
            problems.append(f"spec.containers: all of {texts!r} should be text")
        problems += _resource_problems(each.get("resources", {}))
    return problems


def _resource_problems(resources: Json) -> list[str]:
    problems, limits = [], resources.get("limits", {})
    for kind in ("requests", "limits"):
        for name, text in resources.get(kind, {}).items():
            try:
                value = amount(text)
            except (TypeError, ValueError):
                problems.append(f"spec.containers.resources.{kind}: {text!r} is no quantity")
                continue
            if "/" not in name and name not in STANDARD and not name.startswith("hugepages-"):
                problems.append(f"resources.{kind}: Invalid value: {name!r}: must be a standard resource")
            if "/" in name and (value != int(value) or limits.get(name) != text):
                problems.append(f"resources.{kind}: {name}: must be an integer, and equal to its limit")
            if kind == "requests" and name in limits and value > amount(limits[name]):
                problems.append(f"resources.requests: {name}: must be less than or equal to its limit")
    return problems


def _security_problems(spec: Json) -> str:
    """What "restricted" does not allow, in the real one's words."""
    problems = []
    pod = spec.get("securityContext", {})
    for each in spec["containers"]:
        own = each.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            problems.append("allowPrivilegeEscalation != false")
        if own.get("capabilities", {}).get("drop") != ["ALL"]:
            problems.append("unrestricted capabilities")
        if not own.get("runAsNonRoot", pod.get("runAsNonRoot")):
            problems.append("runAsNonRoot != true")
        if own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") != "RuntimeDefault":
            problems.append("seccompProfile")
    return ", ".join(problems)
