"""The notebooks as a reader meets them: a story with short cells, one parameters cell, nothing hidden."""

import ast
import re
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import nbformat
import pytest

from nbutils import ROOT, execute
from nbutils.corpus import Corpus
from nbutils.taggers.settings import CrfSettings

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 5


def test_a_notebook_opens_with_its_question(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ") and "**Question.**" in first.source


def test_a_notebook_answers_its_question_in_a_computed_sentence(notebook):
    assert any(
        re.search(r"Markdown\(.*(answer|verdict|of_one_run|sentences)", cell.source) for cell in code_cells(notebook)
    )


def test_no_saved_table_is_empty(notebook):
    saved = [
        output.get("data", {}).get("text/html", "") for cell in notebook.cells for output in cell.get("outputs", [])
    ]
    assert not [table for table in saved if re.search(r"<tbody>\s*</tbody>", table)]


def test_exactly_one_cell_holds_the_parameters_and_each_has_a_comment(notebook):
    (parameters,) = [c for c in code_cells(notebook) if "parameters" in c.metadata.get("tags", [])]
    assert all("#" in line for line in parameters.source.splitlines())


def test_no_cell_is_longer_than_ten_lines_or_empty(notebook):
    assert all(1 <= len(cell.source.splitlines()) <= 10 for cell in code_cells(notebook))


def test_no_cell_hides_its_value_with_a_semicolon(notebook):
    # nbval's kernel shows it all the same, and the comparison fails
    assert not any(cell.source.rstrip().endswith(";") for cell in code_cells(notebook))


def test_no_cell_defines_helper_code(notebook):
    assert not any(line.startswith(("def ", "class ")) for c in code_cells(notebook) for line in c.source.splitlines())


def test_a_notebook_ends_by_saying_what_it_does_not_show(notebook):
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert "does not" in prose[-1] and "Exercise" in prose[-1]


def exercises(notebook):
    """The prose of the last prose cell from its first exercise on, one string an exercise."""
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return prose[-1].split("**Exercise")[1:]


def solution_code(notebook):
    return [code for one in exercises(notebook) for code in re.findall(r"```python\n(.*?)```", one, re.DOTALL)]


def test_a_notebook_has_two_or_three_exercises_each_with_a_folded_solution(notebook):
    assert 2 <= len(exercises(notebook)) <= 3
    for one in exercises(notebook):
        question, opened, rest = one.partition("<details><summary>Solution</summary>\n\n")
        solution, closed, _ = rest.partition("\n\n</details>")
        assert opened and closed and len(question.strip()) > 20 and len(solution) > 100


def test_the_code_of_a_solution_is_python_and_fits_in_a_cell(notebook):
    for code in solution_code(notebook):
        compile(code, "solution", "exec")
        assert len(code.splitlines()) <= 15


def test_what_a_solution_imports_exists(notebook):
    for code in solution_code(notebook):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                exec(ast.unparse(node), {})


def names_in(code: str, how: type) -> set[str]:
    """The names that a piece of code reads (`ast.Load`) or assigns and imports (`ast.Store`)."""
    tree = ast.parse(code)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, how)}
    if how is ast.Store:
        imports = [
            alias for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
        ]
        names |= {(alias.asname or alias.name).split(".")[0] for alias in imports}
    return names


def needed_for(codes: list[str], cells: list[str]) -> list[str]:
    """The cells, in order, that make what a piece of code uses; training is in them only where it is used."""
    wanted, chosen = set().union(*(names_in(code, ast.Load) for code in codes)), []
    for cell in reversed(cells):
        if wanted & names_in(cell, ast.Store):
            wanted |= names_in(cell, ast.Load)
            chosen.append(cell)
    return chosen[::-1]


def test_solutions_run_after_the_cells_that_they_use_and_give_the_number_that_they_print(notebook, tmp_path):
    """Every solution of every notebook, on its parameters; a CRF trains for a few steps only."""
    cells = [cell.source for cell in code_cells(notebook)]
    names = {"display": lambda *_: None}
    for cell in needed_for(solution_code(notebook), cells):
        exec(cell, names)
        if "execute" in names:
            names["execute"] = partial(execute, runs=tmp_path, progress=False)
        if isinstance(names.get("chosen"), CrfSettings):
            names["chosen"] = replace(names["chosen"], iterations=3)
            parts = names.get("parts", {})
            names["parts"] = {name: Corpus(name, part.documents[:15]) for name, part in parts.items()}
    for one in exercises(notebook):
        for code in re.findall(r"```python\n(.*?)```", one, re.DOTALL):
            *first, last = ast.parse(code).body
            exec(compile(ast.Module(first, []), "solution", "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "solution", "eval"), names)
                printed = re.findall(r"\d+\.\d+", one.rpartition("```")[2])
                if isinstance(value, float) and printed:
                    assert any(f"{value:.{len(number.partition('.')[2])}f}" == number for number in printed), value
            else:
                exec(compile(ast.Module([last], []), "solution", "exec"), names)
    plt.close("all")


def test_the_last_cell_prints_versions_and_is_not_compared(notebook):
    last = notebook.cells[-1]
    assert "provenance" in last.source and "nbval-ignore-output" in last.metadata["tags"]


def test_no_notebook_names_a_path_of_a_machine(notebook):
    text = nbformat.writes(notebook)
    assert not any(place in text for place in ("/home/", "/root/", "/Users/", "/tmp/", "C:\\\\"))
