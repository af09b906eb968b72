import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def without_gpus():
    """On CPUs: a machine may have one GPU only, and sums on one differ from call to call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")  # for the processes started here
        patch.setattr(torch.cuda, "is_available", lambda: False)  # for this one
        yield
