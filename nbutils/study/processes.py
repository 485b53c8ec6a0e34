"""A command and all the processes that it starts: ended together when this process is asked to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

import psutil

from nbutils import ROOT
from nbutils.files import write_whole

SECONDS = 10  # that a process which was asked to end is given for it
SECONDS_BETWEEN_LOOKS = 0.25


class _Stopped(BaseException):
    """A signal asks this process to end."""


def to_its_end(
    command: Sequence[str],
    keep: Sequence[int] = (),
    output: BinaryIO | None = None,
    look: Callable[[], None] = lambda: None,
) -> int:
    """Run a command with our modules; when this process is asked to end, first end the command and all that it started.

    Args:
        keep: file descriptors that the command gets, such as those of locks.
        output: where its words go, if not to this process' own output.
        look: called a few times a second while it runs, and once at its end.

    Returns:
        Its exit status, or 128 and the number of the signal.
    """

    def stop(number: int, _: FrameType | None) -> None:
        raise _Stopped(number)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in signals}
    process = None
    try:
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": paths}
        process = subprocess.Popen(command, env=environment, pass_fds=keep, stdout=output, stderr=output)
        while process.poll() is None:
            look()
            with suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS_BETWEEN_LOOKS)
        look()
        return process.returncode
    except _Stopped as stopped:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)  # one is enough
        if process is not None:
            end(process)
        return 128 + int(stopped.args[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def snakemake(snakefile: Path, folder: Path, config: Path, values: Mapping[str, Any], *options: str) -> list[str]:
    """The command that runs a Snakefile in a folder and repeats what was cut off; `config` is written for it."""
    write_whole(config, json.dumps(values))
    return [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(folder),
            "--configfile", str(config), *options, "--rerun-incomplete", "--nolock", "--keep-going",
            "--quiet", "host", "reason"]  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started: kernels lead sessions of their own, so a group is not enough."""
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(process.pid)
        family = [first, *first.children(recursive=True)]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.terminate()
    for member in psutil.wait_procs(family, timeout=SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
