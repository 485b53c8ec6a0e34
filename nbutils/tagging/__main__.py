"""A trained tagger at work: the model of a finished run tags notes of any number, into JSONL and MedTxt XML.

    make tag RUN=runs/demo/bert/CR/seed-0 NOTES=my_notes
    make next RUN=runs/demo/bert/CR/seed-0 NOTES=my_notes K=20
    tag.tag("runs/demo/bert/CR/seed-0", "my_notes")

A large collection is cut into shards, which are jobs of a Snakemake grid (`shards.smk`) or of any other machines.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbutils.files import DataError
from nbutils.study.console import Job as GridJob
from nbutils.study.console import watched
from nbutils.study.processes import snakemake
from nbutils.study.runs import read_run
from nbutils.taggers import KINDS, Tagger
from nbutils.tagging.choose import WAYS, tagged_notes, write_choice
from nbutils.tagging.job import Job, finish, here_or_below_root, lines_of, load, n_batches, prepare, tag_into
from nbutils.tagging.suggestions import TOOLS, write_suggestions


def tag(
    run: str | Path,
    notes: str | Path,
    out: str | Path | None = None,
    *,
    encoding: str | None = None,
    codes: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Tag notes with the model of a run; go on where an earlier call was cut off, do nothing when it is done.

    Args:
        run: the folder of a finished run.
        notes: a file or folder of notes (see `notes.read_notes`), here or below the repository.
        out: the folder to write to, default `tagged/<run>/<notes>`.
        encoding: of text and JSON Lines, default UTF-8.
        codes: a list of terms with codes, which entities get (docs/tagging.md).

    Returns:
        The folder, with `tagged.jsonl`, `tagged.xml` where XML can hold the notes, and `tagging.json`.

    Raises:
        DataError: no such run or notes, faulty notes, or a folder with other results in it.
    """
    return tag_job(prepare(run, notes, out, encoding, codes), progress)


def tag_job(job: Job, progress: bool = True) -> Path:
    """`tag` for a job that is prepared."""
    if job.finished:
        print(f"Nothing was left to tag; {job.out} is finished.")
        return job.out
    part = job.out / f".tagged.{job.recipe}.part"
    tag_into(part, job, 0, n_batches(job), progress)
    finish(job, [part])
    return job.out


def load_tagger(run: str | Path) -> Tagger:
    """The trained tagger of a finished run, for notebooks: `load_tagger(run).predict(documents)`."""
    return load(read_run(here_or_below_root(run)))


# --- shards ----------------------------------------------------------------------------------------------------------


