"""The benchmark suite: `python -m bench COMMAND …`; `python -m bench COMMAND --help` says what one takes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

EXIT_USAGE = 2

# Imported only when it is asked for: what one command needs, another does not.
COMMANDS = {
    "make": ("bench.make", "make a schedule, or read one from a trace"),
    "run": ("bench.executor.command", "send a schedule's requests to a server, and measure"),
    "report": ("bench.report.command", "a page of plots and tables of one result or several"),
    "compare": ("bench.compare", "the ratios of two results, with confidence intervals"),
    "peers": ("bench.peers.command", "put other servers of models beside ours"),
    "sweep": ("bench.sweep", "find the highest rate that keeps p99 under a limit"),
    "profile": ("bench.profile.command", "flame graphs of gateway and worker under load"),
    "overload": ("bench.overload", "ask for four times as much as the server can do"),
    "quick": ("bench.quick", "the README's table of figures, within a minute"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    name, *rest = (sys.argv[1:] if argv is None else list(argv)) or [""]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name not in COMMANDS:
        print(f"bench: there is no command {name!r}\n{usage()}" if name else usage(), file=sys.stderr)
        return EXIT_USAGE
    try:
        module = importlib.import_module(COMMANDS[name][0])
    except ModuleNotFoundError as error:
        print(f"bench {name} needs {error.name}: pip install 'pipeline-inference[bench]'", file=sys.stderr)
        return EXIT_USAGE
    code: int = module.main(rest)
    return code


def usage() -> str:
    """The commands, one a line."""
    lines = ["usage: python -m bench COMMAND …", ""]
    return "\n".join(lines + [f"  {name:<8} {what}" for name, (_, what) in COMMANDS.items()])


if __name__ == "__main__":
    sys.exit(main())
