"""The command line: `tripletlib COMMAND ...`, the same as `python -m tripletlib COMMAND ...`."""

import sys
from collections.abc import Sequence
from importlib import import_module

# Imported when asked for: a training needs no Jupyter, and `--help` needs no PyTorch.
COMMANDS = {
    "train": ("tripletlib.experiments.train", "train one experiment, without Jupyter"),
    "score": ("tripletlib.experiments.scoring", "score a trained experiment, also re-ranked"),
    "ship": ("tripletlib.experiments.retrieval", "make a run's weights the ones that ship"),
    "notebooks": ("tripletlib.publishing.runner", "execute the notebooks, or renew their outputs"),
    "results": ("tripletlib.publishing.results", "keep a run in notebooks/results"),
    "results-page": ("tripletlib.publishing.results_page", "write the page of results anew"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Hands the arguments to a command; returns its exit status, 2 if there is no such command."""
    command, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help"):
        print(usage())
        return 0
    if command not in COMMANDS:
        print(f"error: no command {command!r}\n\n{usage()}", file=sys.stderr)
        return 2
    return import_module(COMMANDS[command][0]).main(rest)


def usage() -> str:
    """The commands, a line each."""
    lines = [f"  {name:<14}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        ["usage: tripletlib COMMAND ...", "", *lines, "", "Each command answers to --help."]
    )


if __name__ == "__main__":
    sys.exit(main())
