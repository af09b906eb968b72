"""Command line of `tripletlib train`: an experiment from a parameter file."""

import argparse
import sys
from collections.abc import Sequence

from tripletlib.experiments.experiment import Experiment
from tripletlib.runtime import ProcessesFailed, is_first_on_machine, process_group
from tripletlib.training import CheckpointError, NonFiniteLossError


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `tripletlib train`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tripletlib train",
        description="Train for person re-identification without Jupyter.",
    )
    parser.add_argument("params", help="a file such as 03_market1501_original.yaml")
    parser.add_argument("--embed", action="store_true", help="embed query and gallery afterwards")
    options = parser.parse_args(arguments)
    try:
        experiment = Experiment.from_file(options.params)
        with process_group():
            experiment.run(options.embed)
    except (OSError, ValueError, CheckpointError) as error:
        message, status = f"error: {error}", 2
    except (KeyboardInterrupt, NonFiniteLossError, ProcessesFailed) as error:
        message, status = str(error) or "stopped", 1
    else:
        return 0
    # The others mostly have the same message; but a file may be missing on one machine only.
    if is_first_on_machine():
        print(message, file=sys.stderr)
    return status