def tag_shard(job: Job, number: int, of: int) -> Path:
    """Tag the shard `number` (from 1) `of` many: a run of whole batches, so that shards in order are the whole."""
    done = job.shards / f"{number}-of-{of}.jsonl"
    if not job.finished and not done.exists():
        part = done.with_name(f".{done.name}.part")
        n = n_batches(job)
        tag_into(part, job, (number - 1) * n // of, number * n // of, progress=False, gpu=number - 1)
        os.replace(part, done)
    return done


def merge(job: Job, of: int) -> Path:
    """All shards, in order, as the same files that `tag` writes; the shards are removed then."""
    if not job.finished:
        parts = [job.shards / f"{k}-of-{of}.jsonl" for k in range(1, of + 1)]
        for k, part in enumerate(parts, 1):
            if not part.exists():
                raise DataError(f"{part}: shard {k} of {of} is not finished; tag it with --shard {k}/{of} first")
        if sum(1 for _ in lines_of(parts)) != job.found.n_notes:
            raise DataError(f"{job.shards}: the shards do not hold each note once; delete this folder and tag again")
        finish(job, parts)
    return job.out


def tag_sharded(job: Job, of: int, cores: int, gpus: int | None = None) -> int:
    """All shards as Snakemake jobs, then the merge; the exit status. Called again, it repeats what had not finished."""
    if job.finished:
        print(f"Nothing was left to tag; {job.out} is finished.")
        return 0
    paths = {"run": job.run.folder, "notes": job.notes, "out": job.out}
    config: dict[str, Any] = {name: str(path.resolve()) for name, path in paths.items()}
    config |= {"shards": of, "shard_folder": str(job.shards.relative_to(job.out)), "encoding": job.encoding}
    config |= {"codes": str(job.codes_file or ""), "gpu": int(KINDS[job.run.record["kind"]].gpu)}
    gpu = ["--resources", f"gpu={gpus}"] if gpus else []
    snakefile, options = Path(__file__).with_name("shards.smk"), ["--cores", str(cores), *gpu]
    command = snakemake(snakefile, job.out, job.shards / "config.json", config, *options)
    status = watched(command, job.out, job.shards / "grid.log", _name)
    if status == 0:
        shutil.rmtree(job.out / ".snakemake", ignore_errors=True)
    else:
        print("Not all shards are done. Run the same command to go on.", file=sys.stderr)
    return status


def _name(job: GridJob) -> str:
    return f"shard {job.wildcards['k']}" if "k" in job.wildcards else "all shards together"


def main(arguments: Sequence[str] | None = None) -> int:
    """Tag a file or folder of notes with the model of a finished run."""
    parser = argparse.ArgumentParser(prog="python -m nbutils.tagging", description=main.__doc__)
    parser.add_argument("--run", required=True, help="the folder of a finished run")
    parser.add_argument("--notes", required=True, help="a .txt, .jsonl or .xml file, or a folder of them")
    parser.add_argument("--out", help="the folder to write to (default: tagged/<run>/<notes>)")
    parser.add_argument("--encoding", help="of .txt and .jsonl (default: utf-8)")
    parser.add_argument("--codes", help="a list of terms with codes (CSV: term, code), which entities get")
    parser.add_argument("--shards", type=_positive, metavar="N", help="cut the notes into N jobs of a Snakemake grid")
    parser.add_argument("--cores", type=_positive, default=os.cpu_count(), help="for --shards: jobs at a time")
    parser.add_argument("--gpus", type=_positive, help="for --shards: GPUs that the jobs may use at a time")
    parser.add_argument("--shard", type=_fraction, metavar="K/N", help="tag one shard only, here or on any machine")
    parser.add_argument("--next", type=_positive, metavar="K", help="then choose the K notes to annotate next")
    parser.add_argument("--by", choices=WAYS, default=WAYS[0], help="for --next: least expected F1, or at random")
    parser.add_argument("--seed", type=_seed, default=0, help="for --next --by random")
    parser.add_argument("--as", dest="tool", choices=TOOLS, help="then write the notes with suggestions for this tool")
    parser.add_argument("--merge", type=_positive, metavar="N", help="put N finished shards together")
    chosen = parser.parse_args(arguments)
    try:
        job = prepare(chosen.run, chosen.notes, chosen.out, chosen.encoding, chosen.codes)
        if chosen.shard:
            tag_shard(job, *chosen.shard)
            return 0
        if chosen.shards:
            if status := tag_sharded(job, chosen.shards, chosen.cores, chosen.gpus):
                return status
        elif chosen.merge:
            merge(job, chosen.merge)
        else:
            tag_job(job)
        _go_on(job, chosen)
    except (DataError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _go_on(job: Job, chosen: argparse.Namespace) -> None:
    """What is made of tagged notes: a choice of those to annotate, and suggestions, for the chosen ones or for all."""
    notes = []
    if chosen.next:
        notes = [choice.note for choice in write_choice(job.out, chosen.next, chosen.by, chosen.seed)]
    if chosen.tool:
        model_version = "-".join(str(job.run.record.get(key)) for key in ("study", "system", "train", "seed"))
        write_suggestions(notes or tagged_notes(job.out), chosen.tool, job.out, model_version)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'"{text}" is no seed; write a whole number from 0')
    return int(text)


def _fraction(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f'"{text}" is no shard; write 3/8 for the third of eight')
    return int(number), int(of)


if __name__ == "__main__":
    sys.exit(main())
