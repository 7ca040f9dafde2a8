"""Submit a batch job and watch it: python examples/batch_job.py GATEWAY INPUT OUTPUT [MODEL]

    python examples/batch_job.py http://127.0.0.1:54321 s3://bucket/in.parquet s3://bucket/out.parquet

Nothing but the standard library. Exit codes: 0 done, 1 not.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
import uuid
from typing import Any


def ask(url: str, body: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
    """One request; its JSON, whatever the status."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as refusal:
        return dict(json.load(refusal))


def main() -> int:
    """Submit, show progress, say how it ended."""
    gateway, source, target, *rest = sys.argv[1:]
    order = {"model": rest[0] if rest else "default", "input": source, "output": target}
    # The same key again is the same job: a lost answer to this request costs nothing.
    job = ask(f"{gateway}/jobs", order, **{"Idempotency-Key": uuid.uuid4().hex})
    while job.get("state") in ("queued", "running"):
        # Comes back at once when it is over, else after a second with how far it is.
        job = ask(f"{gateway}/jobs/{job['id']}/result?wait=1")
        rows = f"{job['rows_done']} rows, {job['rows_failed']} failed"
        print(f"job {job['id']} {job['state']:8} {job['progress']:4.0%}  {rows}", flush=True)
    if job.get("state") != "done":
        print(f"not done: {job['message']}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
