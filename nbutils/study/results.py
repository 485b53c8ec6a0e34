"""A study with its corpora and its finished runs as one object: what every analysis of runs starts from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nbutils.corpus import Corpus, Prediction
from nbutils.study.corpora import open_corpora, split
from nbutils.study.file import Study, load_study
from nbutils.study.runs import Run, copied_models, open_runs


@dataclass(frozen=True)
class Scored:
    """What one run found in one evaluation corpus, and what it should have found."""

    run: Run
    evaluate: str
    gold: Corpus
    title: str  # of the system

    @property
    def predicted(self) -> list[Prediction]:
        return self.run.predictions(self.gold)

    @property
    def place(self) -> dict[str, str | int]:
        """system, train, evaluate, setting (ID or OOD) and seed, as tables name them."""
        setting = "ID" if self.run.train == self.evaluate else "OOD"
        return {"system": self.run.system, "train": self.run.train, "evaluate": self.evaluate, "setting": setting,
                "seed": self.run.seed}  # fmt: skip


@dataclass(frozen=True)
class Results:
    """A study, its corpora and its finished runs.

    `runs` holds only what the grid of the study asks for, in the study's order, whatever it is made from: a run of a
    seed or a system that the study file no longer names is left out of tables, intervals and tests alike. The study's
    caption, which stands under every table and figure, names the models of these runs that are not the originals.
    """

    study: Study
    corpora: Mapping[str, Corpus]
    runs: Sequence[Run]
    _parts: dict[str, tuple[Corpus, Corpus]] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        found = {(run.system, run.train, run.seed): run for run in self.runs}
        grid = [(system.name, train, seed) for system, train, seed in self.study.runs()]
        object.__setattr__(self, "runs", tuple(found[key] for key in grid if key in found))
        lines = dict.fromkeys([*self.study.caption.splitlines(), *copied_models(self.runs)])
        object.__setattr__(self, "study", replace(self.study, caption="\n".join(lines)))

    def parts(self, train: str) -> tuple[Corpus, Corpus]:
        """The training and the test part of a corpus, drawn once."""
        if train not in self._parts:
            self._parts[train] = split(self.study, self.corpora[train])
        return self._parts[train]

    def training_part(self, train: str) -> Corpus:
        """The part of a corpus that its systems were trained on."""
        return self.parts(train)[0]

    def gold(self, train: str, evaluate: str) -> Corpus:
        """What a system trained on `train` is scored on: the held-out part of that corpus, or all of another one."""
        return self.parts(train)[1] if train == evaluate else self.corpora[evaluate]

    def scored(self, train: str | None = None, evaluate: str | None = None) -> Iterator[Scored]:
        """Every run with each of its evaluation corpora, or those of one training or evaluation corpus."""
        for run in self.runs:
            for name in self.study.evaluate:
                if train in (None, run.train) and evaluate in (None, name):
                    yield Scored(run, name, self.gold(run.train, name), self.study.systems[run.system].title)


def open_results(
    study: Study | str | Path, runs_folder: str | Path = "data/reference_runs", *, runs: Sequence[Run] | None = None
) -> Results:
    """Open a study's corpora and its finished runs: those in a folder of the repository, or the `runs` that are given.

    Raises:
        DataError: the study file or a corpus is faulty, or no run is finished.
    """
    if not isinstance(study, Study):
        study = load_study(study)
    return Results(study, open_corpora(study), open_runs(runs_folder, study.name) if runs is None else runs)
