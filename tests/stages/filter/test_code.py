"""AlgebraicStack's rules for source files: what passes in which language, and the recipe over JSONL."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.session import read_recipe
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.extract.stage import STAGE as EXTRACT
from curate.stages.filter.stage import STAGE as FILTER
from curate.stages.text.segment import Segmented
from support import rows, run_stage


@pytest.fixture(scope="module")
def code() -> ModuleType:
    import curate.stages.filter.code as module

    return module


PASSES = [
    ("a/b.py", "import os\nfrom numpy import array\n"),
    ("b.PY", "import jax.numpy as jnp"),
    ("My C# course/what?/b.py", "import jax.numpy as jnp"),
    ("https://a.example/b.py?raw=1#L7", "import jax.numpy as jnp"),
    ("x.c", "#include <fftw3.h>\nint main() {}"),
    ("x.cpp", "#include <Eigen/Dense>"),
    ("x.v", "Theorem t : True. Proof. trivial. Qed."),
    ("x.lean", "theorem a : 1 = 1 := rfl"),
    ("x.thy", 'lemma x: "True"'),
    ("x.jl", "f(x) = x^2"),
    ("x.m", "function y = f(x)\ny = x.^2;\nend"),
    ("x.r", "x <- c(1, 2)"),
    ("x.mpl", "f := x -> x^2:"),
    ("x.agda", "module X where"),
    ("https://example.org/a/x.tex?raw=1", "\\section*{Groups} Müller proved it."),
]
FAILS = [
    ("x.py", "import os\n"),
    ("x.py", '{"cells": ["import numpy"]}'),
    ("x.c", '#include "gsl.h"'),
    ("x.cpp", "#include <vector>"),
    ("x.v", "module m; Definition endmodule"),
    ("x.lean", "def a := 1"),
    ("a/_target/deps/x.lean", "theorem a : 1 = 1 := rfl"),
    ("x.jl", '{"a": 1}'),
    ("x.m", "#import <Foundation.h>"),
    ("x.r", "/* Resource fork */"),
    ("x.r", "Requirement { Identifier 3 }"),
    ("x.mpl", "<?xml version='1.0'?>"),
    ("x.tex", "no sections here"),
    ("x.tex", "\\section{Группы}"),
    ("x.tex", "\\section{A} set terminal gnuplot"),
    ("latex/x.tex", "\\section{A}"),
    ("x.js", "import numpy"),
    ("x", "import numpy"),
    (None, "import numpy"),
    ("x.agda", "  \n"),
]


def measured(code: ModuleType, name: str, files: list[tuple[str | None, str]]) -> list[float]:
    texts = Segmented([text for _, text in files], known={"url": [path for path, _ in files]})
    values: list[float] = getattr(code, name)(texts).tolist()
    return values


def test_files_pass_by_the_rules_of_their_language(code: ModuleType) -> None:
    assert measured(code, "code_gate", list(PASSES)) == [1] * len(PASSES)
    assert measured(code, "code_gate", list(FAILS)) == [0] * len(FAILS)


def test_a_large_julia_file_passes_only_if_it_tests_and_is_not_made_of_numbers(code: ModuleType) -> None:
    tests, numbers = "@test f(x) == y\n" * 10_000, "@test 123456789 == 123456789123456789\n" * 5_000
    files = [("x.jl", tests), ("x.jl", numbers), ("x.jl", "f(x) = x\n" * 20_000)]
    assert measured(code, "code_gate", list(files)) == [1, 0, 0]


@given(st.text(alphabet=" main({\n;x", max_size=30), st.sampled_from(["", " main(", " main({"]))
def test_matlab_that_ends_as_c_is_found_as_by_the_published_pattern(code: ModuleType, text: str, start: str) -> None:
    data = (start + text).encode()
    assert code._ends_as_c(data) == (re.search(rb" main\(.*\{$", data) is not None)


def test_a_line_of_nothing_but_main_is_read_in_linear_time(code: ModuleType) -> None:
    files: list[tuple[str | None, str]] = [("x.m", " main(" * 170_000), ("x.m", " main(" * 170_000 + "{")]
    assert measured(code, "code_gate", files) == [1, 0]


@pytest.mark.parametrize(
    ("path", "limit"), [("x.py", 1_048_575), ("x.mpl", 100_000), ("x.tex", 10_000_000), ("x.cc", 1_048_575)]
)
def test_size_is_measured_in_bytes_against_the_limit_of_the_language(code: ModuleType, path: str, limit: int) -> None:
    (at, above) = measured(
        code, "code_size_to_limit", [(path, "é" * (limit // 2) + "a" * (limit % 2)), (path, "a" * (limit + 2))]
    )
    assert at == 1.0
    assert above > 1.0


def test_digits_are_counted_among_what_is_no_white_space(code: ModuleType) -> None:
    files = [("x.py", "12 ab\n"), ("x.cpp", "1 é23456789"), ("x.py", ""), ("x.md", "123")]
    assert measured(code, "code_digits_to_limit", list(files)) == [1.0, pytest.approx(9 / 10 / 0.1), 0.0, 0.0]


@given(
    st.lists(
        st.tuples(st.sampled_from(["x.py", "x.tex", "x.jl", "x.m", "x.r", None]), st.text(max_size=30)), max_size=5
    )
)
def test_any_text_gives_finite_numbers(code: ModuleType, files: list[tuple[str | None, str]]) -> None:
    for name in ("code_gate", "code_size_to_limit", "code_digits_to_limit"):
        assert all(0 <= value < 1e9 for value in measured(code, name, files))


@pytest.mark.usefixtures("code")
def test_the_recipe_reads_jsonl_and_accounts_for_every_file(tmp_path: Path) -> None:
    files: list[dict[str, Any]] = [
        {"hexsha": str(number), "max_stars_repo_path": path, "content": text}
        for number, (path, text) in enumerate([*PASSES, *FAILS])
    ]
    path = tmp_path / "code.jsonl"
    path.write_text("\n".join([json.dumps(row) for row in files] + ["no json"]))
    recipe = read_recipe("algebraic-stack")
    columns = {name: getattr(recipe.head.input, name) for name in ("text", "html", "id", "url", "date")}
    params = {"format": "jsonl", "columns": columns}
    shard = Shard("default/code", File(str(path), "f", path.stat().st_size, external=True), params=params)
    workspace = Workspace(tmp_path / "w")
    (extracted,) = run_stage(EXTRACT, recipe.section("extract"), [shard], workspace)
    docs = Shard(shard.key, extracted.outputs["docs"], extracted.counts["kept"])
    (filtered,) = run_stage(FILTER, recipe.section("filter"), [docs], workspace)
    assert {row["url"] for row in rows(workspace, filtered.outputs["docs"].path)} == {path for path, _ in PASSES}
    lost = [row for done in (extracted, filtered) for row in rows(workspace, done.outputs["ledger"].path)]
    assert len(lost) == len(FAILS) + 1
    assert {row["reason"] for row in lost} == {"bad_json", "code_gate", "no_text"}
