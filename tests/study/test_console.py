"""What a person sees of a grid: one line per finished job, a live line on a terminal only, the reason of a failure."""

import io
import sys

import pytest
from rich.console import Console

from nbutils import ROOT
from nbutils.study.console import Job, Jobs, for_terminal, watched

# The words of Snakemake 9 for two jobs at a time, of which one fails, is tried again and fails once more.
WORDS = [
    "Building DAG of jobs...", "Job stats:", "job      count", "-----  -------", "crf           2", "study         1",
    "total         3", "", "[Sat Nov 28 17:49:13 2026]", "localrule crf:", "    input: a", "    log: logs/crf-CR-0.log",
    "    jobid: 7", "    wildcards: system=crf, train=CR, seed=0", "localrule crf:", "    log: logs/crf-CR-1.log",
    "    jobid: 8", "    wildcards: system=crf, train=CR, seed=1", "Finished jobid: 7 (Rule: crf)",
    "Error in rule crf:", "    message: None", "    jobid: 8",
    "    log: logs/crf-CR-1.log (check log file(s) for error details)",
    "Trying to restart job 8.", "localrule crf:", "    log: logs/crf-CR-1.log", "    jobid: 8",
    "    wildcards: system=crf, train=CR, seed=1",
]  # fmt: skip
FAILS = ["Error in rule crf:", "    jobid: 8"]
SUCCEEDS = ["Finished jobid: 8 (Rule: crf)"]


def name(job: Job) -> str:
    return f"{job.wildcards['system']} · {job.wildcards['train']} · seed {job.wildcards['seed']}"


def run(folder, lines, status, console=None):
    (folder / "logs").mkdir()
    (folder / "logs" / "crf-CR-1.log").write_text("\n".join([*(f"line {k}" for k in range(30)), "ValueError: no"]))
    code = f"import sys, time\nfor line in {lines!r}: print(line, flush=True)\ntime.sleep(0.4)\nsys.exit({status})"
    command = [sys.executable, "-c", code]
    return watched(
        command, folder, folder / "logs" / "grid.log", name, lambda job: "CR 78.2 · PN 35.8", console=console
    )


def test_a_job_is_known_from_its_announcement_to_its_end():
    jobs = Jobs()
    ended = [job for line in WORDS + SUCCEEDS if (job := jobs.read(line)) is not None]
    assert [(job.log, job.wildcards["seed"]) for job, _ in ended] == [
        ("logs/crf-CR-0.log", "0"),
        ("logs/crf-CR-1.log", "1"),
    ]
    assert jobs.counts == {"crf": 2} and not jobs.running and not jobs.failed  # the second try did it


def test_the_expected_end_comes_from_finished_jobs_and_before_them_from_earlier_runs():
    jobs = Jobs()
    assert jobs.seconds_left({"crf": 30.0}) is None  # nobody knows yet what there is to do
    for line in WORDS[:8]:
        jobs.read(line)
    assert jobs.seconds_left({}) is None
    assert jobs.seconds_left({"crf": 30.0}) == 60  # both are to come
    for line in WORDS[8:14]:
        jobs.read(line)
    assert jobs.seconds_left({"crf": 30.0}) == pytest.approx(60, abs=1)  # one of them has just begun
    jobs.read("Finished jobid: 7 (Rule: crf)")
    assert jobs.seconds_left({"crf": 30.0}) < 1  # here it took no time


def test_piped_there_is_one_line_per_finished_run_and_no_control_character(tmp_path, capsys):
    assert run(tmp_path, WORDS + SUCCEEDS, 0) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"crf · CR · seed {seed} · 0 s · CR 78.2 · PN 35.8" for seed in (0, 1)] and not err
    log = tmp_path / "logs" / "grid.log"
    assert "Building DAG of jobs..." in log.read_text(encoding="utf-8") and log.stat().st_mode & 0o077 == 0


def test_on_a_terminal_of_80_columns_the_live_line_stays_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    file = io.StringIO()
    assert (
        run(
            tmp_path,
            WORDS + SUCCEEDS,
            0,
            Console(file=file, force_terminal=True, width=80, height=24, color_system=None),
        )
        == 0
    )
    text = file.getvalue()
    assert "crf · CR · seed 1 · 0 s · CR 78.2 · PN 35.8\n" in text
    live = [line for line in text.replace("\n", "\r").split("\r") if "0:0" in line]
    assert live and all(len(line.replace("\x1b[2K", "")) <= 80 for line in live)
    assert text.rstrip("\n").count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is back


def test_a_failure_names_the_job_the_end_of_its_log_and_where_snakemakes_words_are(tmp_path, capsys):
    assert run(tmp_path, WORDS + FAILS, 1) == 1
    err = capsys.readouterr().err
    assert "crf · CR · seed 1 failed" in err and "ValueError: no" in err and "line 20" in err and "line 3\n" not in err
    assert str(tmp_path / "logs" / "grid.log") in err


def test_where_no_job_could_start_snakemakes_last_words_are_shown(tmp_path, capsys):
    assert run(tmp_path, ["studies/mine.yaml: no such corpus"], 1) == 1
    assert "studies/mine.yaml: no such corpus" in capsys.readouterr().err


@pytest.mark.parametrize("study", ["demo", "small"])
def test_a_main_table_fits_into_80_columns_with_nothing_cut_and_every_row_named_in_each_block(study):
    markdown = (ROOT / "figures" / study / "main_result.md").read_text(encoding="utf-8")
    shown = for_terminal(markdown, 80)
    assert max(map(len, shown.splitlines())) <= 80 and "**" not in shown and "\\" not in shown
    rows = [line.strip("| ").split(" | ") for line in markdown.replace("\\", "").splitlines() if line.startswith("| ")]
    blocks = [block.splitlines() for block in shown.split("\n\n") if block.startswith("trained on")]
    for k, (system, *cells) in enumerate(rows[1:], 1):
        lines = [block[k] for block in blocks]
        assert all(line.startswith(system) for line in lines)
        assert " ".join(" ".join(line.removeprefix(system) for line in lines).split()) == " ".join(cells)


def test_wide_characters_count_as_two_columns_and_a_bar_in_a_title_divides_nothing():
    table = "| system | type | x |\n|---|---|---:|\n| a \\| b | 病名 | 1 |\n| 名 | d &lt; 3 | 22 |\n"
    assert for_terminal(table, 40).splitlines() == ["system  type    x", "a | b   病名    1", "名      d < 3  22"]
