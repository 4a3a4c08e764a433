"""Command line of the conformance suite: a sub-command is a module of :data:`COMMANDS`.

Such a module has a docstring, whose first line is the help; ``add_arguments(parser)``; and ``main(args)``,
which returns the exit status. It imports what is heavy inside ``main``.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from conformance.manifest import ManifestError

PROG = "tgv-conformance"

#: Modules of this package, by the name of their sub-command.
COMMANDS = {
    "generate": "generate",
    "trace": "trace",
    "run": "run",
    "check": "check",
    "fluster": "fluster",
    "mutate": "mutate",
    "fuzz": "fuzz",
}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog=PROG,
        description="Conformance suite of TGV, the bitstream of generative video coding.",
        epilog="Exit status: 0 all is well; 1 it is not; 2 wrong usage.",
    )
    p.add_argument("--version", action="version", version="%(prog)s 0.1.0 (TGV 0.1)")
    commands = p.add_subparsers(metavar="COMMAND", required=True)
    for name, module_name in COMMANDS.items():
        module = import_module(f"conformance.{module_name}")
        summary = (module.__doc__ or "").split("\n", 1)[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        status: int = args.main(args)
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130
    except (OSError, ManifestError) as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
