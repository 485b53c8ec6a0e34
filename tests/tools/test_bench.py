"""The benchmarks compare what they say they compare; on small sizes, where times mean nothing."""

import json
import subprocess
import sys

import pytest
import torch

from nbutils import ROOT
from nbutils.taggers.copying.automaton import Copier, TagTokens
from tools.bench import decoding, gpu, markdown, others, passes, training, write


@pytest.fixture(scope="module")
def few_lines():
    """Thirty lines instead of all, so that tokenizers and output layers are fitted in no time."""
    every = {name: decoding.annotated_lines(name, 3)[:30] for name in ("cr", "pn")}
    with pytest.MonkeyPatch.context() as patch:
        for module in (decoding, others, passes, training):
            patch.setattr(module, "annotated_lines", lambda name, notes=None: every[name])
        yield every


def quiet(line):
    """No progress."""


@pytest.fixture(scope="module")
def timed(few_lines):
    return decoding.measure(decoding.llama(64, 2, 1_500), {1: 2, 2: 4}, (0, 20), quiet)


def test_every_way_of_decoding_gives_the_same_answer_and_that_of_the_annotators(timed):
    decoded = [row for row in timed if row["method"] != decoding.CLASSIFIER]
    assert all(row["identical"] == row["lines"] for row in decoded)
    assert len({(row["lines"], row["entities"]) for row in decoded}) == 2
    assert [row["method"] for row in timed if row["batch"] == 1][:6] == list(decoding.METHODS)


def test_passes_lie_between_those_with_every_tag_told_and_the_bound(timed):
    of = {(row["shared prompt (tokens)"], row["batch"], row["method"]): row for row in timed}
    for prompt in (0, 20):
        for size in (1, 2):
            ours = of[prompt, size, decoding.OURS]
            assert of[prompt, size, decoding.TOLD]["passes"] <= ours["passes"] <= ours["bound (passes)"]
            assert ours["passes"] < of[prompt, size, decoding.REPEATING]["passes"]
            assert 2 * ours["passes"] < of[prompt, size, decoding.CONSTRAINED]["passes"]
            assert of[prompt, size, decoding.CLASSIFIER]["passes"] == ours["lines"] / size


def test_passes_counted_without_a_model_are_those_of_a_model(few_lines):
    lines = few_lines["cr"][:6]
    tags = TagTokens(decoding.tokenizer_of([text for text, _ in few_lines["cr"]]), ["d"])
    copiers, prompts = [Copier(tags, text) for text, _ in lines], [[0, 5 + k] for k in range(len(lines))]
    model, seen = decoding.random_model(decoding.llama(64, 2, 1_500), torch.float32), []
    decoding.teach(model, tags, lines, prompts)
    model.get_decoder().register_forward_hook(lambda *_: seen.append(1))
    for size in (1, 3):
        seen.clear()
        batches = [(copiers[k : k + size], lines[k : k + size]) for k in range(0, len(lines), size)]
        for k in range(0, len(lines), size):
            decoding.decode(model, prompts[k : k + size], copiers[k : k + size])
        assert passes.count(batches, "cpu") == len(seen)


def test_the_table_of_passes_has_fewer_the_more_is_known(few_lines):
    for row in passes.table(3, sizes=(1, 8)):
        assert row["told every tag"] < row["ours"] <= row["bound"] < row["one token at a time"]


def test_an_encoder_is_trained_on_the_same_rows_whichever_way_they_are_padded():
    table = training.encoder(8, quiet)
    assert all(row["equal loss"] for row in table) and len(table) == 4


def test_lora_is_tuned_on_the_same_targets_whichever_way_they_are_padded_and_cut(few_lines):
    table = training.lora_steps(6, quiet, decoding.llama(64, 1, 1_500))
    assert all(row["equal loss"] for row in table) and len(table) == 3


def test_the_pipeline_of_transformers_tags_as_ours_does(few_lines):
    table = training.tagging(24, quiet)
    assert [row["identical"] for row in table[:3]] == [24] * 3


def test_our_reader_is_at_least_as_good_as_difflib_on_every_damage_and_exact_without_any():
    table = others.reading(6, quiet)
    f1 = {(row["damage"], row["method"]): row["F1 (%)"] for row in table}
    for damage in others.DAMAGES:
        assert f1[damage, "nbutils.prompting.markup"] >= f1[damage, "difflib"]
    assert f1["none", "nbutils.prompting.markup"] == f1["none", "difflib"] == 100
    assert f1["2 % of the characters lost", "difflib"] < 100


def test_the_same_entities_are_scored_with_three_libraries():
    table = others.scoring(60, quiet)
    assert all(row["equal counts"] for row in table) and len(table) == 3


def test_the_script_for_a_gpu_runs_to_its_end_with_a_toy_model(few_lines, tmp_path, capsys):
    assert gpu.main(["--toy", "--out", str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"bench_gpu.{kind}" for kind in ("json", "md", "png", "svg")]
    written = json.loads((tmp_path / "bench_gpu.json").read_text(encoding="utf-8"))
    assert written["about"]["weights"] == "random" and len(written["LoRA"]) == 2
    assert {row["method"] for row in written["decoding"]} == set(decoding.METHODS)
    assert "Random weights" in (tmp_path / "bench_gpu.md").read_text(encoding="utf-8")
    assert "Random weights" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_script_says_so(tmp_path, capsys):
    assert gpu.main(["--out", str(tmp_path)]) == 1
    assert "no CUDA device" in capsys.readouterr().err


def test_the_shape_for_a_gpu_is_that_of_llama_8b():
    config = gpu.llama_8b()
    with torch.device("meta"):
        n_weights = sum(w.numel() for w in decoding.LlamaForCausalLM(config).parameters())
    assert n_weights == 8_030_261_248  # as its authors publish


def test_the_tests_marked_gpu_are_told_by_their_last_line(tmp_path, monkeypatch):
    (tmp_path / "test_it.py").write_text("def test_one():\n    pass\n", encoding="utf-8")
    assert "1 deselected" in gpu.gpu_tests([str(tmp_path / "test_it.py")])
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name == "peft" else name)
    assert gpu.gpu_tests([]) == "skipped, peft missing"


def test_a_bare_machine_can_start_the_script():
    """Nothing but torch, transformers and pydantic is asked for before something is measured."""
    heavy = ("pandas", "matplotlib", "peft", "psutil", "papermill", "snakemake", "scipy", "sklearn", "fugashi")
    code = f"import sys; sys.modules.update(dict.fromkeys({heavy})); import tools.bench.gpu"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_tables_are_written_whole_with_a_dash_for_what_does_not_apply(tmp_path):
    rows = [{"shared prompt (tokens)": 0, "batch": 1, "method": m, "seconds": 1234.5, "speed-up": s, "identical": None}
            for m, s in ((decoding.CONSTRAINED, 1.0), (decoding.OURS, 9.5))]  # fmt: skip
    write(tmp_path / "bench", "On a CPU.", {"device": "a CPU"}, {"decoding": rows})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bench.json", "bench.md", "bench.png", "bench.svg"]
    assert json.loads((tmp_path / "bench.json").read_text())["decoding"][1]["speed-up"] == 9.5
    assert "| 0 | 1 | copy decoding (ours) | 1,234 | 9.5 | — |" in (tmp_path / "bench.md").read_text()
    assert markdown([{"a": True, "b": 10_000}]).endswith("| True | 10,000 |\n")
