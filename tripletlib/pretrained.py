"""The LuNet that ships with the package, so that retrieval can be studied without training first.

`python -m tripletlib.pretrained notebooks/params/03_synthetic_full.yaml` makes its file from the
newest checkpoint of that training. It was trained on drawn pedestrians and on nothing else: it is
of no use on photographs.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tripletlib.checkpoints import CheckpointError
from tripletlib.experiment import Experiment
from tripletlib.models import LuNet

WEIGHTS = Path(__file__).parent / "weights" / "lunet_synthetic.safetensors"
_DESCRIPTION = "lunet"  # safetensors keeps text beside the tensors: ours is JSON under this name


def load_pretrained(file: Path = WEIGHTS) -> tuple[LuNet, dict[str, Any]]:
    """Makes a LuNet and fills it with the weights of a file that `save_pretrained` wrote.

    Args:
        file: a safetensors file, by default the one that ships; nothing in it is executed.

    Returns:
        The network in evaluation mode, in float32 on the CPU, and its description: `embedding_dim`,
        `width`, `image_size`, `original` and the training's `step`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds no LuNet.

    Example:
        >>> model, description = load_pretrained()
        >>> model(torch.zeros(1, 3, *description["image_size"])).shape
        torch.Size([1, 128])
    """
    try:
        with safe_open(file, framework="pt") as stored:
            description = json.loads(stored.metadata()[_DESCRIPTION])
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        shape = {name: description[name] for name in ("embedding_dim", "width", "original")}
        model = LuNet(image_size=tuple(description["image_size"]), **shape)
        model.load_state_dict(weights)  # copies into float32 parameters
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{file} does not hold a LuNet of save_pretrained ({error})") from error
    return model.eval(), description


def save_pretrained(model: LuNet, description: dict[str, Any], file: Path) -> None:
    """Writes weights in half precision, and the running statistics as they are.

    Args:
        model: the network.
        description: see `load_pretrained`; it must suffice to make the same network again.
        file: a `.safetensors` file; its folder is made when missing.

    Raises:
        OSError: it cannot be written; an earlier file is kept.
    """
    statistics = {name for name, _ in model.named_buffers()}
    weights: dict[str, Tensor] = {
        # A variance may be larger than half precision can hold; there are few of them.
        name: (value if name in statistics else value.half()).contiguous().cpu()
        for name, value in model.state_dict().items()
    }
    unfinished = file.with_suffix(".tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, unfinished, {_DESCRIPTION: json.dumps(description)})
        unfinished.replace(file)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{file} could not be written ({error}); free disk space, or name another file"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `python -m tripletlib.pretrained`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tripletlib.pretrained",
        description="Make the weights that ship from a finished training.",
    )
    parser.add_argument("params", type=Path, help="the training's parameter file")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="the file to write")
    options = parser.parse_args(arguments)
    try:
        experiment = Experiment.from_file(options.params)
        model = experiment.make_model()
        step = experiment.load_weights(model)
    except (OSError, ValueError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    description = {
        "embedding_dim": experiment.embedding_dim,
        "width": experiment.width,
        "image_size": experiment.image_size,
        "original": experiment.original_network,
        "step": step,
        "trained_with": options.params.name,
        "torch": str(torch.__version__),
    }
    save_pretrained(model, description, options.output)
    print(f"{options.output}: step {step:,}, {options.output.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
