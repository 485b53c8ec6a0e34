"""The notebooks of a study run on any Jupyter kernel: another one of this machine, or one behind a gateway."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import nbformat
import pytest

from nbutils import ROOT
from nbutils.files import DataError
from nbutils.study import grid
from nbutils.study.file import load_study
from nbutils.study.processes import end, snakemake

SECONDS = 120  # until a busy machine has started a server


@pytest.fixture
def environment(tmp_path):
    """A second kernel, which sets a variable of its own, and a Jupyter that knows nothing else of this machine."""
    folder = tmp_path / "share" / "kernels" / "second"
    folder.mkdir(parents=True)
    spec = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Second", "language": "python", "env": {"WHICH": "second"}}  # fmt: skip
    (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    own = {name: str(tmp_path / name) for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    return os.environ | own | {"JUPYTER_PATH": str(tmp_path / "share"), "JUPYTER_PLATFORM_DIRS": "1"}


@pytest.fixture
def notebook(tmp_path):
    """Prints which kernel it runs on, and a parameter."""
    cells = [nbformat.v4.new_code_cell("x = 'not given'", metadata={"tags": ["parameters"]}),
             nbformat.v4.new_code_cell("import os; print(os.environ.get('WHICH', 'the usual'), x)")]  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path / "in.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def printed(notebook, kernel, environment):
    """What the notebook prints when the grid's command executes it on a kernel."""
    out = notebook.with_name(f"{kernel}.ipynb")
    command = [sys.executable, "-m", "nbutils.study.papermill", str(notebook), str(out), "--no-progress-bar",
               "--log-level", "ERROR", "-k", kernel, "-r", "x", "given"]  # fmt: skip
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    return nbformat.read(out, as_version=4).cells[-1].outputs[0].text.strip()


def test_a_notebook_runs_on_a_second_kernel_with_its_parameters(notebook, environment):
    assert printed(notebook, "second", environment) == "second given"
    assert printed(notebook, "python3", environment) == "the usual given"


def test_a_notebook_runs_on_a_kernel_behind_a_gateway(notebook, environment, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "server.log"
    with open(log, "w") as file:
        command = [sys.executable, "-m", "jupyter_server", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
                   "--no-browser", "--allow-root", "--IdentityProvider.token=abc"]  # fmt: skip
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
    try:
        begin = time.monotonic()
        while "is running at" not in log.read_text() and time.monotonic() - begin < SECONDS:
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
        gateway = {"JUPYTER_GATEWAY_URL": f"http://127.0.0.1:{port}", "JUPYTER_GATEWAY_AUTH_TOKEN": "abc"}
        here = environment | {"JUPYTER_PATH": ""}  # the second kernel is known to the server alone
        assert printed(notebook, "second", here | gateway) == "second given"
    finally:
        end(server)


def test_the_jobs_of_a_study_name_the_kernel(tmp_path):
    file = tmp_path / "second-kernel.yaml"
    file.write_text("corpora:\n  CR: {path: data/cr}\n  PN: {path: data/pn}\nsystems:\n  crf:\n", encoding="utf-8")
    values = {"study": str(file), "kernel": "second"}
    folder = ROOT / "runs" / file.stem
    folder.mkdir(parents=True)
    command = snakemake(ROOT / "Snakefile", folder, tmp_path / "grid.json", values, "--cores", "1", "--dry-run")
    command = [*command[: command.index("--quiet")], "--printshellcmds"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr
    executed = [line for line in (done.stdout + done.stderr).splitlines() if "nbutils.study.papermill" in line]
    assert executed and all(" -k second " in line for line in executed)


def test_a_kernel_that_is_not_there_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(grid, "watched", lambda *_, **__: pytest.fail("something was started"))
    with pytest.raises(DataError, match=r'no Jupyter kernel "secnod" here, only .*python3'):
        grid.run_grid(load_study(ROOT / "studies" / "demo.yaml"), 1, kernel="secnod")
