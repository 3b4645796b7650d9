"""A scaling law is recovered from its own points; what cannot be fitted is refused with what is needed."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from bucket_mixes import alphabet_mix
from click.testing import CliRunner
from scipy.optimize import minimize_scalar

from curate.pipeline.cli import main
from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.scaling import Law, Point, fit, read_points

HOFFMANN = Law(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
"""As published (Hoffmann et al. 2022, equation 10)."""
BESIROGLU = Law(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
"""The same runs fitted again (Besiroglu et al. 2024, table 1)."""
SIZES, TOKENS = (1e7, 4e7, 2e8), (2e8, 2e9, 2e10)


def points(law: Law, noise: float = 0.0, seed: int = 0) -> list[Point]:
    random = np.random.default_rng(seed)
    return [
        Point(size, data, float(law.loss(size, data)) * float(np.exp(random.normal(0, noise))))
        for size in SIZES
        for data in TOKENS
    ]


@pytest.mark.parametrize("law", [HOFFMANN, BESIROGLU, Law(0.7, 30, 90, 0.2, 0.45)])
def test_a_law_is_recovered_from_its_own_points(law: Law) -> None:
    found = fit(points(law), resamples=2)
    for name in ("E", "A", "B", "alpha", "beta"):
        assert getattr(found.law, name) == pytest.approx(getattr(law, name), rel=1e-3)
    assert max(abs(error) for error in found.left_out if error is not None) < 1e-4
    assert found.predict(7e10, 1.4e12)["loss"] == pytest.approx(float(law.loss(7e10, 1.4e12)), rel=1e-4)


def test_published_fits_give_the_published_allocations() -> None:
    # Hoffmann et al., table 2: approach 3 has N ~ C^.46, D ~ C^.54 (10th and 90th percentiles .454, .455 and .542, .543).
    small, large = (HOFFMANN.optimum(flops) for flops in (1e20, 1e24))
    assert np.log10(large[0] / small[0]) / 4 == pytest.approx(0.4546, abs=0.004)
    assert np.log10(large[1] / small[1]) / 4 == pytest.approx(0.5454, abs=0.004)
    # Besiroglu et al.: at Chinchilla's budget about 20 tokens a parameter, which is how it was trained (70B on 1.4T).
    size, data = BESIROGLU.optimum(5.76e23)
    assert 15 < data / size < 30
    assert 5e10 < size < 9e10


@pytest.mark.parametrize("law", [HOFFMANN, BESIROGLU])
def test_the_optimum_is_the_lowest_loss_of_its_budget(law: Law) -> None:
    flops = 3e21
    found = minimize_scalar(lambda size: float(law.loss(np.exp(size), flops / 6 / np.exp(size))), bounds=(10, 30))
    size, data = law.optimum(flops)
    assert size == pytest.approx(float(np.exp(found.x)), rel=1e-3)
    assert 6 * size * data == pytest.approx(flops)


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    truth = float(HOFFMANN.loss(1e9, 4e10))
    inside = 0
    for seed in range(12):
        found = fit(points(HOFFMANN, 0.004, seed), resamples=60, seed=seed).predict(1e9, 4e10)
        inside += found["low"] <= truth <= found["high"]
        assert found["loss"] == pytest.approx(truth, rel=0.06)
    assert inside >= 7


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (points(HOFFMANN)[:5], "to 5 runs: at least 6 are needed, of 3 sizes and 3 amounts of tokens"),
        ([Point(size, data, 3) for size in SIZES[:2] for data in TOKENS], "3 different sizes .* there are 2"),
        ([Point(size, data, 3) for size in SIZES for data in TOKENS[:2]], "3 different amounts of tokens"),
        ([Point(size, 20 * size, 3) for size in (1e7, 2e7, 3e7, 4e7, 5e7, 6e7)], "add runs of one size"),
        ([*points(HOFFMANN), Point(1e7, 1e9, float("nan"))], "finite and above 0"),
        ([], "to 0 runs: at least 6"),
    ],
)  # fmt: skip
def test_too_few_or_too_similar_runs_are_refused_with_what_is_needed(given: list[Point], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        fit(given)


def test_runs_that_do_not_show_a_law_are_fitted_with_a_warning() -> None:
    random = np.random.default_rng(1)
    given = [Point(size, data, 3 + float(random.normal(0, 0.05))) for size in SIZES for data in TOKENS]
    assert fit(given, resamples=2).warnings


def lines(path: Path, given: list[Point]) -> str:
    path.write_text(
        "".join(json.dumps({"parameters": p.parameters, "tokens": p.tokens, "loss": p.loss}) + "\n" for p in given)
    )
    return str(path)


def test_the_command_fits_predicts_and_draws(tmp_path: Path) -> None:
    file = lines(tmp_path / "runs.jsonl", points(HOFFMANN))
    arguments = ["scaling", file, "-w", str(tmp_path / "w"), "--predict", "1B:20B", "--flops", "1e21", "--json"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    facts = json.loads((tmp_path / "w/scaling/fit.json").read_text())
    assert facts["predictions"][0]["loss"] == pytest.approx(float(HOFFMANN.loss(1e9, 2e10)), rel=1e-4)
    assert facts["optima"][0]["parameters"] == pytest.approx(HOFFMANN.optimum(1e21)[0], rel=1e-2)
    drawn = ElementTree.fromstring((tmp_path / "w/scaling/fit.svg").read_text())
    circles = [item for item in drawn.iter() if item.tag.endswith("circle")]
    assert len(circles) == 10
    again = CliRunner().invoke(main, ["scaling", "-w", str(tmp_path / "w")], catch_exceptions=False)
    assert "over 9 runs" in again.output
    assert "predicted from the others" in again.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "has no scaling/points.jsonl"),
        (["--sizes", "tiny"], "go with --run"),
        (["--run"], "give --sizes tiny,10M,30M and --tokens"),
        (["--predict", "1B"], "give parameters and tokens, as in 1.3B:26B"),
        (["--run", "--sizes", "tinny", "--tokens", "1k"], "unknown size 'tinny'; did you mean 'tiny'"),
        (["--run", "--sizes", "tiny", "--tokens", "1k", "--set", "pretrain.width=64"], "pretrain.width is set"),
    ],
)
def test_a_wrong_command_is_refused_with_what_to_give(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(main, ["scaling", "-w", str(tmp_path), *arguments], catch_exceptions=False)
    assert done.exit_code == 2
    assert says in done.output


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text('{"parameters": 1, "tokens": 2, "loss": 3}\n{"parameters": 1}\n')
    with pytest.raises(UsageError, match=r"runs\.jsonl:2: a point is"):
        read_points(str(file))
    with pytest.raises(UsageError, match="neither a file of points nor a workspace"):
        read_points(str(tmp_path / "nothing"))


@pytest.mark.slow
def test_the_command_trains_the_small_runs_itself_and_fits_them(tmp_path: Path) -> None:
    alphabet_mix(Workspace(tmp_path), count=60)
    arguments = ["scaling", "-w", str(tmp_path), "--run", "--sizes", "tiny,10M,olmo2-30m", "--tokens", "500,1k,1000,2k"]
    for setting in ("sequence_length=32", "batch_size=4", "lr=0.003"):
        arguments += ["--set", f"pretrain.{setting}"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "over 9 runs" in done.output
    assert len(read_points(str(tmp_path / "scaling/points.jsonl"))) == 9
