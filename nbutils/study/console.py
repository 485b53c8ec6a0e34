"""A Snakemake command as a person follows it: a live line for what runs, a line per finished job, a log for the rest.

Where there is no terminal only the finished lines are printed, without a control character.
"""

from __future__ import annotations

import html
import os
import re
import sys
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from nbutils import ROOT
from nbutils.study.processes import to_its_end

SHOWN = 15  # last lines of a log that are printed when its job failed


@dataclass
class Job:
    """A job of the grid, as Snakemake announces it; `log` counts from the folder that it works in."""

    rule: str
    began: float
    log: str = ""
    wildcards: dict[str, str] = field(default_factory=dict)


class Jobs:
    """What Snakemake's own words say, line by line: which jobs there are, which run, and which failed."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}  # of jobs by rule
        self.running: dict[str, Job] = {}
        self.failed: dict[str, Job] = {}
        self.seconds: dict[str, list[float]] = defaultdict(list)  # of finished jobs by rule
        self._in_counts = False
        self._announced: Job | None = None

    def read(self, line: str) -> tuple[Job, float] | None:
        """Take one line; the job that it says has finished, with its seconds."""
        line = line.rstrip("\n")
        if line == "Job stats:":
            self._in_counts = True
        elif self._in_counts:
            self._in_counts = bool(line.strip())
            if (row := re.fullmatch(r"(\S+) +(\d+)", line)) and row[1] not in ("total", "study"):
                self.counts[row[1]] = int(row[2])
        elif start := re.fullmatch(r"(?:local)?rule (\S+):", line):
            self._announced = Job(start[1], time.monotonic())
        elif line.startswith("Error in rule "):
            self._announced = None
        elif value := re.fullmatch(r"    (log|jobid|wildcards): (.*)", line):
            self._detail(value[1], value[2])
        elif (end := re.match(r"Finished jobid: (\d+)", line)) and (job := self.running.pop(end[1], None)):
            self.failed.pop(end[1], None)  # it had been tried before
            taken = time.monotonic() - job.began
            self.seconds[job.rule].append(taken)
            return job, taken
        return None

    def _detail(self, name: str, value: str) -> None:
        job = self._announced
        if job is None:  # an error is being reported
            if name == "jobid" and value in self.running:
                self.failed[value] = self.running.pop(value)
        elif name == "jobid":
            self.running[value] = job
        elif name == "log":
            job.log = value
        else:
            job.wildcards = dict(pair.partition("=")[::2] for pair in value.split(", "))

    def seconds_left(self, typical: Mapping[str, float]) -> float | None:
        """An estimate from the jobs that have finished, before that from `typical` seconds by rule; None without."""
        means = dict(typical) | {rule: sum(s) / len(s) for rule, s in self.seconds.items()}
        if not means or not self.counts:
            return None
        other, now = sum(means.values()) / len(means), time.monotonic()
        left, started = 0.0, defaultdict(int, {rule: len(s) for rule, s in self.seconds.items()})
        for job in (*self.running.values(), *self.failed.values()):
            started[job.rule] += 1
        for job in self.running.values():
            left += max(means.get(job.rule, other) - (now - job.began), 0)
        left += sum(max(n - started[rule], 0) * means.get(rule, other) for rule, n in self.counts.items())
        return left / max(len(self.running), 1)


def watched(
    command: Sequence[str],
    folder: Path,
    log: Path,
    name: Callable[[Job], str],
    result: Callable[[Job], str] = lambda _: "",
    typical: Mapping[str, float] | None = None,
    *,
    keep: Sequence[int] = (),
    console: Console | None = None,
) -> int:
    """Run a Snakemake command and all that it starts to its end, with its words in `log`; its exit status.

    Args:
        folder: where it works.
        name: what a job is called, in a few words.
        result: what its line says besides, once it has finished.
        typical: seconds by rule, from earlier runs, for the expected end.
        keep: see `to_its_end`.
    """
    console = console or Console()
    jobs = Jobs()
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(log, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as words,
        open(log, encoding="utf-8", errors="replace") as lines,
        _live(console) as live,
    ):
        task = live.add_task("", total=None, what="starting", clock="", visible=console.is_interactive)
        begin, rest = time.monotonic(), ""

        def look() -> None:
            nonlocal rest
            *whole, rest = (rest + lines.read()).split("\n")
            for line in whole:
                if (ended := jobs.read(line)) is not None:
                    _say(console, " · ".join(filter(None, [name(ended[0]), f"{ended[1]:.0f} s", result(ended[0])])))
            if jobs.counts:
                done = sum(map(len, jobs.seconds.values()))
                live.update(task, total=sum(jobs.counts.values()), completed=done)
            what = ", ".join(map(name, jobs.running.values())) if jobs.counts else "looking for what is left to do"
            live.update(task, what=what, clock=_clock(time.monotonic() - begin, jobs.seconds_left(typical or {})))
            live.refresh()

        status = to_its_end(command, keep, output=words, look=look)
    if 0 < status < 128:
        _say_why(jobs, folder, log, name)
    return status


def for_terminal(markdown: str, width: int) -> str:
    """A result's Markdown as plain text of `width` columns: lines wrapped, tables in blocks of columns that fit."""
    blocks = []
    for block in html.unescape(markdown.replace("**", "")).strip().split("\n\n"):
        if not block.startswith("|"):
            blocks.append("\n".join(textwrap.fill(_unescaped(line), width) for line in block.splitlines()))
            continue
        rows = [line.strip()[2:-2].split(" | ") for line in block.splitlines()]
        cells = [[_unescaped(cell) for cell in row] for row in (rows[0], *rows[2:])]
        blocks += _columns_that_fit(cells, block.splitlines()[1].split("|").count("---"), width)
    return "\n\n".join(blocks)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _columns_that_fit(rows: list[list[str]], n_labels: int, width: int) -> list[str]:
    """The columns of a table in blocks, at least one per training corpus, each beside the labels of the rows."""
    parts = [re.fullmatch(r"(.+?) ([→Δ].+)", head) for head in rows[0]]
    trained = [part[1] if part else "" for part in parts]
    rows = [[part[2] if part else head for part, head in zip(parts, rows[0], strict=True)], *rows[1:]]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    labels, blocks = list(range(n_labels)), list[list[int]]()
    for k in range(n_labels, len(widths)):
        full = blocks and sum(widths[j] + 2 for j in (*labels, *blocks[-1])) + widths[k] > width
        if not blocks or full or trained[k] != trained[blocks[-1][0]]:
            blocks.append([])
        blocks[-1].append(k)
    shown = []
    for block in blocks:
        named = [[trained[block[0]] or rows[0][0], *rows[0][1:]], *rows[1:]]
        shown.append("\n".join("  ".join(
            [row[k] + " " * (widths[k] - cell_len(row[k])) for k in labels]
            + [" " * (widths[k] - cell_len(row[k])) + row[k] for k in block]) for row in named))  # fmt: skip
    return shown


