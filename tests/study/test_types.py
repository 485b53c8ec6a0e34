"""Many types of entities, with or without the certainty in the type, take the same path in every system."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils import ROOT
from nbutils.analysis import main_result
from nbutils.corpus import (
    CERTAINTIES,
    MEDTXT_TAGS,
    Corpus,
    Document,
    Entity,
    Prediction,
    entities_within,
    entity_types,
    select,
    sentence_spans,
    separated,
)
from nbutils.corpus.formats import read_corpus
from nbutils.files import DataError
from nbutils.scoring.spans import carry_certainty, certainty_scores, exact_scores
from nbutils.study import systems
from nbutils.study.corpora import corpus_path, open_corpora, open_corpus, split
from nbutils.study.execute import execute
from nbutils.study.file import load_study
from nbutils.study.results import Results
from nbutils.study.systems import build_tiny
from nbutils.taggers import bert, crf, lora
from nbutils.taggers.bio import bio_labels, bio_to_entities, entities_to_bio
from nbutils.taggers.copying.decode import Copier, TagTokens
from nbutils.taggers.tiny import character_tokenizer

# As MedTxt-CR's own files mark it: many tags, a certainty on diseases alone, a disease without one, other attributes.
ARTICLE = """<article id="{id}" title="例">
<timex3 type="date">２０１９年５月</timex3>，<a>右下肺</a>に<d certainty="positive">肺炎</d>を認め，<d certainty="negative">胸水</d>はなかった．
<t-test state="executed">血液検査</t-test>で<t-key>ＣＲＰ</t-key> <t-val>１２．３</t-val>，<d certainty="suspicious">敗血症</d>を疑い<m-key state="executed">メロペネム</m-key><m-val>３ｇ</m-val>を開始した．
<d certainty="general">敗血症</d>では<d>発熱</d>が<c>持続</c>し，<f>高度</f>の<r state="executed">補液</r>を要する．<cc state="executed">入院</cc>とした．<p>方針</p>
</article>"""  # noqa: E501
TAGS = ("d", "a", "timex3", "t-test", "t-key", "t-val", "m-key", "m-val", "c", "f", "r", "cc", "p")
STUDY = """
corpora:
  A: {{path: {folder}/a.xml}}
labels: [{labels}]
certainty_in_type: true
seeds: [0]
tiny:
  encoder: {{hidden: 32, layers: 1, epochs: 1}}
  llm: {{hidden: 32, layers: 1, samples: 64, longest: 12}}
systems:
  crf: {{iterations: 30}}
  bert: {{model: tiny/encoder, epochs: 1, learning_rate: 1.0e-3}}
  lora: {{model: tiny/llm, prompt: tiny_ja, max_length: 160, epochs: 1, train_tags: true}}
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """A study of all of MedTxt's tags on a small hand-made file."""
    folder = tmp_path_factory.mktemp("types")
    articles = "\n".join(ARTICLE.format(id=f"CR-{k}") for k in range(5))
    (folder / "a.xml").write_text(f"<root><articles>\n{articles}\n</articles></root>", encoding="utf-8")
    path = folder / "mine.yaml"
    path.write_text(STUDY.format(folder=folder, labels=", ".join(TAGS)), encoding="utf-8")
    return load_study(path)


def one(*entities: Entity) -> Corpus:
    return Corpus("A", (Document("n", "あ" * 40, tuple(entities)),))


def labels_of(corpus):
    return [e.label for d in corpus for e in d.entities]


# --- choosing and naming ---------------------------------------------------------------------------------------------


def test_a_certainty_in_the_type_is_named_behind_the_tag_and_a_missing_one_is_unmarked():
    corpus = one(Entity(0, 1, "d", "positive"), Entity(2, 3, "d"), Entity(4, 5, "a"))
    assert labels_of(select(corpus, ["d", "a"], certainty_in_type=True)) == ["d-positive", "d-unmarked", "a"]


def test_certainties_restrict_diseases_and_leave_tags_without_certainty_alone():
    corpus = one(Entity(0, 1, "d", "positive"), Entity(2, 3, "d", "negative"), Entity(4, 5, "d"), Entity(6, 7, "a"))
    assert labels_of(select(corpus, ["d", "a"], ["positive"])) == ["d", "a"]


def test_the_text_and_the_certainty_stay_as_they_were():
    corpus = one(Entity(0, 1, "d", "positive", (("id", "7"),)))
    (entity,) = select(corpus, ["d"], certainty_in_type=True).documents[0].entities
    assert entity == Entity(0, 1, "d-positive", "positive", (("id", "7"),))


