"""Write a study of a few bundled notes: python tests/slurm/small_study.py FOLDER NAME."""

import sys
from pathlib import Path

from nbutils import ROOT
from nbutils.corpus import Corpus
from nbutils.corpus.formats import read_corpus, write_medtxt

STUDY = """
title: Slurm test
caption: A handful of notes; the scores mean nothing.
corpora:
  CR: {{path: {folder}/cr.xml}}
  PN: {{path: {folder}/pn.xml}}
seeds: [0]
tiny:
  encoder: {{hidden: 32, layers: 1, epochs: 1}}
systems:
  crf: {{iterations: 10, title: A CRF}}
  bert: {{model: tiny/encoder, epochs: 1, learning_rate: 1.0e-3, title: An encoder}}
"""


def main(folder: Path, name: str) -> None:
    for corpus in ("cr", "pn"):
        documents = read_corpus(ROOT / "data" / corpus).documents[:5]
        write_medtxt(Corpus(corpus, documents), folder / f"{corpus}.xml")
    (folder / f"{name}.yaml").write_text(STUDY.format(folder=folder, name=name), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