def _live(console: Console) -> Progress:
    column = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    text = TextColumn("{task.fields[what]}", markup=False, table_column=column)
    clock = TextColumn("{task.fields[clock]}", markup=False, table_column=Column(no_wrap=True))
    columns = (BarColumn(bar_width=16), MofNCompleteColumn(), clock, text)
    return Progress(
        *columns, console=console, auto_refresh=False, expand=True, transient=True, disable=not console.is_interactive
    )


def _clock(elapsed: float, left: float | None) -> str:
    gone = f"{int(elapsed) // 60}:{int(elapsed) % 60:02d}"
    end = "" if left is None else time.strftime(", end about %H:%M", time.localtime(time.time() + left))
    return gone + end


def _say(console: Console, line: str) -> None:
    if console.is_interactive:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        print(line, file=console.file, flush=True)


def _say_why(jobs: Jobs, folder: Path, log: Path, name: Callable[[Job], str]) -> None:
    """The failed jobs with the last lines of their own logs; without one, the last lines of Snakemake's."""
    logs = {folder / job.log: f"{name(job)} failed" for job in jobs.failed.values() if (folder / job.log).is_file()}
    for path, what in (logs or {log: "The jobs could not be run"}).items():
        last = "\n".join(path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-SHOWN:])
        print(f"\n{what}. The end of {_shown(path)}:\n{last}", file=sys.stderr)
    if logs:
        print(f"\nSnakemake's own words are in {_shown(log)}", file=sys.stderr)


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
