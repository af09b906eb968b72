"""What everything else stands on: paths, progress, device, precision and threads, processes."""

from tripletlib.runtime.files import (
    REPOSITORY,
    AnyPath,
    OneLineError,
    ParameterError,
    atomic_write,
    data_root,
    exclusive_lock,
    explained_writing,
    from_repository,
    renew_folder,
    run_folder,
    runs_root,
)
from tripletlib.runtime.hardware import (
    choose_device,
    choose_layout,
    choose_precision,
    describe_machine,
    in_one_thread,
    keep_freed_memory,
    return_freed_memory,
    single_threaded_workers,
)
from tripletlib.runtime.headlines import HEADLINES, show_headlines
from tripletlib.runtime.launching import (
    ProcessesFailed,
    StopRequest,
    current_processes,
    end_at_once,
    launch,
    process_group,
)
from tripletlib.runtime.optional import optional_package
from tripletlib.runtime.processes import Processes
from tripletlib.runtime.progress import Progress, in_live_notebook, progress_bar, resolve_progress

__all__ = [
    "HEADLINES",
    "REPOSITORY",
    "AnyPath",
    "OneLineError",
    "ParameterError",
    "Processes",
    "ProcessesFailed",
    "Progress",
    "StopRequest",
    "atomic_write",
    "choose_device",
    "choose_layout",
    "choose_precision",
    "current_processes",
    "data_root",
    "describe_machine",
    "end_at_once",
    "exclusive_lock",
    "explained_writing",
    "from_repository",
    "in_live_notebook",
    "in_one_thread",
    "keep_freed_memory",
    "launch",
    "optional_package",
    "process_group",
    "progress_bar",
    "renew_folder",
    "resolve_progress",
    "return_freed_memory",
    "run_folder",
    "runs_root",
    "show_headlines",
    "single_threaded_workers",
]
