"""Times what training and embedding cost beyond the network's own work.

Run it with `make bench`, or as `python tests/benchmarks/bench_training.py`. Four ratios, each from
turns that both sides take in one process: a step of `fit` against the bare forward, backward and
optimiser of the same network; the default settings, and float32 in their memory order, against
float32 in the usual one; `embed` against the bare forward. A missed target is printed, not an
error: what a machine measures depends on what else it is doing.
"""

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tripletlib.embedding import embed
from tripletlib.models import LuNet
from tripletlib.runtime import runs_root
from tripletlib.runtime.hardware import choose_device, choose_layout, choose_precision
from tripletlib.training.fit import EpochReport, fit
from tripletlib.training.settings import TrainingSettings

IMAGES, IMAGE_SIZE = 1280, (64, 32)
TURNS, STEPS_A_TURN = 5, 4
STEP_TARGET, PRECISION_TARGET, EMBEDDING_TARGET = 1.10, 2.0, 0.95


def make_set(images: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (images, 3, *size), dtype=np.uint8)
    return pixels, np.arange(images) // 10


def finish_gpu_work() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    finish_gpu_work()
    return time.perf_counter() - start


def bare_steps(
    batch_size: int,
    size: tuple[int, int],
    precision: str = "auto",
    layout: torch.memory_format | None = None,
) -> Callable[[], None]:
    """Forward, backward and optimiser on one batch that lies ready, and nothing else."""
    device = choose_device("auto")
    dtype = choose_precision(precision, device)
    layout = layout or choose_layout(device)
    model = LuNet(image_size=size).to(device=device, memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    batch = torch.rand(batch_size, 3, *size, device=device).contiguous(memory_format=layout)

    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            embeddings = model(batch)
        optimizer.zero_grad(set_to_none=True)
        embeddings.square().mean().backward()
        optimizer.step()

    return step


def full_step_against_bare() -> dict[str, float]:
    """Median seconds of a step of `fit`, and of the bare one, which runs in its callbacks."""
    images, labels = make_set(IMAGES, IMAGE_SIZE)
    bare = bare_steps(128, IMAGE_SIZE)
    times: dict[str, list[float]] = {"full": [], "bare": []}
    clock = time.perf_counter()

    def compare(report: EpochReport) -> None:
        nonlocal clock
        finish_gpu_work()
        times["full"].append((time.perf_counter() - clock) / STEPS_A_TURN)
        times["bare"].append(seconds(lambda: [bare() for _ in range(STEPS_A_TURN)]) / STEPS_A_TURN)
        clock = time.perf_counter()

    settings = TrainingSettings(
        identities=32,
        images_per_identity=4,
        loss="batch_hard",
        margin=0.5,
        decay_start=0,
        augment=True,
        steps=(TURNS + 1) * STEPS_A_TURN,
        steps_per_epoch=STEPS_A_TURN,
    )
    with tempfile.TemporaryDirectory() as folder:
        model = LuNet(image_size=IMAGE_SIZE)
        fit(model, images, labels, settings, Path(folder), [compare], progress="off")
    return {name: statistics.median(values[1:]) for name, values in times.items()}  # first: warm-up


def default_against_float32() -> dict[str, float]:
    size = (128, 64)
    steps = {
        "auto": bare_steps(32, size),
        "float32": bare_steps(32, size, "float32"),
        "usual order": bare_steps(32, size, "float32", torch.contiguous_format),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(TURNS + 1):
        for name, step in steps.items():
            times[name].append(seconds(step))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def embed_against_forward() -> dict[str, float]:
    images, _ = make_set(IMAGES, IMAGE_SIZE)
    device = choose_device("auto")
    dtype = choose_precision("auto", device)
    layout = choose_layout(device)
    model: nn.Module = LuNet(image_size=IMAGE_SIZE).to(device=device, memory_format=layout).eval()
    batch = torch.rand(256, 3, *IMAGE_SIZE, device=device).contiguous(memory_format=layout)

    @torch.inference_mode()
    def forward() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            for _ in range(IMAGES // 256):
                model(batch)

    times: dict[str, list[float]] = {"embed": [], "forward": []}
    for _ in range(TURNS + 1):
        times["embed"].append(seconds(lambda: embed(model, images, 256, precision="auto")))
        times["forward"].append(seconds(forward))
    return {name: IMAGES / statistics.median(values[1:]) for name, values in times.items()}


def verdict(met: bool) -> str:
    return "met" if met else "*** MISSED ***"


def main() -> None:
    load = os.getloadavg()[0]  # above zero: other work shared the cores
    dtype = choose_precision("auto", choose_device("auto"))
    print(
        f"LuNet, {choose_device('auto')}, default precision {str(dtype).removeprefix('torch.')}; "
        f"{torch.get_num_threads()} thread(s) on {os.cpu_count()} cores, load before the start "
        f"{load:.1f}, {platform.machine()}, torch {torch.__version__}"
    )
    step = full_step_against_bare()
    ratio = step["full"] / step["bare"]
    print(
        f"a step of fit, B = 128, 64x32: {step['full']:.3f} s, bare {step['bare']:.3f} s, ratio "
        f"{ratio:.2f}, target at most {STEP_TARGET}  {verdict(ratio <= STEP_TARGET)}",
        flush=True,
    )
    precision = default_against_float32()
    gain, order = (precision["usual order"] / precision[name] for name in ("auto", "float32"))
    print(
        f"a bare step, B = 32, 128x64: {precision['usual order']:.3f} s in float32 and the usual "
        f"memory order, {order:.2f}x as fast in channels last; by default {gain:.2f}x, target "
        f"{PRECISION_TARGET}x where bfloat16 is native  "
        f"{verdict(gain >= PRECISION_TARGET or dtype == torch.float32)}",
        flush=True,
    )
    embedding = embed_against_forward()
    share = embedding["embed"] / embedding["forward"]
    print(
        f"embed, 64x32: {embedding['embed']:.0f} images/s, bare forward "
        f"{embedding['forward']:.0f}, share {share:.3f}, target at least {EMBEDDING_TARGET}  "
        f"{verdict(share >= EMBEDDING_TARGET)}"
    )
    path = runs_root() / "bench" / "training.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"step": step, "precision": precision, "embedding": embedding, "load_before": load}
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
