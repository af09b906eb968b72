"""The command line: `tripletlib COMMAND ...`, the same as `python -m tripletlib COMMAND ...`."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import resolve_name

# Imported when asked for: a training needs no Jupyter, and `--help` needs no PyTorch.
COMMANDS = {
    "train": ("experiments.commands:train", "train one experiment, without Jupyter"),
    "score": ("experiments.commands:score", "score a trained experiment, also re-ranked"),
    "ship": ("experiments.commands:ship", "make a run's weights the ones that ship"),
    "notebooks": ("publishing.runner:main", "execute the notebooks, or renew their outputs"),
    "sweep": ("publishing.sweep:main", "run a grid of experiments"),
    "slides": ("publishing.slides:main", "make a deck of slides of each lesson"),
    "results": ("publishing.results:main", "keep a run, or renew the page of results"),
    "doctor": ("publishing.doctor:main", "look whether the lessons can run here"),
    "query-page": ("widgets.query_page:main", "write the query browser as a page without a kernel"),
    "site": ("publishing.site:main", "build the static site of lessons and sheets"),
    "course": ("publishing.course:main", "build the exercise sheets for a course"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Hands the arguments to a command; returns its exit status, 2 for an error or no command."""
    parser = argparse.ArgumentParser(prog="tripletlib", epilog="Each command answers to --help.")
    parser.set_defaults(function=None)
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, (function, what) in COMMANDS.items():
        commands.add_parser(name, help=what, add_help=False).set_defaults(function=function)
    options, rest = parser.parse_known_args(arguments)
    if options.function is None:
        parser.print_help()
        return 2
    try:
        command = resolve_name(f"tripletlib.{options.function}")
        runtime = import_module("tripletlib.runtime")
    except (Exception, SystemExit) as error:  # of a package that is absent or broken
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"error: a package cannot be used ({reason}); see tripletlib doctor", file=sys.stderr)
        return 2
    message = ""
    try:
        status = command(rest)
    except (runtime.OneLineError, ImportError, OSError, ValueError) as error:
        message, status = f"error: {error}", 2
    except (KeyboardInterrupt, FloatingPointError, runtime.ProcessesFailed) as error:
        message, status = str(error) or "stopped", 1
    # Other processes mostly have the same message; but a file may be missing on one machine only.
    if message and runtime.Processes.is_first_on_machine():
        print(message, file=sys.stderr)
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun started this process
        runtime.end_at_once(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
