"""The command line: `tripletlib COMMAND ...`, the same as `python -m tripletlib COMMAND ...`."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

# Imported when asked for: a training needs no Jupyter, and `--help` needs no PyTorch.
COMMANDS = {
    "train": ("tripletlib.experiments.train", "train one experiment, without Jupyter"),
    "score": ("tripletlib.experiments.evaluate_run", "score a trained experiment, also re-ranked"),
    "ship": ("tripletlib.experiments.retrieval", "make a run's weights the ones that ship"),
    "notebooks": ("tripletlib.publishing.runner", "execute the notebooks, or renew their outputs"),
    "slides": ("tripletlib.publishing.slides", "make a deck of slides of each lesson"),
    "results": ("tripletlib.publishing.results", "keep a run, or renew the page of results"),
    "doctor": ("tripletlib.publishing.doctor", "look whether the lessons can run here"),
    "course": ("tripletlib.publishing.course", "build the exercise sheets for a course"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Hands the arguments to a command and returns its exit status; no command is status 2."""
    parser = argparse.ArgumentParser(prog="tripletlib", epilog="Each command answers to --help.")
    parser.set_defaults(module=None)
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, (module, what) in COMMANDS.items():
        commands.add_parser(name, help=what, add_help=False).set_defaults(module=module)
    options, rest = parser.parse_known_args(arguments)
    if options.module is None:
        parser.print_help()
        return 2
    status = import_module(options.module).main(rest)
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun started this process
        import_module("tripletlib.runtime").end_at_once(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
