"""Reaches the parts of torchreid that we measure ourselves against.

The package of that name on the package index carries Torchreid by K. Zhou, but cannot be imported
whole without packages that it does not ask for (OpenCV, gdown). Its evaluation and its re-ranking
need nothing but NumPy, so these files of the installed package are loaded by themselves.
"""

import importlib.util
import warnings
from importlib.metadata import distribution
from types import ModuleType


def load(name: str) -> ModuleType:
    """One file of the installed package: `"metrics/rank"` or `"utils/rerank"`."""
    path = distribution("torchreid").locate_file(f"torchreid/reid/{name}.py")
    spec = importlib.util.spec_from_file_location(f"torchreid_{name.replace('/', '_')}", str(path))
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        # It says that its compiled evaluator is missing; the package does not carry the source.
        warnings.filterwarnings("ignore", "Cython evaluation", UserWarning)
        spec.loader.exec_module(module)
    return module
