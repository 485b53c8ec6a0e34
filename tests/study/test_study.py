"""A study file is checked before anything is started."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nbutils import ROOT
from nbutils.corpus.formats import FORMATS
from nbutils.files import DataError
from nbutils.study.__main__ import main
from nbutils.study.corpora import open_corpora
from nbutils.study.file import load_study

GOOD = "corpora:\n  A: {path: data/cr}\n  B: {path: data/pn}\nsystems:\n  crf:\n"


def loaded(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_study(path)


def test_a_short_file_gets_every_default(tmp_path):
    study = loaded(tmp_path, GOOD)
    assert study.name == "mine" and study.train == study.evaluate == ("A", "B")
    assert len(list(study.runs())) == 6


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "studies").glob("*.yaml")))
def test_the_studies_of_the_repository_are_sound(name):
    assert list(load_study(ROOT / "studies" / f"{name}.yaml").runs())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD.replace("systems", "sytems"), 'unknown key "sytems"; did you mean "systems"?'),
        (GOOD.replace("  crf:\n", "  crf: {iteratons: 3}\n"), 'did you mean "iterations"?'),
        (GOOD.replace("{path: data/cr}", "{pth: data/cr}"), 'did you mean "path"?'),
        (GOOD.replace("  crf:\n", "  crv:\n"), 'unknown kind "crv"; did you mean "crf"?'),
        (GOOD.replace("  crf:\n", "  bert:\n"), 'the key "model" is missing'),
        (GOOD.replace("  crf:\n", "  bert: {model: tiny/llm}\n"), 'use "tiny/encoder"'),
        (GOOD.replace("  crf:\n", "  crf: {iterations: many}\n"), "'many' should be a whole number"),
        (GOOD + "train: [C]\n", 'no corpus "C"'),
        (GOOD + "seeds: [a]\n", "whole number"),
        (GOOD + "test_fraction: 2.0\n", "2.0 should be less than 1"),
        (GOOD + "tiny: {encodr: {}}\n", 'did you mean "encoder"?'),
        (GOOD.replace("A:", "A/B:"), "becomes a file name"),
        (GOOD.replace("path: data/cr", "path: data/cr, format: xml"), "there is no 'xml'; use one of medtxt"),
        (GOOD + "compare: [[crf, brt]]\n", 'no system "brt"'),
        (GOOD + "compare: [crf]\n", "compare"),
        (GOOD + "cluster: [a, b, c]\n", "cluster"),
        (GOOD + "margin: 0\n", "margin"),
        (GOOD + "adapt: {target: C, systems: [crf]}\n", 'adapt.target: no annotated corpus "C"'),
        (GOOD + "adapt: {target: A, systems: [crf]}\n", "A is what the systems are trained on; name another corpus"),
        (GOOD + "adapt: {target: B, systems: [crv]}\n", 'adapt.systems.0: no system "crv"; did you mean "crf"?'),
        (GOOD + "adapt: {target: B, systems: [crf], note: [5]}\n", 'unknown key "note"; did you mean "notes"?'),
        (GOOD + "adapt: {target: B, systems: [crf], notes: [0]}\n", "ask for some notes"),
        (GOOD + "adapt: {target: B, systems: [crf], notes: [5, -1]}\n", "adapt.notes.1: -1 should be at least 0"),
        (GOOD + "adapt: {target: B, systems: [crf], minutes_per_note: 0}\n", "should be more than 0"),
        (GOOD + "adapt: {systems: [crf]}\n", 'the key "target" is missing'),
        (GOOD + "adapt: PN\n", "adapt: a mapping (key: value) is needed"),
        ("a: [", "line 1"),
        ("- a\n", "a mapping"),
    ],
)
def test_a_faulty_study_is_refused_with_the_nearest_correction(tmp_path, text, sentence):
    with pytest.raises(DataError) as caught:
        loaded(tmp_path, text)
    assert sentence in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_variable_that_is_not_set_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    study = loaded(tmp_path, GOOD.replace("data/cr", "$NOWHERE/x.xml"))
    with pytest.raises(DataError, match=r"\$NOWHERE is not set"):
        open_corpora(study)


def test_the_command_says_one_sentence_and_fails(tmp_path, capsys):
    (tmp_path / "bad.xml").write_text("<root>", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(GOOD.replace("data/cr", str(tmp_path / "bad.xml")), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    assert main(["check", str(tmp_path / "mine.yaml")]) == 1
    out = capsys.readouterr()
    assert out.out == "" and out.err.count("\n") == 1 and "Traceback" not in out.err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_reports_a_sound_study(capsys):
    assert main(["check", str(ROOT / "studies" / "demo.yaml")]) == 0
    assert "are sound" in capsys.readouterr().out


def test_an_unknown_study_names_those_that_exist(tmp_path):
    with pytest.raises(DataError, match="demo"):
        load_study(tmp_path / "nothing.yaml")


# --- every problem at once ------------------------------------------------------------------------------------------


def problems(tmp_path, text):
    with pytest.raises(DataError) as caught:
        loaded(tmp_path, text)
    return str(caught.value).splitlines()


def test_every_problem_of_a_file_is_told_at_once_with_its_place(tmp_path):
    text = """corpora:
  A: {path: data/cr, privat: true}
  B: {path: data/pn, format: xml}
