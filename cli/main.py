"""The main of `pipeline`: read what was asked, do it, end with an exit code.

Exit codes: 0 done, 1 refused or failed, 2 a command line or file that makes no sense, 3 no gateway at that
URL, 4 not now (busy, no worker, past its deadline, not over yet): the same again later may do; 130 Ctrl-C.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

from cli.asked import Asked
from cli.commands import make_parser
from cli.completion import complete
from cli.failure import EXIT_OK, Failure
from cli.output import Output

EXIT_INTERRUPTED = 130
COMPLETE = "__complete"

# argparse takes "-1.0,2.0" for a flag, and " -1.0,2.0" for what it is.
_NEGATIVE = re.compile(r"-(\d|\.\d|inf|nan)")


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; an exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == [COMPLETE]:
        print("\n".join(complete(make_parser(), given[1:], os.environ)))
        return EXIT_OK
    arguments = make_parser().parse_args(_spelled(given))
    output = Output(is_json=getattr(arguments, "json", False))
    try:
        if arguments.has_tables:
            output.check()
        return arguments.run(Asked(arguments, os.environ, output)) or EXIT_OK
    except Failure as failure:
        print(f"pipeline: {failure}", file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `pipeline … | head`: nobody reads the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def _spelled(argv: Sequence[str]) -> list[str]:
    """Flags with underscores, as all of Pipeline's are, and rows that begin with a minus as argparse takes
    them."""
    end = argv.index("--") if "--" in argv else len(argv)
    spelled = []
    for each in argv[:end]:
        name, equals, value = each.partition("=")
        is_flag = name.startswith("--")
        each = f"--{name[2:].replace('-', '_')}{equals}{value}" if is_flag else each
        spelled.append(f" {each}" if _NEGATIVE.match(each) else each)
    return [*spelled, *argv[end:]]
