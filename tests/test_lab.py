"""`make lab` asks no other machine: neither for updates nor for news nor for a list of extensions."""

import json
import os
import secrets
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import pytest

from nbutils import ROOT

FIRST = "notebooks/00_reading_the_paper.ipynb"


def words():
    """The command that `make lab` would start."""
    command = ["make", "-n", "-o", ".venv/installed", "lab"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return shlex.split(printed.replace("\\\n", " "))


def test_it_opens_on_the_first_notebook():
    assert f"--LabApp.default_url=/lab/tree/{FIRST}" in words() and (ROOT / FIRST).exists()


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """A server as `make lab` starts it, whose every connection to elsewhere would be noticed."""
    folder = tmp_path_factory.mktemp("lab")
    # Python reads this file at its start: whoever resolves or connects beyond the loopback is written down.
    (folder / "sitecustomize.py").write_text(
        "import socket\n"
        f"def note(host):\n    open({str(folder / 'asked')!r}, 'a').write(f'{{host}}\\n')\n    raise OSError('no')\n"
        "resolve, connect = socket.getaddrinfo, socket.socket.connect\n"
        "LOCAL = ('127.0.0.1', 'localhost', '::1', '', None, socket.gethostname())\n"
        "def getaddrinfo(host, *a, **k):\n"
        "    return resolve(host, *a, **k) if host in LOCAL else note(host)\n"
        "def checked(self, address, *a):\n"
        "    local = not isinstance(address, tuple) or address[0] in LOCAL\n"
        "    return connect(self, address, *a) if local else note(address)\n"
        "socket.getaddrinfo, socket.socket.connect = getaddrinfo, checked\n",
        encoding="utf-8",
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    options = [word for word in words() if word.startswith("--")]
    command = [sys.executable, "-m", "jupyterlab", *options, "--no-browser", "--allow-root", "--ip=127.0.0.1",
               f"--port={port}", f"--IdentityProvider.token={token}"]  # fmt: skip
    environment = {**os.environ, "HOME": str(folder), "JUPYTER_PLATFORM_DIRS": "1",
                   "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}  # fmt: skip
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)

    def get(path):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"token {token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    try:
        for _ in range(120):
            with suppress(OSError):
                get("/api/status")
                break
            assert server.poll() is None, (folder / "log").read_text(encoding="utf-8")
            time.sleep(0.5)
        yield lambda path: (get(path), (folder / "asked").read_text() if (folder / "asked").exists() else "")
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def test_looking_for_updates_and_news_asks_nobody(ask):
    for path in ("/lab/api/update", "/lab/api/news"):
        answer, asked = ask(path)
        assert asked == "" and not any(json.loads(answer).values()), path


def test_the_list_of_extensions_is_of_those_that_are_here(ask):
    answer, asked = ask("/lab/api/extensions?query=&page=1&per_page=5&refresh=0")
    assert asked == "" and all(extension["installed"] for extension in json.loads(answer))


def test_no_question_about_news_lies_over_the_outputs(ask):
    """JupyterLab asks in a pop-up unless the setting is answered (its default is the string "none")."""
    answer, _ = ask("/lab/api/settings/@jupyterlab/apputils-extension:notification")
    asked = json.loads(answer)["schema"]["properties"]
    assert asked["fetchNews"]["default"] == "false" and asked["checkForUpdates"]["default"] is False
