"""Which process sent a request, and whether that process still runs; independent of the wall clock.

On Linux a process is known by the boot of its machine and by the clock ticks between that boot and its start, which
no change of the clock moves (proc_pid_stat(5), field 22). Elsewhere psutil's start time takes their place.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import psutil

_MARK = "v2"  # owners that earlier versions wrote begin otherwise; nothing can be said about them


def me() -> str:
    """This process, as the file of answers names it."""
    return _named(os.getpid())  # by its number, since a forked child is another process


def is_alive(owner: str | None) -> bool | None:
    """Whether the process that asked still runs; None when this machine cannot know, as it ran on another one."""
    mark, *rest = (owner or "").split("|")
    if mark != _MARK or len(rest) != 4:
        return None
    machine, boot, pid, started = rest
    if machine != _machine():
        return None
    return boot == _boot() and started == _started(int(pid))


@cache
def _named(pid: int) -> str:
    return "|".join([_MARK, _machine(), _boot(), str(pid), _started(pid)])


@cache
def _machine() -> str:
    """The machine, and on it the container: processes of another container cannot be seen from here."""
    space = Path("/proc/self/ns/pid")
    parts = [platform.node(), _first_line("/etc/machine-id"), os.readlink(space) if space.is_symlink() else ""]
    return "/".join(parts).replace("|", "")


@cache
def _boot() -> str:
    return _first_line("/proc/sys/kernel/random/boot_id")


def _started(pid: int) -> str:
    """When a process started, "" when there is none: ticks since the boot on Linux, else psutil's time."""
    line = _first_line(f"/proc/{pid}/stat")
    if line:
        state, *fields = line[line.rindex(")") + 1 :].split()  # the name before may hold blanks and brackets
        return "" if state in "ZX" else fields[18]
    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").split("\n", 1)[0].strip()
    except OSError:
        return ""