@given(
    st.lists(st.tuples(st.sampled_from([*sorted(MEDTXT_TAGS), "drug"]), st.sampled_from([None, *CERTAINTIES]))),
    st.none() | st.sets(st.sampled_from(CERTAINTIES)),
    st.booleans(),
)
def test_every_chosen_entity_has_one_of_the_named_types_and_can_be_taken_apart_again(kinds, certainties, in_type):
    kinds = [(label, certainty if label in ("d", "drug") else None) for label, certainty in kinds]
    corpus = one(*(Entity(k, k + 1, label, certainty) for k, (label, certainty) in enumerate(kinds[:40])))
    labels = ["d", "a", "t-key", "drug"]
    chosen = select(corpus, labels, certainties, certainty_in_type=in_type).documents[0].entities
    assert {e.label for e in chosen} <= set(entity_types(labels, certainties, certainty_in_type=in_type))
    assert [separated(e) for e in chosen] == list(select(corpus, labels, certainties).documents[0].entities)


def test_the_types_of_the_bundled_study_are_the_four_certainties():
    plan = load_study(ROOT / "studies" / "types.yaml")
    assert plan.types == ("d-positive", "d-suspicious", "d-negative", "d-general")
    assert set(labels_of(open_corpus(plan, "CR"))) == set(plan.types)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("labels: [d, timex]", '"timex" is no MedTxt tag; did you mean "timex3"?'),
        ("labels: []", "name at least one"),
        ("labels: [d, d]", "each one once"),
        ("labels: [a, timex3]\ncertainty_in_type: true", "none of the labels has a certainty"),
        ("certainty_in_type: yes please", "should be true or false"),
    ],
)
def test_faulty_types_are_refused_with_their_mend(tmp_path, line, sentence):
    path = tmp_path / "mine.yaml"
    path.write_text(f"corpora:\n  A: {{path: data/cr}}\nsystems:\n  crf:\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_study(path)
    assert sentence in str(caught.value)


# --- the same path in every system -----------------------------------------------------------------------------------


def test_a_medtxt_file_with_all_tags_is_opened_with_every_type(plan):
    corpus = open_corpus(plan, "A")
    assert (
        set(labels_of(corpus)) == set(plan.types) == ({*TAGS} - {"d"}) | {f"d-{c}" for c in (*CERTAINTIES, "unmarked")}
    )
    assert {s.kind: systems.settings(plan, s, "A").labels for s in plan.systems.values()} == dict.fromkeys(
        ("crf", "bert", "lora"), plan.types
    )


def test_every_type_survives_bio_labels(plan):
    for document in open_corpus(plan, "A"):
        offsets = [(k, k + 1) for k in range(len(document.text))]
        numbers = entities_to_bio(document.entities, offsets, plan.types)
        sure = np.log(np.eye(len(bio_labels(plan.types)))[numbers] + 1e-9)
        assert [e.key for e in bio_to_entities(sure, offsets, plan.types)] == [e.key for e in document.entities]


def test_every_type_has_tags_of_one_token_each_and_survives_them(plan):
    documents = open_corpus(plan, "A").documents
    tokenizer = character_tokenizer([d.text for d in documents], plan.types)
    tags = TagTokens(tokenizer, plan.types)
    assert all(len(tokens) == 1 for tokens in [*tags.open.values(), *tags.close.values()])
    assert len({*tags.open.values(), *tags.close.values()}) == 2 * len(plan.types)
    for start, end in sentence_spans(documents[0]):
        entities = entities_within(documents[0], start, end)
        copier = Copier(tags, documents[0].text[start:end])
        tokens = copier.write(entities)
        assert [e.key for e in copier.read(tokens, [0.0] * len(tokens))] == [e.key for e in entities]


def test_a_crf_learns_each_of_many_types(plan):
    documents = open_corpus(plan, "A").documents
    tagger = crf.fit(documents, systems.settings(plan, plan.systems["crf"], "A"), progress=False)
    assert exact_scores(documents, tagger.predict(documents)).f1 == 1


def test_encoder_and_language_model_run_on_many_types_and_write_only_these(plan, tmp_path, monkeypatch):
    for name in ("systems", "execute"):
        monkeypatch.setattr(f"nbutils.study.{name}.ROOT", tmp_path)
    monkeypatch.setattr("nbutils.taggers.models.ROOT", tmp_path)
    for kind, system, module in (("encoder", "bert", bert), ("llm", "lora", lora)):
        build_tiny(plan, "A", kind, progress=False)
        run = execute(plan, system, "A", 0, runs=tmp_path / "runs", progress=False)
        assert tuple(run.record["settings"]["labels"]) == plan.types
        test = split(plan, open_corpus(plan, "A"))[1]
        assert {e.label for p in run.predictions(test) for e in p.entities} <= set(plan.types)
        assert module.load(run.folder / "model").settings.labels == plan.types


def test_the_instruction_names_every_tag_and_its_meaning():
    prompt = lora.prompt_text("rewrite_ja", "{tags}", ("d-negative", "d-unmarked", "t-key", "drug"))
    assert "病名・症状・異常所見（陰性）を表す部分を <d-negative> と </d-negative> で、" in prompt
    assert "（確信度なし）を表す部分を <d-unmarked>" in prompt and "検査項目を表す部分を <t-key>" in prompt
    assert "drugを表す部分を <drug> と </drug> で囲んで" in prompt
    assert prompt.count("{tags}") == 1  # the note's own


def test_the_instruction_for_disease_names_alone_is_the_papers_single_tag():
    assert "病名・症状・異常所見を表す部分を <d> と </d> で囲んでください。" in lora.prompt_text("rewrite_ja", "")


# --- scores and tables -----------------------------------------------------------------------------------------------

GOLD = (Entity(0, 2, "d", "positive"), Entity(3, 5, "d", "negative"), Entity(6, 8, "d", "positive"), Entity(9, 10, "a"))
FOUND = (
    Entity(0, 2, "d", "positive"),
    Entity(3, 5, "d", "positive"),
    Entity(6, 7, "d", "positive"),
    Entity(9, 10, "a"),
)


def typed(entities):
    return [replace(e, label=f"d-{e.certainty}", certainty=None) if e.label == "d" else e for e in entities]


@pytest.mark.parametrize("form", [list, typed])
def test_certainty_counts_span_tag_and_certainty_wherever_it_is_written(form):
    gold, found = [Document("n", "あ" * 10, GOLD)], [Prediction("n", tuple(form(FOUND)))]
    plain, exact = certainty_scores(gold, found)
    assert (plain.matched_gold, exact.matched_gold) == (3, 2)
    assert plain.n_gold == exact.n_gold == plain.n_predicted == exact.n_predicted == 4


def test_a_prediction_without_any_certainty_is_known_to_have_none():
    assert not carry_certainty(
        [Prediction("n", (Entity(0, 1, "d"), Entity(2, 3, "t-key"), Entity(4, 5, "d-unmarked")))]
    )
    assert carry_certainty([Prediction("n", (Entity(0, 1, "d-general"),))])


spans = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 3), st.sampled_from([None, *CERTAINTIES])), max_size=6
).map(lambda rows: tuple(Entity(s, s + n, "d", c) for s, n, c in rows))


