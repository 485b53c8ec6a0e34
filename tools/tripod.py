"""The items of TRIPOD-LLM with what a study file and its runs answer, or "not reported": `make tripod STUDY=demo`.

A start for the checklist that a journal asks for, not the checklist itself: what only people can say stays open.
Numbers of items: Gallifant et al. 2025, Nature Medicine 31:60–69, doi:10.1038/s41591-024-03425-5; wording ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from nbutils import ROOT
from nbutils.analysis import agreement, main_result, significance
from nbutils.files import write_whole
from nbutils.scoring.spans import Scores, exact_document
from nbutils.study.corpora import corpus_path, private_names
from nbutils.study.file import Study, load_study
from nbutils.study.provenance import without_paths
from nbutils.study.results import Results
from tools.card import cell
from tools.reference_runs import own_or_bundled

OPEN = "not reported"
NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Facts:
    """A study and what its runs say."""

    results: Results

    @property
    def study(self) -> Study:
        return self.results.study

    @cached_property
    def private(self) -> set[str]:
        return set(private_names(self.study))

    @cached_property
    def bundled(self) -> bool:
        """Whether all corpora are those of the repository, which its data sheet describes."""
        return all(corpus_path(self.study, name).resolve().is_relative_to(ROOT / "data") for name in self.study.corpora)

    @cached_property
    def models(self) -> list[str]:
        named = []
        for run in self.results.runs:
            model = run.record["settings"].get("model")
            if model and not run.record.get("tiny"):
                named.append(f"{model} ({run.record.get('model_commit') or 'no commit'})")
            elif model:
                named.append("tiny models that the study pretrains on its own training notes")
        return list(dict.fromkeys(named))

    def settings(self, name: str) -> list[str]:
        """The values of a setting over all runs that have it."""
        values = (run.record["settings"].get(name) for run in self.results.runs)
        return list(dict.fromkeys(str(value) for value in values if value is not None))

    def kinds(self) -> dict[str, list[str]]:
        titles: dict[str, list[str]] = {}
        for system in self.study.systems.values():
            titles.setdefault(system.kind, []).append(system.title)
        return titles


def _title(f: Facts) -> str:
    return f"{f.study.title or f.study.name}: {', '.join(f.study.types)} in {', '.join(f.study.evaluate)}"


def _objective(f: Facts) -> str:
    asked = "; ".join(f"{f.study.systems[a].title} against {f.study.systems[b].title}" for a, b in f.study.compare)
    how = f" Asked beforehand: {asked}." if asked else ""
    return f"How much F1 changes from {', '.join(f.study.train)} to {', '.join(f.study.evaluate)}.{how}"


def _sources(f: Facts) -> str:
    sheet = "; described in data/README.md" if f.bundled else ""
    return ", ".join(f"{name}{' (private)' if name in f.private else ''}" for name in f.study.corpora) + sheet


def _distribution(f: Facts) -> str:
    parts = [
        f"{name}: {len(c):,} notes, {sum(len(d.entities) for d in c):,} entities"
        for name, c in f.results.corpora.items()
    ]
    split = f"split by document, {f.study.test_fraction:.0%} for testing, seed {f.study.split_seed}"
    return f"{'; '.join(parts)}; {split}. Notebooks 01 and 10 (what leaks)"


def _process(f: Facts) -> str:
    formats = ", ".join(dict.fromkeys(entry.format or "by its files" for entry in f.study.corpora.values()))
    return f"Formats {formats}; what reading leaves out is listed by `python -m nbutils.study check`. No cleaning"


def _missing(f: Facts) -> str:
    return "A note without entities stays in; nothing is resampled or imputed"


def _adaptation(f: Facts) -> str:
    return (
        "; ".join(f"{kind}: {', '.join(titles)}" for kind, titles in f.kinds().items()) + ". Settings: the study file"
    )


def _generation(f: Facts) -> str:
    names = ("decoding", "temperature", "max_tokens", "max_length")
    said = [f"{name.replace('_', ' ')} {', '.join(values)}" for name in names if (values := f.settings(name))]
    return f"{'; '.join(said)}; seeds {', '.join(map(str, f.study.seeds))}" if said else OPEN


def _output(f: Facts) -> str:
    return "Entities as character offsets and types; repairs of generated text are counted per note (docs/icl.md)"


def _metrics(f: Facts) -> str:
    return "Micro F1, exact spans, with 95 % intervals over notes and over trainings (docs/statistics.md); notebook 06"


def _outcome(f: Facts) -> str:
    guideline = "data/GUIDELINE.md" if f.bundled else OPEN
    return f"Gold spans of the types {', '.join(f.study.types)}; guideline: {guideline}"


def _agreement(f: Facts) -> str:
    said = []
    for name, both in agreement.pairs_of(f.study).items():
        f1 = 100 * sum((exact_document(a.entities, b.entities) for a, b in both), Scores(0, 0, 0, 0)).f1
        said.append(f"{name}: two annotators on {len(both):,} of {len(f.results.corpora[name]):,} notes, F1 {f1:.1f}")
    return "; ".join(said) + ". Notebook 02" if said else OPEN


def _comparison(f: Facts) -> str:
    return (
        f"{len(f.study.systems)} systems on the same notes, tested by permutation with Holm's correction; notebook 06"
    )


def _prompts(f: Facts) -> str:
    prompts = f.settings("prompt")
    return (
        f"{', '.join(prompts)} (nbutils/taggers/prompts); shown in notebooks 04 and 05" if prompts else NOT_APPLICABLE
    )


def _prompt_data(f: Facts) -> str:
    if not f.settings("prompt"):
        return NOT_APPLICABLE
    shots = [n for n in f.settings("shots") if n != "0"]
    return f"{', '.join(shots)} example(s), of the training part only" if shots else "No example is shown"


def _compute(f: Facts) -> str:
    hours = sum(sum(run.record["seconds"].values()) for run in f.results.runs) / 3600
    devices = ", ".join(dict.fromkeys(run.record["device"] for run in f.results.runs))
    joules = sum(sum(run.record.get("joules", {}).values()) for run in f.results.runs)
    return f"{hours:.1f} hours on {devices}{f', {joules / 3.6e6:.2f} kWh' if joules else ''}; notebook 09"


def _availability(f: Facts) -> str:
    if f.private:
        return f"Private: {', '.join(sorted(f.private))}"
    return "In the repository (CC BY 4.0, data/LICENSE)" if f.bundled else OPEN


def _code(f: Facts) -> str:
    commits = dict.fromkeys(str(run.record.get("git_commit")) for run in f.results.runs)
    return f"This package, MIT; commit {', '.join(commits)}; versions in requirements.lock"


def _sizes(f: Facts) -> str:
    sizes = (f"{train}: {len(f.results.training_part(train)):,} notes for training" for train in f.study.train)
    return "; ".join(sizes) + f"; {len(f.results.runs)} runs"


def _performance(f: Facts) -> str:
    scores = main_result.score_runs(f.results).groupby("setting")["f1"].agg(["min", "max"])
    said = [f"{setting} F1 {low:.1f} to {high:.1f}" for setting, (low, high) in scores.iterrows()]
    nothing = significance.not_counted(f.study, significance.evaluations(f.results))
    return f"{'; '.join(said)} over all runs; main table in runs/{f.study.name}/figures. {nothing}".strip()


def _limits(f: Facts) -> str:
    return f"{f.study.caption} The last section of every notebook".strip()


Answer = Callable[[Facts], str] | str
ITEMS: tuple[tuple[str, str, Answer], ...] = (
    ("1", "title: LLM, task, population, outcome", _title),
    ("2", "abstract, by its own list", OPEN),
    ("3a", "context of care and reason for the model", OPEN),
    ("3b", "target population and intended use", OPEN),
    ("4", "objectives", _objective),
    ("5a", "sources of the data", _sources),
    ("5b", "description and split of the data", _distribution),
    ("5c", "dates of the oldest and newest text", OPEN),
    ("5d", "preparation and quality of the data", _process),
    ("5e", "missing and imbalanced data", _missing),
    ("6a", "models with versions", lambda f: "; ".join(f.models) or OPEN),
    ("6b", "architecture, training or prompting", _adaptation),
    ("6c", "settings of generation", _generation),
    ("6d", "output before and after processing", _output),
    ("6e", "classification and thresholds", "Every predicted span counts; other thresholds: notebook 06"),
    ("7a", "measures of quality", _metrics),
    ("7b", "what the measures mean for use", OPEN),
    ("7c", "definition of the outcome", _outcome),
    ("7d", "assessment by people", OPEN),
    ("7e", "comparison with others", _comparison),
    ("8a", "how the text was annotated", lambda f: "data/GUIDELINE.md, data/README.md" if f.bundled else OPEN),
    ("8b", "number of annotators and shared part", _agreement),
    ("8c", "background of the annotators", lambda f: "data/README.md" if f.bundled else OPEN),
    ("9a", "design of the prompts", _prompts),
    ("9b", "data behind the prompts", _prompt_data),
    ("10", "preparation for summaries", f"{NOT_APPLICABLE}: nothing is summarised"),
    ("11", "instruction tuning and alignment", f"{NOT_APPLICABLE}: models are tuned for the task itself"),
    ("12", "computing", _compute),
    ("13", "ethics approval", lambda f: f"{NOT_APPLICABLE}: fictional notes" if f.bundled else OPEN),
    ("14a", "funding", OPEN),
    ("14b", "conflicts of interest", OPEN),
    ("14c", "protocol", lambda f: f"the study file, {f.study.path.name}"),
    ("14d", "registration", OPEN),
    ("14e", "availability of the data", _availability),
    ("14f", "availability of code", _code),
    ("15", "patients and public", OPEN),
    ("16a", "flow of the notes", _sizes),
    ("16b", "characteristics of the notes", "Notebook 01"),
    ("16c", "development and evaluation data compared", "Notebooks 01 and 10"),
    ("16d", "notes and outcomes in each analysis", _distribution),
    ("17", "performance", _performance),
    ("18", "updating of the model", f"{NOT_APPLICABLE}: no model is updated"),
    ("19a", "interpretation", "First and last section of notebook 06"),
    ("19b", "limits", _limits),
    ("19c", "known challenges of the data", OPEN),
    ("19d", "intended use", "Research; not a medical device"),
    ("19e", "poor or missing input", OPEN),
    ("19f", "what users must know", OPEN),
    ("19g", "next steps", OPEN),
)


def page(results: Results) -> str:
    """All items in Markdown, each with its answer."""
    facts = Facts(results)
    answers = [(number, item, answer if isinstance(answer, str) else answer(facts)) for number, item, answer in ITEMS]
    still = sum(answer == OPEN for *_, answer in answers)
    return without_paths("\n".join(_lines(results.study, answers, still)))


def _lines(study: Study, answers: Sequence[tuple[str, str, str]], still: int) -> Iterator[str]:
    yield f"# TRIPOD-LLM: {study.title or study.name}"
    yield ""
    yield (
        f"Filled from the study file and its runs; {still} of {len(answers)} items are for its authors to report. "
        "Numbers of items after Gallifant et al. 2025 (doi:10.1038/s41591-024-03425-5), words ours: submit the official "
        "form."
    )
    yield ""
    yield "| item | about | answer |"
    yield "|---|---|---|"
    for number, item, answer in answers:
        yield f"| {number} | {item} | {f'**{answer}**' if answer == OPEN else cell(answer)} |"
    yield ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write runs/<study>/tripod_llm.md."""
    parser = argparse.ArgumentParser(prog="python -m tools.tripod", description=main.__doc__)
    parser.add_argument("file", help="the study file")
    parser.add_argument(
        "--runs", default="runs", help="the folder with its runs (default: runs, else the bundled ones)"
    )
    chosen = parser.parse_args(arguments)
    try:
        study = load_study(chosen.file)
        results = own_or_bundled(study, chosen.runs)
        path = ROOT / "runs" / study.name / "tripod_llm.md"
        write_whole(path, page(results), private=bool(private_names(study)))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
