"""The server of the browser tests ends, whatever it does when it is asked to."""

import signal
import subprocess
import sys

import pytest
from lab_driver import end

SERVER = """import signal, sys
signal.signal(signal.SIGTERM, signal.{})
print(flush=True)
sys.stdin.read()"""


@pytest.mark.parametrize(
    ("answer", "grace", "status"),
    [("SIG_DFL", 60, -signal.SIGTERM), ("SIG_IGN", 0.1, -signal.SIGKILL)],
)
def test_a_server_is_asked_to_end_and_then_made_to(answer, grace, status):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", SERVER.format(answer)], **pipes) as server:
        server.stdout.readline()  # it has decided how to answer
        end(server, grace)
        assert server.returncode == status
