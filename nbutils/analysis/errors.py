"""What kind of mistake was it? False positives and false negatives sorted by written rules, counted, and shown.

A rule looks at boundaries, at a certainty that a study left out, or at how a name ends; none judges medicine.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from nbutils.corpus import Corpus, Document, Entity, Prediction, cut_to, lines
from nbutils.privacy import shown
from nbutils.scoring.spans import pair
from nbutils.study.corpora import elsewhere
from nbutils.study.file import Study
from nbutils.study.results import Results

FALSE_POSITIVE, FALSE_NEGATIVE = "false positive", "false negative"
BORDER_KINDS = ("too short", "too long", "shifted", "split", "merged")
FALSE_POSITIVE_KINDS = (*BORDER_KINDS, "wrong type", "negated", "other certainty", "normal finding",
                        "test or biomarker", "drug or procedure", "anatomy", "fragment", "other")  # fmt: skip
FALSE_NEGATIVE_KINDS = (*BORDER_KINDS, "wrong type", "missed")
KINDS = {FALSE_POSITIVE: FALSE_POSITIVE_KINDS, FALSE_NEGATIVE: FALSE_NEGATIVE_KINDS}

# Word lists for rules 9 to 12, compared after NFKC and lower-casing; Latin tests count as whole words only.
# `ht` and `ca` are missing on purpose: in notes they mean hypertension and carcinoma.
_LATIN_TESTS = """
    hb hgb hct wbc rbc plt crp pct alb tp ast alt got gpt ldh alp ggt gtp ck ck-mb bnp nt-probnp tnt tni cr cre
    bun egfr na k cl mg glu bs hba1c a1c ph pco2 paco2 po2 pao2 hco3 lac lactate spo2 sat fdp d-dimer pt pt-inr
    inr aptt ferritin fe tibc uibc mcv mch mchc ldl ldl-c hdl tsh cea ca19-9
    ca125 progrp nse scc afp psa bp sbp dbp map hr bt kt rr ef lvef gcs jcs nihss mmse hds-r ct cta mri mra dwi
    flair pet xp x-p cxr axp ecg ekg ucg tte tee echo eeg"""
_JAPANESE_TESTS = """
    マーカー 血小板 白血球 赤血球 好中球 リンパ球 ヘモグロビン ヘマトクリット フェリチン クレアチニン
    アルブミン ビリルビン カリウム ナトリウム トロポニン ケトン体 ケトン ダイマー 炎症反応 血糖 血糖値 血圧
    脈拍 心拍数 体温 呼吸数 尿量 体重 酸素飽和度 抗体 抗体価 抗原 培養 細胞診 検査 採血 心電図 エコー 超音波
    内視鏡 造影 血液ガス 血ガス 尿蛋白 尿糖 沈渣 x線 レントゲン スコア 検査値 測定値"""
_CHANGES = "低下 上昇 増加 減少 高値 低値 亢進 減弱 増強 増大 縮小 改善 悪化 軽快 消失 陽性 陰性 異常 高い 低い"
_TREATMENTS = """
    術 療法 投与 投薬 治療 切除 手術 穿刺 造設 留置 吻合 内服 点滴 輸血 輸液 洗浄 照射 生検 挿管 透析 薬 剤
    ドレナージ リハビリ ステント クリッピング コイリング マイシン シリン セフェム スタチン プラチン インスリン
    ステロイド ワクチン"""
_SITES = """
    肺 肺野 肺門 肺門部 上葉 中葉 下葉 舌区 胸膜 胸腔 胸部 縦隔 気管 気管支 心臓 心筋 心室 心房 僧帽弁 大動脈弁
    三尖弁 前尖 後尖 動脈 静脈 血管 頭部 頭蓋 脳 脳幹 皮質 白質 髄膜 脊髄 頸部 頸椎 腰椎 胸椎 背部 腰部 肩 四肢
    上肢 下肢 両側 左側 右側 左 右 手指 足趾 関節 膝 骨 骨髄 筋 皮膚 粘膜 結膜 眼瞼 眼球 瞳孔 口腔 咽頭 喉頭
    甲状腺 リンパ節 腹部 心窩部 季肋部 腹腔 腹膜 肝 肝臓 胆嚢 胆管 膵 膵臓 膵頭部 脾 脾臓 胃 食道 十二指腸 小腸
    回腸 盲腸 虫垂 大腸 結腸 直腸 肛門 腎 腎臓 腎盂 尿管 膀胱 尿道 前立腺 子宮 内膜 卵巣 付属器 腟 乳房 創部 創
    ic-pc rca lad lcx lmt svc ivc"""
_NORMAL_WORDS = (
    r"正常|普通|清明|音清|(?<![不調])整|(?<!不)良好|平坦|軟|(?<!不)明瞭|保たれ|異常(?:は|を)?(?:なし|無し|ない|認めず|認めない)"
    r"|著変なし|問題なし|n\.?p\.?(?![a-z])|wnl|intact|normal"
)


def _ends_with(words: str, *, latin: bool = False) -> re.Pattern[str]:
    """Matches a text that ends with one of the words; Latin ones only as whole words."""
    any_word = "|".join(re.escape(w) for w in sorted(words.split(), key=len, reverse=True))
    return re.compile((r"(?<![a-z])" if latin else "") + f"(?:{any_word})$")


_TEST_END = re.compile(f"{_ends_with(_LATIN_TESTS, latin=True).pattern}|{_ends_with(_JAPANESE_TESTS).pattern}")
_TREATMENT_END = _ends_with(_TREATMENTS)
_SITE_END = _ends_with(_SITES)
_CHANGE_ALONE = re.compile(f"(?:{'|'.join(_CHANGES.split())})+(?:傾向)?")
_VALUE_END = re.compile(r"\d[\d.,]*\s*(?:[a-zμ%℃°/]|万|千|億|台|度)*$")
_SIGNS_AROUND = re.compile(r"^[\W_]+|[\W_]+$")
_NORMAL_INSIDE = re.compile(f"(?:{_NORMAL_WORDS})$")
_NORMAL_AFTER = re.compile(rf"[\s、,:・]{{0,2}}(?:所見)?[はもがに]?[\s、,:]?(?:{_NORMAL_WORDS})")


def false_positive_kind(
    entity: Entity, document: Document, predicted: Sequence[Entity], left_out: Sequence[Entity] = ()
) -> str:
    """The kind of a predicted entity that is no gold entity of the document. The first rule that holds decides.

    | # | kind | rule |
    |--:|---|---|
    | 1 | wrong type | shares a character with gold entities, but with none of its own type |
    | 2 | split | one gold entity and several predicted ones hang together by shared characters |
    | 3 | merged | one predicted entity and several gold ones hang together |
    | 4 | too short | lies inside the one gold entity it hangs together with |
    | 5 | too long | that gold entity lies inside it |
    | 6 | shifted | any other chain of shared characters |
    | 7 | negated | shares a character with an entity that the study leaves out, of certainty `negative` |
    | 8 | other certainty | the same with any other entity that the study leaves out (suspected, general, unmarked) |
    | 9 | normal finding | ends with a word for normal (正常, n.p., 異常なし …), or such a word follows directly in the line |
    | 10 | test or biomarker | without a value at its end (Hb 8.1 g/dL, CRP↑) it ends with a test, a quantity or an examination (Hb, CRP, 腫瘍マーカー, 血小板, CT …), or it is a change without its subject (低下); guideline rule 5 |
    | 11 | drug or procedure | ends with a word for one (術, 療法, 投与, 剤 …); guideline rule 6 |
    | 12 | anatomy | ends with a site (肺, 右下葉, 腹部 …); guideline rule 6 |
    | 13 | fragment | has at most one letter or character besides signs and digits |
    | 14 | other | none of these |

    The abnormal *state* of a test (血小板減少, CRP高値) is a disease name by guideline rule 5, so rule 10 lets it pass.
    Names are compared after NFKC and lower-casing, without signs at their ends.
    """  # noqa: E501
    if border := _border_kind(entity, document.entities, predicted, is_gold=False):
        return border
    touched = [e for e in left_out if _touches(e, entity)]
    if touched:
        return "negated" if any(e.certainty == "negative" for e in touched) else "other certainty"
    name = _SIGNS_AROUND.sub("", _folded(document.surface(entity)))
    rest_of_line = re.split(r"[\r\n]", document.text[entity.end : entity.end + 20])[0]
    if _NORMAL_INSIDE.search(name) or _NORMAL_AFTER.match(_folded(rest_of_line)):
        return "normal finding"
    if _is_test(name):
        return "test or biomarker"
    if _TREATMENT_END.search(name):
        return "drug or procedure"
    if _SITE_END.search(name):
        return "anatomy"
    return "fragment" if sum(c.isalpha() for c in name) <= 1 else "other"


def false_negative_kind(entity: Entity, document: Document, predicted: Sequence[Entity]) -> str:
    """The kind of a gold entity of the document that was not predicted exactly. The first rule that holds decides.

    | # | kind | rule |
    |--:|---|---|
    | 1 | wrong type | shares a character with predicted entities, but with none of its own type |
    | 2 | split | one gold entity and several predicted ones hang together by shared characters |
    | 3 | merged | one predicted entity and several gold ones hang together |
    | 4 | too short | the predicted entity lies inside it |
    | 5 | too long | it lies inside the predicted entity |
    | 6 | shifted | any other chain of shared characters |
    | 7 | missed | no predicted entity shares a character with it |

    Rules 1 to 6 see a false negative and the false positive at its place alike, so both carry the same kind.
    """
    return _border_kind(entity, document.entities, predicted, is_gold=True) or "missed"


def document_errors(
    document: Document, predicted: Iterable[Entity], *, left_out: Sequence[Entity] = ()
) -> Iterator[tuple[str, str, Entity]]:
    """(side, kind, entity) of every predicted entity that is not gold and every gold one that was not predicted.

    Exactly as `spans.exact_scores` counts: by start, end and type, duplicates once.
    """
    predicted = list({e.key: e for e in predicted}.values())
    gold_keys, predicted_keys = {e.key for e in document.entities}, {e.key for e in predicted}
    for entity in sorted(predicted):
        if entity.key not in gold_keys:
            yield FALSE_POSITIVE, false_positive_kind(entity, document, predicted, left_out), entity
    for entity in sorted({e.key: e for e in document.entities}.values()):
        if entity.key not in predicted_keys:
            yield FALSE_NEGATIVE, false_negative_kind(entity, document, predicted), entity


def of_runs(results: Results, *, train: str, evaluate: str, marked: Mapping[str, Corpus] | None = None) -> pd.DataFrame:
    """One row per error of every run that was trained on `train`, on the corpus `evaluate`, in the study's order.

    `marked` holds the corpora with every entity, when the study leaves some certainties out. `line` is the line (or
    lines) that the entity stands in; `gold` and `predicted` are all spans there, counted from the line's start, so that
    a row can be shown by itself, with the text of private notes covered.
    """
    everything = {d.id: d.entities for d in (marked or results.corpora)[evaluate]}
    rows: list[dict[str, Any]] = []
    for scored in results.scored(train, evaluate):
        run = scored.run
        for document, prediction in pair(scored.gold, scored.predicted):
            kept, visible = {e.key for e in document.entities}, shown(document)
            left_out = [e for e in everything[document.id] if e.key not in kept]
            for side, kind, entity in document_errors(document, prediction.entities, left_out=left_out):
                rows.append(
                    {"system": run.system, "seed": run.seed, "document": visible.id,
                     "case": visible.meta.get("case", ""), "physician": visible.meta.get("physician", ""),
                     "side": side, "kind": kind, "entity": visible.surface(entity), "start": entity.start,
                     "end": entity.end, "label": entity.label}
                    | in_its_line(document, prediction.entities, entity)
                )  # fmt: skip
    columns = ["system", "seed", "document", "case", "physician", "side", "kind", "entity", "start", "end", "label",
               "line", "gold", "predicted"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def in_its_line(document: Document, predicted: Iterable[Entity], entity: Entity) -> dict[str, Any]:
    """The line of an entity, and the gold and predicted spans that touch it, counted from and cut to the line."""
    touched = [span for span in lines(document.text) if span[0] < entity.end and entity.start < span[1]]
    start, end = (touched[0][0], touched[-1][1]) if touched else (entity.start, entity.end)
    gold, found = (tuple(e.key for e in cut_to(some, start, end)) for some in (document.entities, predicted))
    return {"line": shown(document).text[start:end], "gold": gold, "predicted": found}


def on_document(
    results: Results, document_id: str | None = None, *, train: str, evaluate: str | None = None
) -> tuple[Document, dict[str, Prediction]]:
    """One document and what every system predicted in it with its first seed, by title.

    Args:
        document_id: as it may be shown; without it the first document.
        evaluate: without it the one that `elsewhere` gives.
    """
    evaluate = evaluate or elsewhere(results.study, train)
    document = next(d for d in results.gold(train, evaluate) if document_id in (None, shown(d).id))
    by_title: dict[str, Prediction] = {}
    for scored in results.scored(train, evaluate):
        if scored.title not in by_title:
            by_title[scored.title] = next(p for p in scored.predicted if p.document_id == document.id)
    return document, by_title


def distinct(rows: pd.DataFrame) -> pd.DataFrame:
    """Each error of a system once, however many of its seeds make it, systems by turns, so the first page shows all."""
    once = rows.drop_duplicates(["system", "side", "kind", "document", "start", "end", "label"])
    turn = once.groupby("system", sort=False).cumcount()
    return once.iloc[turn.argsort(kind="stable")]


def runs_of(results: Results, train: str) -> Counter[str]:
    """How many runs of each system were trained on a corpus: what counts are divided by."""
    return Counter(run.system for run in results.runs if run.train == train)


def count_table(study: Study, rows: pd.DataFrame, n_runs: Mapping[str, int], side: str) -> pd.DataFrame:
    """Errors of one side by kind, one column per system, mean over its runs; kinds that never occur are 0."""
    systems = [name for name in study.systems if n_runs.get(name)]
    of_side = rows[rows["side"] == side]
    table = pd.crosstab(of_side["kind"], of_side["system"]).reindex(index=KINDS[side], columns=systems, fill_value=0)
    table = (table / [n_runs[name] for name in systems]).rename(columns={s: study.systems[s].title for s in systems})
    table.loc["all"] = table.sum()
    table.index.name, table.columns.name = side, "errors per run"
    return table


def answer(study: Study, counts: pd.DataFrame, left_out: Collection[str] = ()) -> str:
    """The question of notebook 08 answered in Markdown, from `count_table` of false positives; a sentence per system.

    Args:
        left_out: names of systems that find nothing.
    """
    said = []
    for title in (system.title for name, system in study.systems.items() if name not in left_out):
        if title not in counts or not counts.loc["all", title]:
            continue
        kinds = counts[title].drop("all")
        touching, commonest = kinds[list(BORDER_KINDS)].sum() / kinds.sum(), kinds.idxmax()
        said.append(
            f"- **{title}:** {kinds.sum():,.1f} false positives per run; {touching:.0%} of them are a name with "
            f"another boundary, {1 - touching:.0%} are something else; the commonest kind is *{commonest}* "
            f"({kinds.max() / kinds.sum():.0%})."
        )
    return "\n".join(said) or "No system that finds something has a false positive here."


def examples(study: Study, rows: pd.DataFrame, side: str = FALSE_POSITIVE, n: int = 1) -> pd.DataFrame:
    """Examples in the shape of Table 4, chosen by rule: for each system and kind the `n` errors that most of its seeds
    make; among equals the shortest line, then the order of the documents.

    Prediction and gold list everything that is marked in the line, as the paper's table does.
    """
    chosen = rows[rows["side"] == side].copy()
    place = ["system", "kind", "document", "start", "end", "label"]
    chosen["seeds"] = chosen.groupby(place)["seed"].transform("nunique")
    chosen["length"] = chosen["line"].str.len()
    order = {name: k for k, name in enumerate((*study.systems, *KINDS[side]))}
    chosen["of system"], chosen["of kind"] = chosen["system"].map(order), chosen["kind"].map(order)
    keys = ["of system", "of kind", "seeds", "length", "document", "start"]
    chosen = chosen.drop_duplicates(place).sort_values(keys, ascending=[key != "seeds" for key in keys])
    chosen = chosen.groupby(["of system", "of kind"], sort=False).head(n).rename(columns={"line": "sentence"})
    chosen["system"] = [study.systems[name].title for name in chosen["system"]]
    for column, spans in (("prediction", "predicted"), ("gold annotation", "gold")):
        chosen[column] = [_names(line, s) for line, s in zip(chosen["sentence"], chosen[spans], strict=True)]
    columns = ["sentence", "prediction", "gold annotation", "document", "seeds"]
    return chosen.set_index(["system", "kind"])[columns]


def _border_kind(entity: Entity, gold: Sequence[Entity], predicted: Sequence[Entity], *, is_gold: bool) -> str | None:
    """How an entity and those of the other side miss each other; None when they share no character."""
    touched = [e for e in (predicted if is_gold else gold) if _touches(e, entity)]
    if not touched:
        return None
    if all(e.label != entity.label for e in touched):
        return "wrong type"
    n_gold, n_predicted = _hanging_together(entity, gold, predicted)
    if (n_gold, n_predicted) == (1, 1):
        marked, found = (entity, touched[0]) if is_gold else (touched[0], entity)
        if marked.start <= found.start and found.end <= marked.end:
            return "too short"
        return "too long" if found.start <= marked.start and marked.end <= found.end else "shifted"
    return "split" if n_gold == 1 else "merged" if n_predicted == 1 else "shifted"


def _hanging_together(entity: Entity, gold: Sequence[Entity], predicted: Sequence[Entity]) -> tuple[int, int]:
    """How many gold and how many predicted entities a chain of shared characters joins to this one, itself included."""
    start, end, n_before = entity.start, entity.end, -1
    members: list[list[Entity]] = [[], []]
    while len(members[0]) + len(members[1]) > n_before:
        n_before = len(members[0]) + len(members[1])
        members = [[e for e in side if e.start < end and start < e.end] for side in (gold, predicted)]
        start = min(e.start for e in (*members[0], *members[1]))
        end = max(e.end for e in (*members[0], *members[1]))
    return len(members[0]), len(members[1])


def _names(line: str, spans: Sequence[tuple[int, int, str]]) -> str:
    return ", ".join(line[start:end] for start, end, _ in spans) or "none"


def _is_test(name: str) -> bool:
    """Whether the name ends with a test or is a bare change, its values taken away from the end one by one."""
    while name:
        if _TEST_END.search(name) or _CHANGE_ALONE.fullmatch(name):
            return True
        shorter = _SIGNS_AROUND.sub("", _VALUE_END.sub("", name))
        if shorter == name:
            break
        name = shorter
    return False


def _touches(one: Entity, other: Entity) -> bool:
    return one.start < other.end and other.start < one.end


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower().strip()
