"""`pipeline certs`: certificates of a fleet, as `python gw.py certs` makes them. Asks nobody."""

from __future__ import annotations

import argparse

from cli.asked import Asked
from cli.failure import Failure
from cli.parser import Tree


def add(tree: Tree) -> None:
    """`certs` and all behind it."""
    parser = tree.leaf("certs", "certificates of a fleet: init, renew, show", certs, has_tables=False)
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="…", help="see pipeline certs init -h")


def certs(asked: Asked) -> int:
    """What the words behind it say."""
    try:
        from gateway.certificates import main
    except ModuleNotFoundError as error:
        raise Failure(f"certs needs {error.name}: pip install 'pipeline-inference[tls]'") from None
    return main(asked.arguments.rest, "pipeline certs")
