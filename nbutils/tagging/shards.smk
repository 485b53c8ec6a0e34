"""Tagging a large collection in shards: one job a shard, then one that puts them together (see docs/tagging.md).

nbutils.tagging.__main__ starts this with `--shards`; the same file serves a cluster through a Snakemake profile.
"""

import shlex
import sys

N = config["shards"]
SHARD = config["shard_folder"] + "/{k}-of-" + str(N) + ".jsonl"
COMMAND = (
    "OMP_NUM_THREADS={threads} TOKENIZERS_PARALLELISM=false {sys.executable} -m nbutils.tagging"
    " --run {params.run:q} --notes {params.notes:q} --out {params.out:q} {params.encoding}"
)
PARAMS = {key: config[key] for key in ("run", "notes", "out")}
PARAMS["encoding"] = f"--encoding {shlex.quote(config['encoding'])}" if config["encoding"] else ""


rule merged:
    input:
        expand(SHARD, k=range(1, N + 1)),
    output:
        config["out"] + "/tagged.jsonl",
    params:
        **PARAMS,
    shell:
        COMMAND + " --merge {N}"


rule shard:
    output:
        SHARD,
    wildcard_constraints:
        k=r"\d+",
    log:
        config["shard_folder"] + "/{k}-of-" + str(N) + ".log",
    params:
        **PARAMS,
    resources:
        gpu=config["gpu"],
    shell:
        COMMAND + " --shard {wildcards.k}/{N} > {log:q} 2>&1"
