"""A JupyterLab server of its own, and a page of it that a test can drive and that forgives nothing.

Every wait is for a condition, never for a time.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import expect

from tripletlib.runtime import REPOSITORY, runs_root

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
LOOK_EVERY = 50  # milliseconds; Playwright looks at every frame, which keeps a core busy drawing
START = 300  # seconds for the server, which takes two or three where it is not starved
# Nothing asks the network for news, and cells out of view stay in the page.
LAB_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
# The query browser draws its map last; a picture takes up its room once it is loaded.
WIDGET_IS_DRAWN = """() => {
    const browser = document.querySelector(".tripletlib-widget.browser");
    return !browser || browser.querySelector(".browser-map .answer")
        && [...browser.querySelectorAll("img")].every(image => image.complete);
}"""
ENDED = "(the server ended)\n"

expect.set_options(timeout=PATIENCE)


def find_chromium():
    """The browser: `TRIPLETLIB_CHROMIUM`, else Debian's name or its relatives'; None if absent."""
    named = os.environ.get("TRIPLETLIB_CHROMIUM")
    if named:
        return shutil.which(named)
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


@dataclass
class Lab:
    """A running JupyterLab, which serves Notebook 7 and Voila as well."""

    address: str
    token: str
    folder: Path
    process: subprocess.Popen

    @property
    def notebooks(self):
        return self.folder / "notebooks"

    def link(self, notebook, front_end="doc/tree"):
        return f"{self.address}/{front_end}/{notebook}?token={self.token}"


@contextmanager
def lab_server(folder):
    """Starts JupyterLab on copies of the notebooks, with runs and settings below `folder`.

    Data and the embeddings of the network that ships stay where they are: making them anew would
    take longer than all the rest. The server takes a free port of the loopback address.
    """
    _prepare(folder)
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--port=0"]
    command += [f"--ServerApp.root_dir={folder / 'notebooks'}"]
    command += [f"--{app}.expose_app_in_browser=True" for app in ("LabApp", "JupyterNotebookApp")]
    command += ["--allow-root"] if os.geteuid() == 0 else []
    places = {
        "TRIPLETLIB_RUNS": "runs",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    environment = os.environ | {name: str(folder / place) for name, place in places.items()}
    environment["JUPYTER_TOKEN"] = token
    pipes = {"stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as server:
        reader = LineReader(server.stderr)
        try:
            yield Lab(reader.wait_for(r"http://127\.0\.0\.1:\d+(?=/lab)"), token, folder, server)
        finally:
            end(server)
            reader.join()  # the pipe may be closed once nobody reads it


def end(server, grace=20):
    """Ends a server: by SIGTERM, upon which it ends its kernels, and after `grace` seconds anyhow.

    Now and then a thread of AnyIO in it waits for ever, and with it the interpreter's end: it is
    told to stop by the request that it served, which SIGTERM may cut off. A kernel that is still
    there ends when its parent does.
    """
    server.terminate()
    try:
        server.wait(grace)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _prepare(folder):
    shutil.copytree(REPOSITORY / "notebooks", folder / "notebooks")
    for name, values in LAB_SETTINGS.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    shipped = runs_root() / "shipped"
    shipped.mkdir(parents=True, exist_ok=True)
    (folder / "runs").mkdir()
    (folder / "runs" / "shipped").symlink_to(shipped)


class LineReader(threading.Thread):
    """Reads what a server writes, to the end, so that its pipe never fills up."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self._stream, self._last, self._news = stream, deque(maxlen=100), threading.Condition()
        self.start()

    def run(self):
        for line in self._stream:
            self._tell(line)
        self._tell(ENDED)

    def _tell(self, line):
        with self._news:
            self._last.append(line)
            self._news.notify_all()

    def wait_for(self, pattern):
        """The first text that fits a regular expression."""

        def found():
            return re.search(pattern, "".join(self._last))

        with self._news:
            self._news.wait_for(lambda: found() or ENDED in self._last, START)
            match = found()
        if not match:
            raise RuntimeError(f"no {pattern!r} within {START} s:\n{''.join(self._last)}")
        return match[0]


def patient_page(browser, **options):
    """A page that waits as long as a very busy machine needs."""
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE)
    return page


def wait_until(page, condition, patience=PATIENCE, **options):
    """Returns when a condition in JavaScript holds."""
    page.wait_for_function(condition, timeout=patience, polling=LOOK_EVERY, **options)


class LabPage:
    """A notebook in a page of JupyterLab or Notebook 7.

    Attributes:
        page: Playwright's page.
        file: the notebook.
        screenshots: the folder for pictures of the page.
    """

    def __init__(self, page, screenshots):
        self.page, self.file, self.screenshots = page, None, screenshots
        self.problems = []  # what the browser's console reported as errors
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        self._taken = 0

    def _note(self, message):
        if message.type == "error":
            self.problems.append(f"console: {message.text} ({message.location.get('url')})")

    def open(self, lab, notebook, front_end="doc/tree"):
        """Opens a notebook alone in the window and waits for its kernel."""
        self.file = lab.notebooks / notebook
        self.page.goto(lab.link(notebook, front_end))
        wait_until(self.page, "window.jupyterapp?.shell?.currentWidget?.sessionContext")
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

    def run_cell(self, source):
        """Runs a cell in place of the notebook's only one."""
        self._command("notebook:clear-all-cell-outputs")
        self.page.evaluate(
            """source => window.jupyterapp.shell.currentWidget.content.widgets[0]
                .model.sharedModel.setSource(source)""",
            source,
        )
        self.run_all()

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
        self._command("docmanager:save")

    def choose_theme(self, name):
        """Switches the theme and waits until it is seen."""
        self._finish(f"""() => window.jupyterapp.commands.execute(
            'apputils:change-theme', {{theme: '{name}'}})""")
        light = str("Dark" not in name).lower()
        wait_until(self.page, f"document.body.dataset.jpThemeLight === '{light}'")
        expect(self.page.locator(".jp-splash, #jupyterlab-splash")).to_have_count(0)

    def take_errors(self):
        """What went wrong since it was asked last, in the browser, in callbacks or in cells."""
        found = [*self.problems, *self.page.evaluate("window.kernelErrors?.splice(0) ?? []")]
        self.problems.clear()
        return found

    def shut_down(self):
        """Ends the kernel, which would keep its memory as long as the server runs."""
        self._finish(
            "async () => window.jupyterapp?.shell?.currentWidget?.sessionContext?.shutdown()"
        )

    def screenshot(self, name, element=None):
        """Keeps a picture of the page, or of one element, for a person to look at."""
        self._taken += 1
        file = self.screenshots / f"{self._taken:02d}_{name}.png"
        (element or self.page).screenshot(path=file)

    def _command(self, name, patience=PATIENCE):
        self._finish(f"() => window.jupyterapp.commands.execute('{name}')", patience)

    def _finish(self, action, patience=PATIENCE):
        """Awaits a JavaScript action, which `evaluate` alone would do without any limit."""
        self.page.evaluate(f"""() => {{
            window.tripletlibFinished = false;
            ({action})().then(
                () => {{ window.tripletlibFinished = true; }},
                error => {{ window.tripletlibFinished = String(error); }});
        }}""")
        wait_until(self.page, "window.tripletlibFinished !== false", patience)
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
