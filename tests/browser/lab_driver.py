"""A JupyterLab server of its own, and a page of it that a test can drive and that forgives nothing.

Every wait is for a condition, never for a time.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections import deque
from contextlib import contextmanager

from playwright.sync_api import expect

from tripletlib.runtime.paths import REPOSITORY

CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",  # Chromium's sandbox does not start as root, which containers are
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECOND = 1000  # Playwright counts milliseconds
PATIENCE = 180 * SECOND  # for one answer on a very busy machine; most take a fraction of a second
START = 300  # seconds for the server, which takes two or three where it is not starved
# Nothing asks the network for news, and cells out of view stay in the page.
LAB_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
ENDED = "(the server ended)\n"

expect.set_options(timeout=PATIENCE)


def find_chromium():
    """The browser: `TRIPLETLIB_CHROMIUM`, else Debian's name or its relatives'; None if absent."""
    named = os.environ.get("TRIPLETLIB_CHROMIUM")
    if named:
        return shutil.which(named)
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


@contextmanager
def lab_server(folder):
    """Starts JupyterLab on copies of the notebooks, with runs and settings below `folder`.

    Data stay where they are: drawing the pedestrians anew would take longer than all the rest.

    Yields:
        The server's address, on a free loopback port, and its token.
    """
    notebooks, settings = folder / "notebooks", folder / "settings" / "@jupyterlab"
    shutil.copytree(REPOSITORY / "notebooks", notebooks)
    for name, values in LAB_SETTINGS.items():
        file = settings / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    token = secrets.token_hex(16)
    options = ["--expose-app-in-browser", f"--ServerApp.root_dir={notebooks}"]
    options += ["--ServerApp.port_retries=0", "--ip=127.0.0.1"]
    options += ["--allow-root"] if os.geteuid() == 0 else []
    environment = {"JUPYTER_TOKEN": token}
    with _server("jupyterlab", options, environment, folder) as address:
        yield address, token


@contextmanager
def voila_server(folder, notebook):
    """Starts Voila on one notebook; yields the page's address."""
    options = [str(notebook), "--Voila.ip=127.0.0.1", "--port_retries=0"]
    with _server("voila", options, {}, folder) as address:
        yield address


@contextmanager
def _server(module, options, environment, folder):
    places = {
        "TRIPLETLIB_RUNS": "runs",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    environment = environment | {name: str(folder / place) for name, place in places.items()}
    port = free_port()
    command = [sys.executable, "-m", module, "--no-browser", f"--port={port}", *options]
    pipes = {"stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | environment, **pipes) as server:
        reader = LineReader(server.stderr)
        try:
            reader.wait_for("running at")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            reader.join()  # the pipe may be closed once nobody reads it


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LineReader(threading.Thread):
    """Reads what a server writes, to the end, so that its pipe never fills up."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self._stream, self._last, self._news = stream, deque(maxlen=20), threading.Condition()
        self.start()

    def run(self):
        for line in self._stream:
            self._tell(line)
        self._tell(ENDED)

    def _tell(self, line):
        with self._news:
            self._last.append(line)
            self._news.notify_all()

    def wait_for(self, wanted):
        def is_there():
            return any(wanted in line or line == ENDED for line in self._last)

        with self._news:
            if not self._news.wait_for(is_there, START) or ENDED in self._last:
                raise RuntimeError(f"no {wanted!r} within {START} s:\n{''.join(self._last)}")


def new_page(browser, **options):
    """A page that waits as long as a very busy machine needs."""
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE)
    return page


class LabPage:
    """A notebook in a JupyterLab page.

    Attributes:
        page: Playwright's page.
        problems: what the browser's console reported as errors.
    """

    def __init__(self, browser, screenshots, width=1400, height=1000):
        self.page = new_page(browser, viewport={"width": width, "height": height})
        self.problems = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        self._screenshots, self._taken = screenshots, 0

    def _note(self, message):
        if message.type == "error":
            self.problems.append(f"console: {message.text} ({message.location.get('url')})")

    def open(self, address, token, notebook):
        """Opens a notebook alone in the window and waits for its kernel."""
        self.page.goto(f"{address}/doc/tree/{notebook}?token={token}")
        self.page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.sessionContext")
        self._finish("""async () => {
            const panel = window.jupyterapp.shell.currentWidget;
            await panel.context.ready;
            await panel.sessionContext.ready;
            const kernel = panel.sessionContext.session.kernel;
            // The page asks a new kernel for its widgets. Were a cell to run before the answer,
            // its half-made widgets would be asked for, and be reported as not found.
            await new Promise(done => setTimeout(done));
            await kernel.requestCommInfo({target_name: "jupyter.widget"});
            window.kernelErrors = [];
            kernel.iopubMessage.connect((_, {header, content}) => {
                const text = content.text ?? "";
                if (header.msg_type === "error" || text.includes("Traceback"))
                    window.kernelErrors.push(content.evalue ?? text);
            });
        }""")

    def run_all(self, patience=PATIENCE):
        """Runs all cells."""
        self._command("notebook:run-all-cells", patience)

    def run_up_to(self, source, patience=PATIENCE):
        """Runs the cells down to the one that begins with `source`."""
        self.page.evaluate(
            """source => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                notebook.activeCellIndex = notebook.widgets.findIndex(
                    cell => cell.model.sharedModel.getSource().startsWith(source));
            }""",
            source,
        )
        self._command("notebook:run-all-above", patience)
        self._command("notebook:run-cell", patience)

    def save(self):
        """Saves the notebook."""
        self._command("docmanager:save", PATIENCE)

    def choose_theme(self, name):
        """Switches the theme and waits until it is seen."""
        self._finish(f"""() => window.jupyterapp.commands.execute(
            'apputils:change-theme', {{theme: '{name}'}})""")
        light = str("Dark" not in name).lower()
        self.page.wait_for_function(f"document.body.dataset.jpThemeLight === '{light}'")
        expect(self.page.locator(".jp-splash, #jupyterlab-splash")).to_have_count(0)

    def errors(self):
        """What went wrong so far, in the browser, in callbacks or in cells."""
        return [*self.problems, *self.page.evaluate("window.kernelErrors")]

    def screenshot(self, name, element=None):
        """Keeps a picture of the page, or of one element, for a person to look at."""
        self._taken += 1
        file = self._screenshots / f"{self._taken:02d}_{name}.png"
        (element or self.page).screenshot(path=file)

    def _command(self, name, patience):
        self._finish(f"() => window.jupyterapp.commands.execute('{name}')", patience)

    def _finish(self, action, patience=PATIENCE):
        """Awaits a JavaScript action, which `evaluate` alone would do without any limit."""
        self.page.evaluate(f"""() => {{
            window.tripletlibFinished = false;
            ({action})().then(
                () => {{ window.tripletlibFinished = true; }},
                error => {{ window.tripletlibFinished = String(error); }});
        }}""")
        self.page.wait_for_function("window.tripletlibFinished !== false", timeout=patience)
        assert self.page.evaluate("window.tripletlibFinished") is True, self.page.evaluate(
            "window.tripletlibFinished"
        )


def middle(element):
    box = element.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page, by, within="body"):
    x, y = middle(page.locator(f"{within} .playground-point path").last)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by[0], y + by[1], steps=5)
    page.mouse.up()
