"""The other pool's figures: MLPool 0.1.0 of PyPI, run by `bench.pool` in a process that has it for `ml_pool`.

Prints one JSON object: overhead of a job and construct-to-ready in seconds, and the round trip of 100 MB in
bytes a second.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from importlib import import_module
from typing import Any

import numpy as np


def main() -> None:
    """Measure; sys.argv says how many jobs."""
    jobs = import_module("pool_jobs")  # beside this file, which is no package's here
    pool_class: Any = import_module("ml_pool").MLPool
    for name in ("ml_pool", "ml_worker"):  # it logs every job to stdout
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).addHandler(logging.NullHandler())
    logging.disable()
    began = time.perf_counter()
    with pool_class({"model": jobs.load_torch}, nb_workers=1) as pool:
        found = {"ready": time.perf_counter() - began}
        pool.get_result(pool.create_job(jobs.spin, "model", (0.0,)))
        count = int(sys.argv[1])
        began = time.perf_counter()
        ran = sum(pool.get_result(pool.create_job(jobs.spin, "model", (0.001,))) for _ in range(count))
        found["overhead"] = (time.perf_counter() - began - ran) / count
        array = np.ones(100_000_000, np.uint8)
        began = time.perf_counter()
        pool.get_result(pool.create_job(jobs.echo, "model", (array,)))
        found["rate"] = array.nbytes / (time.perf_counter() - began)
    print("figures", json.dumps(found))


if __name__ == "__main__":
    main()