train: [C]
labels: ["d d"]
test_fraction: 2.0
tiny: {encoder: {epochs: many}}
systems:
  crf: {iterations: 0, unit: page}
  bert: {learning_rate: "2e-5"}
  x: {kind: crv}
"""
    told = [line.removeprefix(f"{tmp_path / 'mine.yaml'}, ") for line in problems(tmp_path, text)]
    assert told == [
        'line 2, corpora.A.privat: unknown key "privat"; did you mean "private"?',
        "line 3, corpora.B.format: there is no 'xml'; use one of " + ", ".join(FORMATS),
        'line 4, train.0: no corpus "C"; known are A, B',
        "line 5, labels.0: 'd d' becomes a tag; use letters, digits, - and _ only",
        "line 6, test_fraction: 2.0 should be less than 1",
        "line 7, tiny.encoder.epochs: 'many' should be a number",
        "line 9, systems.crf.iterations: 0 should be more than 0",
        "line 9, systems.crf.unit: there is no 'page'; use one of sentence, note",
        "line 10, systems.bert.learning_rate: '2e-5' should be a number",
        'line 10, systems.bert: the key "model" is missing',
        'line 11, systems.x: unknown kind "crv"; did you mean "crf"?',
    ]


@pytest.mark.parametrize(
    "setting",
    ["iterations: true", 'iterations: "5"', "iterations: 5.0", "iterations: 010", "iterations: 1:30", "c1: .nan",
     "c1: .inf", "c1: 1.0e+999", "c1: true", "c1: -0.1", "iterations: " + "9" * 5000, "iterations: 2001-99-99",
     "iterations: null", "iterations: 2147483648", "iterations: [5]", "unit: null", "c2: {}"],
)  # fmt: skip
def test_values_are_of_the_type_that_stands_in_the_file(tmp_path, setting):
    (line,) = problems(tmp_path, GOOD.replace("  crf:\n", f"  crf: {{{setting}}}\n"))
    assert "line 5, systems.crf." in line and len(line) < 300


@pytest.mark.parametrize("written", ["2e-5", "2.0e-5", "0.00002", "2E-5"])
def test_a_small_number_may_be_written_as_people_do(tmp_path, written):
    study = loaded(tmp_path, GOOD.replace("  crf:\n", f"  crf: {{c1: {written}}}\n"))
    assert study.systems["crf"].settings["c1"] == 2e-5


def test_a_prompt_that_is_not_there_is_noticed_before_training(tmp_path):
    (line,) = problems(tmp_path, GOOD.replace("  crf:\n", "  lora: {model: m, prompt: rewrite_jp}\n"))
    assert 'there is no prompt "rewrite_jp"; did you mean "rewrite_ja"?' in line


def test_what_the_study_fills_in_is_no_key_of_a_system(tmp_path):
    (line,) = problems(tmp_path, GOOD.replace("  crf:\n", "  crf: {labels: [a]}\n"))
    assert 'unknown key "labels"' in line


# --- YAML that nobody means -----------------------------------------------------------------------------------------


def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path):
    text = GOOD.replace("  B:", "  A: {path: data/pn, private: true}\n  B:") + "seeds: [0]\nseeds: [1]\n"
    text = text.replace("  crf:\n", "  crf: {iterations: 3, c1: 0.1, iterations: 4}\n")
    assert [line.split(", ", 1)[1] for line in problems(tmp_path, text)] == [
        'line 3, corpora: the key "A" stands already in line 2; remove one',
        'line 6, systems.crf: the key "iterations" stands already in line 6; remove one',
        'line 8, the key "seeds" stands already in line 7; remove one',
    ]


def test_a_private_mark_cannot_be_dropped_by_a_second_key(tmp_path):
    (line,) = problems(tmp_path, GOOD.replace("{path: data/cr}", "{path: data/cr, private: true, private: false}"))
    assert 'the key "private" stands already' in line


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 9)
)
MERGED = "b0: &b0 {x: 1}\n" + "".join(f"b{k}: &b{k} {{<<: [{', '.join([f'*b{k - 1}'] * 10)}]}}\n" for k in range(1, 9))


@pytest.mark.parametrize(
    "text",
    [BOMB + GOOD, BOMB + GOOD + "title: *a8\n", MERGED + GOOD, "a: &a [*a]\n" + GOOD, "a: &a {<<: *a}\n" + GOOD,
     "x: " + "[" * 5000, "x: " + "[" * 5000 + "]" * 5000, GOOD + "#" * 300_000, "? [a]\n: b\n" + GOOD,
     "? {a: b}\n: b\n" + GOOD, GOOD + "title: !!python/object/apply:os.system [ls]\n", GOOD + "title: !mine x\n",
     GOOD + "caption: !!binary aGk=\n", GOOD + "---\n" + GOOD, GOOD + "title: *nowhere\n", "%YAML 9.9\n---\n" + GOOD,
     GOOD + 'title: "\\ud800"\n', GOOD + 'title: "\\0"\n', GOOD + 'title: "\\UFFFFFFFF"\n', GOOD + "title: \x01\n",
     "", "# nothing\n", "null\n", "7\n", "[]\n", "{}\n", "corpora: {}\nsystems: {}\n", "corpora: []\nsystems: x\n",
     GOOD + "train: A\n", GOOD + "train: []\n", GOOD + "train: [A, A]\n", GOOD + "seeds: [-1]\n",
     GOOD + "seeds: [0, 0]\n", GOOD + "seeds: [4294967296]\n", GOOD + "tiny: {encoder: 3}\n", GOOD + "name: other\n",
     GOOD + "labels: [[d]]\n", GOOD + "systems:\n", GOOD.replace("A: {path: data/cr}", "A:"),
     GOOD.replace("{path: data/cr}", "data/cr")],
)  # fmt: skip
def test_hostile_or_broken_yaml_is_a_sentence_in_a_moment(tmp_path, text):
    assert all(line.startswith(str(tmp_path)) and len(line) < 400 for line in problems(tmp_path, text))


def test_anchors_and_merges_of_a_reasonable_file_work(tmp_path):
    text = GOOD.replace("{path: data/cr}", "&base {path: data/cr, private: true}")
    text = text.replace("{path: data/pn}", "{<<: *base, path: data/pn}")
    study = loaded(tmp_path, text)
    assert study.corpora["B"].private and study.corpora["B"].path == "data/pn"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_devices_and_folders_are_no_study_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("pipe", "zero", "folder"):
        with pytest.raises(DataError, match="no ordinary file"):
            load_study(tmp_path / f"{name}.yaml")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet="ab:{}[]&*!-|>'\"?,# \n<0", max_size=80).map(str.encode))
def test_any_bytes_are_a_study_or_a_sentence(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    with pytest.raises(DataError):
        load_study(path)


# --- names ----------------------------------------------------------------------------------------------------------

PLAIN = ["INF", "2024", "NO", "No", "yes", "None", "null", "True", "1e5", "007", "1_000", "0x1F", "2001-99-99", "1:30",
         "ward 7", "第二病棟", "カルテ（控）", "a&b", "$HOME", "a;b", "é", "😀", "=", "<<x"]  # fmt: skip
QUOTED = ["'quoted'", '"x"', "a[1]", "a{b}", "%s", "#1", "a, b", "null", "~"]


@pytest.mark.parametrize(
    ("name", "written"), [(name, name) for name in PLAIN] + [(name, json.dumps(name)) for name in QUOTED]
)
def test_a_name_is_the_text_that_stands_in_the_file(tmp_path, name, written):
    text = f"corpora:\n  {written}: {{path: data/cr}}\ntrain: [{written}]\nsystems:\n  {written}: {{kind: crf}}\n"
    study = loaded(tmp_path, text)
    assert list(study.corpora) == list(study.systems) == [name] == [*study.train] == [*study.evaluate]


def test_words_that_yaml_takes_for_something_else_stay_the_text_they_are(tmp_path):
    entry = "{path: 2024, labels_as: {1: d, NO: d, yes: d}, names: 1e5}"
    study = loaded(tmp_path, GOOD.replace("{path: data/cr}", entry) + "title: 2001-01-01\ncaption: NO\n")
    entry = study.corpora["A"]
    assert (entry.path, entry.labels_as, entry.names) == ("2024", {"1": "d", "NO": "d", "yes": "d"}, "1e5")
    assert (study.title, study.caption) == ("2001-01-01", "NO")
    with pytest.raises(DataError, match='"on" is no MedTxt'):
        loaded(tmp_path, GOOD + "labels: [on]\n")


@pytest.mark.parametrize("word", ["true", "yes", "on", "TRUE"])
def test_a_private_mark_in_any_of_yamls_words_is_one(tmp_path, word):
    assert loaded(tmp_path, GOOD.replace("data/cr}", f"data/cr, private: {word}}}")).corpora["A"].private


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "a\\b", "", " a", "a ", "a\nb", "a\tb", "a\u2028b", "-x",
                                  "長" * 60, "x" * 120])  # fmt: skip
def test_a_name_that_no_file_can_have_is_refused(tmp_path, name):
    quoted = yaml.safe_dump(name, default_style='"', allow_unicode=True, width=1000).strip()
    lines = problems(tmp_path, GOOD.replace("  A:", f"  {quoted}:"))
    assert any("name" in line and "line 2" in line for line in lines)


@pytest.mark.parametrize(("one", "other"), [("CR", "cr"), ("が", "か\u3099"), ("ß", "SS"), ("Ａ", "A")])
def test_names_that_are_one_on_some_file_system_are_refused(tmp_path, one, other):
    (line,) = problems(tmp_path, f"corpora:\n  {one}: {{path: a}}\n  {other}: {{path: b}}\nsystems: {{crf: }}\n")
    assert "line 3" in line and f'the same as "{one}"' in line


@pytest.mark.parametrize("name", ["logs", "Notebooks", "figures"])
def test_a_system_cannot_have_the_name_of_a_folder_that_is_there(tmp_path, name):
    assert "another folder" in problems(tmp_path, GOOD.replace("  crf:", f"  {name}: {{kind: crf}}"))[0]


# --- corpora without annotations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["unannotated: true", "format: text"])
def test_a_corpus_without_annotations_is_neither_learned_from_nor_scored(tmp_path, mark):
    text = GOOD.replace("path: data/pn", f"path: data/pn, {mark}")
    study = loaded(tmp_path, text)
    assert study.train == study.evaluate == ("A",) and not study.corpora["B"].has_gold
    for key, use in (("train", "learn from"), ("evaluate", "score against")):
        assert f", without entities to {use}" in problems(tmp_path, f"{text}{key}: [A, B]\n")[0]


def test_a_corpus_without_entities_opens_when_the_study_says_that_it_is_unannotated(tmp_path):
    (tmp_path / "n.jsonl").write_text('{"id": "1", "text": "発熱なし。", "entities": []}\n', encoding="utf-8")
    text = GOOD.replace("{path: data/pn}", f"{{path: {tmp_path}/n.jsonl, format: jsonl}}")
    with pytest.raises(DataError, match="unannotated: true"):
        open_corpora(loaded(tmp_path, text))
    assert len(open_corpora(loaded(tmp_path, text.replace("jsonl}", "jsonl, unannotated: true}")))["B"]) == 1


def test_reading_a_study_loads_neither_torch_nor_pandas(tmp_path):
    script = (
        "import sys; from nbutils.study.file import load_study; load_study('studies/demo.yaml'); "
        "import nbutils.taggers.settings; print([m for m in ('torch', 'pandas', 'transformers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
