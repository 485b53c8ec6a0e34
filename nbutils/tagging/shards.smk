"""Tagging a large collection in shards: one job per shard, then one that puts them together (see docs/tagging.md).

nbutils.tagging.__main__ starts this with `--shards`; the same file serves a cluster through a Snakemake profile. Jobs
work in the folder of the results, so that no path of theirs holds a name that Snakemake could take for syntax.
"""

import os
import shlex
import sys
from pathlib import Path

os.environ["PYTHONPATH"] = str(Path(workflow.basedir).parent.parent)
N = int(config["shards"])
FOLDER = config["shard_folder"]  # below the working directory
WORDS = ["--run", config["run"], "--notes", config["notes"], "--out", config["out"]]
COMMAND = shlex.join(
    [sys.executable, "-m", "nbutils.tagging"]
    + [f"{option}={value}" for option, value in zip(WORDS[::2], WORDS[1::2])]
    + [f"--{option}={config[option]}" for option in ("encoding", "codes") if config[option]]
)
TAG = "OMP_NUM_THREADS={threads} TOKENIZERS_PARALLELISM=false {COMMAND}"


rule merged:
    input:
        [f"{FOLDER}/{k}-of-{N}.jsonl" for k in range(1, N + 1)],
    output:
        "tagged.jsonl",
    shell:
        TAG + " --merge {N}"


rule shard:
    output:
        FOLDER + f"/{{k}}-of-{N}.jsonl",
    wildcard_constraints:
        k=r"\d+",
    log:
        FOLDER + f"/{{k}}-of-{N}.log",
    resources:
        gpu=config["gpu"],
    shell:
        TAG + " --shard {wildcards.k}/{N} > {log:q} 2>&1"
