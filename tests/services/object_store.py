"""An S3 API in memory (moto's server) as a process of its own: prints its URL, serves until killed.

python tests/services/object_store.py
"""

from __future__ import annotations

import logging
import signal

from moto.server import ThreadedMotoServer


def main() -> None:
    """Serve on a free port of this machine."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"objects at http://{host}:{port}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
