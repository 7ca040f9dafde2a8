"""What a gateway starts its fronts by: `python -m gateway.fronts`."""

from __future__ import annotations

import sys

from gateway.fronts.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