@given(spans, spans)
def test_with_the_certainty_a_score_is_never_higher(gold, found):
    gold = {e.key: e for e in gold}.values()  # one certainty a span
    plain, exact = certainty_scores([Document("n", "あ" * 10, tuple(gold))], [Prediction("n", found)])
    assert exact.matched_gold <= plain.matched_gold and exact.precision <= plain.precision


def rows(plan, values):
    """One run; F1 and number of gold entities by (evaluate, type)."""
    return pd.DataFrame(
        {"system": "crf", "train": "CR", "evaluate": e, "setting": "ID" if e == "CR" else "OOD", "seed": 0,
         "type": kind, "f1": f1, "n_gold": n}
        for (e, kind), (f1, n) in values.items()
    )  # fmt: skip


def test_the_table_by_type_has_counts_and_a_dash_where_a_type_does_not_occur(tmp_path, monkeypatch):
    monkeypatch.setattr(main_result, "figure_folder", lambda _: tmp_path)
    plan = load_study(ROOT / "studies" / "types.yaml")
    by_type = rows(plan, {("CR", "d-positive"): (50.0, 1234), ("PN", "d-positive"): (40.0, 7),
                          ("CR", "d-general"): (100.0, 0), ("PN", "d-general"): (0.0, 3)})  # fmt: skip
    table = main_result.type_table(plan, by_type)
    assert table.loc[("d-positive", "gold entities (n)")].to_list() == ["1,234", "7", ""]
    assert table.loc[("d-positive", "CRF (MeCab and character features)")].to_list() == [
        "50.0 (—)",
        "40.0 (—)",
        "-10.0",
    ]
    assert table.loc[("d-general", "CRF (MeCab and character features)")].to_list() == ["—", "0.0 (—)", "—"]
    path = main_result.write_main_result(plan, table.loc["d-positive"], table)
    assert "| d-positive | CRF (MeCab and character features) | 50.0 (—) |" in path.read_text(encoding="utf-8")
    assert (tmp_path / "main_result_types.csv").exists()


def test_the_rows_by_type_and_with_certainty_come_from_the_runs_predictions(plan, tmp_path):
    run = execute(plan, "crf", "A", 0, runs=tmp_path, progress=False)
    corpora = open_corpora(plan)
    results = Results(plan, corpora, [run])
    by_type, whole = main_result.score_by_type(results), main_result.score_runs(results)
    assert by_type["type"].to_list() == list(plan.types)
    assert by_type["n_gold"].sum() == whole["n_gold"].sum() == 17
    certainty = main_result.score_certainty(results)
    assert certainty.iloc[0]["certainty"] == pytest.approx(whole.iloc[0]["f1"])  # here the certainty is in the type
    assert certainty.iloc[0]["plain"] >= certainty.iloc[0]["certainty"]
    assert len(main_result.certainty_table(plan, certainty)) == 1


def test_the_official_form_is_read_with_its_other_attributes(plan):
    corpus = read_corpus(corpus_path(plan, "A"))
    states = {dict(e.attributes).get("state") for d in corpus for e in d.entities}
    assert "executed" in states
