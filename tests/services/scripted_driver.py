"""A driver that has no Ray: it answers as it is told to by the ids that it is asked to stop."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec

from gateway.launchers.launcher import LaunchState
from gateway.launchers.ray.orders import Answer, Order, Stop


def main() -> None:
    """Carry out orders; `hold`: the answer comes with the next one."""
    held = b""
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        what = order.order.id if isinstance(order.order, Stop) else ""
        if what == "end":
            sys.exit(3)
        seen = {f"a-{order.number}.1": (LaunchState.RUNNING, "")}
        error = "Ray refused" if what == "fail" else ""
        answer = msgspec.json.encode(Answer(order.number, seen=seen, error=error)) + b"\n"
        if what == "hold":
            held = answer
            continue
        sys.stdout.buffer.write(held + answer)
        sys.stdout.buffer.flush()
        held = b""


main()
