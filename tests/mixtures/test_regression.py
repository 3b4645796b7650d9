"""`fit`: one way in, the kind chosen by cross-validation, kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from curate.mixtures import regression, trees
from curate.mixtures.regression import Convex, Model, fit, model_from_json
from curate.mixtures.runs import read_runs
from curate.mixtures.validation import Report, compare, left_out_predictions
from curate.pipeline.errors import CurateError, UsageError
from support import shared_data

Floats = npt.NDArray[np.float64]
WEIGHTS = np.random.default_rng(0).dirichlet(np.ones(4), 30)
LOSSES = np.column_stack([2 + np.exp(WEIGHTS @ [1, -2, 0.5, 0]), 1 + np.exp(WEIGHTS @ [-1, 2, 0, -3])])
LOSSES += 0.01 * np.random.default_rng(1).normal(size=LOSSES.shape)


@pytest.fixture(scope="module")
def chosen() -> Iterator[Model]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "MOST_TREES", 30)  # they are not what is tested here
        yield fit(WEIGHTS, LOSSES, domains=["web", "books", "code", "maths"], tasks=["loss/a", "loss/b"])


def test_every_kind_is_judged_on_runs_left_out_and_the_reason_is_said(chosen: Model) -> None:
    report = chosen.report
    judged = {"ridge", "log-linear", "gp"} | ({"trees"} if trees.available() else set())
    assert set(report.kinds) == judged
    assert report.chosen == chosen.kind == "log-linear"  # what the losses were made of
    assert "runs left out" in report.why or "standard error" in report.why
    for score in report.kinds.values():
        assert set(score.spearman_by_task) == {"loss/a", "loss/b"}
        assert -1 <= score.spearman.low <= score.spearman.high <= 1
        assert 0 < score.rmse.low <= score.rmse.value
    assert any("log-linear" in line for line in report.lines())


def test_the_score_is_that_of_scipy_on_the_runs_left_out(chosen: Model) -> None:
    left_out = left_out_predictions(WEIGHTS, LOSSES, regression.KINDS["ridge"], 0)
    expected = np.mean([spearmanr(repeat[:, 0], LOSSES[:, 0]).statistic for repeat in left_out])
    assert chosen.report.kinds["ridge"].spearman_by_task["loss/a"].value == pytest.approx(expected)


def test_no_run_is_predicted_by_a_fit_that_saw_it() -> None:
    seen: list[Floats] = []

    class Remembers:
        def __init__(self, weights: Floats) -> None:
            self.weights = weights

        def predict(self, asked: Floats) -> Floats:
            assert not {tuple(row) for row in asked} & {tuple(row) for row in self.weights}
            seen.append(asked)
            return np.zeros((len(asked), 2))

    predicted = left_out_predictions(WEIGHTS, LOSSES, lambda weights, losses, seed: Remembers(weights), 0)  # type: ignore[arg-type, return-value]
    assert np.isfinite(predicted).all() and sum(map(len, seen)) == predicted.shape[0] * len(WEIGHTS)


def test_runs_of_one_mixture_are_left_out_together() -> None:
    class Remembers:
        def __init__(self, weights: Floats) -> None:
            self.weights = weights

        def predict(self, asked: Floats) -> Floats:
            assert not {tuple(row) for row in asked} & {tuple(row) for row in self.weights}
            return np.zeros((len(asked), 2))

    repeated, losses = np.vstack([WEIGHTS, WEIGHTS[[3, 3, 3, 7]]]), np.vstack([LOSSES, LOSSES[:4]])
    left_out_predictions(repeated, losses, lambda weights, losses, seed: Remembers(weights), 0)  # type: ignore[arg-type, return-value]


def test_a_fit_that_ranks_no_better_than_chance_says_so() -> None:
    noise = np.random.default_rng(3).normal(size=30)
    assert any(line.startswith("caution: ridge") for line in fit(WEIGHTS, noise, "ridge").report.lines())
    assert not any(line.startswith("caution") for line in fit(WEIGHTS, LOSSES, "ridge").report.lines())


def _compared(**predicted: Floats) -> Report:
    named = {name.replace("_", "-"): values[None, :, None] for name, values in predicted.items()}
    return compare(TRUTH[:, None], named, ["t"], {}, 0)


TRUTH = np.arange(100.0)
_NOISE = np.random.default_rng(2).normal(size=(2, 100))


def test_a_convex_kind_as_good_as_the_best_is_preferred() -> None:
    report = _compared(gp=TRUTH + 10 * _NOISE[0], log_linear=TRUTH + 10.2 * _NOISE[1], ridge=_NOISE[0])
    assert report.chosen == "log-linear"


def test_a_kind_that_is_clearly_best_is_taken_and_log_linear_advised_across_scales() -> None:
    report = _compared(gp=TRUTH + 3 * _NOISE[0], log_linear=TRUTH + 40 * _NOISE[1])
    assert report.chosen == "gp"
    assert "much larger model, log-linear is advised" in report.why


def test_losses_of_one_task_give_predictions_without_an_axis_of_tasks() -> None:
    model = fit(WEIGHTS, LOSSES[:, 0], "ridge")
    assert model.predict(WEIGHTS).shape == (30,)
    assert model.predict(WEIGHTS[0]).shape == ()
    assert model.gradient(WEIGHTS[0]).shape == (1, 4)
    assert model.tasks == ("task 1",)
    both = fit(WEIGHTS, LOSSES, "ridge")
    assert both.predict(WEIGHTS).shape == (30, 2) and both.predict(WEIGHTS[0]).shape == (2,)
    np.testing.assert_allclose(both.predict(WEIGHTS)[:, 0], model.predict(WEIGHTS))


@pytest.mark.parametrize(("kind", "exponential"), [("ridge", False), ("log-linear", True)])
def test_convex_kinds_are_their_formula(kind: str, exponential: bool) -> None:
    model = fit(WEIGHTS, LOSSES, kind, validate=False)
    form = model.form
    assert isinstance(form, Convex) and form.exponential is exponential and (form.scale >= 0).all()
    np.testing.assert_allclose(form.predict(WEIGHTS), model.predict(WEIGHTS))


def test_only_the_process_says_how_sure_it_is() -> None:
    unsure = fit(WEIGHTS, LOSSES, "gp", validate=False)
    spread = unsure.spread(WEIGHTS)
    assert spread is not None and spread.shape == (30, 2) and (spread > 0).all()
    assert unsure.form is None
    assert fit(WEIGHTS, LOSSES, "ridge", validate=False).spread(WEIGHTS) is None


@pytest.mark.parametrize("kind", ["ridge", "log-linear", "gp", "trees"])
def test_json_keeps_a_model_bit_for_bit(kind: str) -> None:
    if kind == "trees" and not trees.available():
        pytest.skip("needs LightGBM")
    losses = LOSSES.copy()
    losses[3, 1] = np.nan
    model = fit(WEIGHTS, losses, kind, validate=False)
    again = model_from_json(model.to_json())
    assert again.to_json() == model.to_json()
    np.testing.assert_array_equal(again.predict(WEIGHTS), model.predict(WEIGHTS))
    ours, theirs = next(model.resample(1, 5)), next(again.resample(1, 5))
    np.testing.assert_array_equal(ours.predict(WEIGHTS), theirs.predict(WEIGHTS))


def test_json_keeps_the_report(chosen: Model) -> None:
    assert Model.from_json(chosen.to_json()).report == chosen.report


@pytest.mark.parametrize("kind", ["ridge", "log-linear", "gp"])
def test_models_fitted_again_differ_as_much_as_the_noise_of_runs_says(kind: str) -> None:
    model = fit(WEIGHTS, LOSSES, kind, validate=False)
    again = np.array([each.predict(WEIGHTS) for each in model.resample(20, seed=3)])
    assert again.shape == (20, 30, 2)
    assert 0 < again.std(axis=0).mean() < 0.1
    np.testing.assert_array_equal(again[0], next(model.resample(1, seed=3)).predict(WEIGHTS))


def test_a_draw_without_a_run_of_a_task_still_fits_it() -> None:
    weights = np.random.default_rng(4).dirichlet(np.ones(3), 200)
    losses = np.column_stack([weights[:, 0], np.where(np.arange(200) < 10, weights[:, 1], np.nan)])
    losses[2:10, 1] = np.nan
    model = Model(
        ("a", "b", "c"), ("x", "y"), weights, losses, regression.KINDS["ridge"](weights, losses, 0),
        Report("ridge", "", 200),
    )  # fmt: skip
    assert all(np.isfinite(each.predict(weights)).all() for each in model.resample(30))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_json_is_an_error_that_says_so(data: st.DataObject) -> None:
    kept = json.loads(_kept())
    places = (
        [(key,) for key in kept]
        + [("fitted", key) for key in kept["fitted"]]
        + [("report", key) for key in kept["report"]]
    )
    place = data.draw(st.sampled_from(places))
    junk: st.SearchStrategy[Any] = st.sampled_from(
        [None, "x", -1, 1e400, [], {}, [[]], [["x"]], [None], [1e308, "y"], {"a": 1}]
    )
    holder: Any = kept
    for key in place[:-1]:
        holder = holder[key]
    if data.draw(st.booleans()):
        del holder[place[-1]]
    else:
        holder[place[-1]] = data.draw(junk)
    try:
        model_from_json(json.dumps(kept))
    except CurateError as error:
        assert "model" in str(error)


_KEPT: list[str] = []


def _kept() -> str:
    if not _KEPT:
        _KEPT.append(fit(WEIGHTS, LOSSES, "gp").to_json())
    return _KEPT[0]


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", '{"schema_version": 2}', "nul", "[" * 100_000])
def test_what_is_no_model_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="model"):
        model_from_json(text)


@pytest.mark.parametrize(
    ("weights", "losses", "more", "told"),
    [
        (WEIGHTS, LOSSES, {"kind": "gpp"}, "did you mean 'gp'"),
        (WEIGHTS[:8], LOSSES[:8], {}, "measured for 8 different mixtures, 9 at least"),
        (WEIGHTS[:4].repeat(10, 0), np.arange(40.0), {}, "measured for 4 different mixtures, 9 at least"),
        (WEIGHTS, LOSSES[:20], {}, "have shape"),
        (WEIGHTS * 2, LOSSES, {}, "sum to 2"),
        (WEIGHTS - 0.2, LOSSES, {}, "negative"),
        (WEIGHTS * np.nan, LOSSES, {}, "finite"),
        (WEIGHTS, np.where(LOSSES.min() < LOSSES, LOSSES, np.inf), {}, "infinite"),
        (WEIGHTS, LOSSES, {"domains": ["a", "b"]}, "2 names of domains for 4"),
        (WEIGHTS, LOSSES, {"tasks": ["a", "a"]}, "two tasks are called 'a'"),
        (WEIGHTS, LOSSES, {"validate": False}, "chooses by cross-validation"),
        ([["x"]], [1.0], {}, "arrays of numbers"),
    ],
)
def test_runs_that_cannot_be_fitted_are_errors(weights: Any, losses: Any, more: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        fit(weights, losses, **more)


def test_predicting_for_other_domains_is_an_error() -> None:
    model = fit(WEIGHTS, LOSSES, "ridge", validate=False)
    with pytest.raises(UsageError, match=r"\(1, 3\), not \(n, 4\)"):
        model.predict([[0.2, 0.3, 0.5]])


def test_without_lightgbm_trees_are_left_out_of_the_choice_and_asking_for_them_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trees, "available", lambda: False)
    monkeypatch.delitem(regression.KINDS, "log-linear")  # for speed
    model = fit(WEIGHTS, LOSSES[:, 0])
    assert "curate-web[mix]" in model.report.left_out["trees"]
    assert any("trees" in line and "left out" in line for line in model.report.lines())
    with pytest.raises(CurateError, match=r"curate-web\[mix\]"):
        fit(WEIGHTS, LOSSES[:, 0], "trees")


def test_trees_are_left_out_of_a_choice_that_would_take_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "available", lambda: True)
    monkeypatch.setattr(trees, "TOO_LARGE", WEIGHTS.size - 1)
    monkeypatch.delitem(regression.KINDS, "log-linear")  # for speed
    report = fit(WEIGHTS, LOSSES[:, 0]).report
    assert "trees" not in report.kinds and "ask for kind='trees'" in report.left_out["trees"]


def test_the_same_seed_gives_the_same_model() -> None:
    assert fit(WEIGHTS, LOSSES, "gp", seed=4).to_json() == fit(WEIGHTS, LOSSES, "gp", seed=4).to_json()


@pytest.mark.slow
def test_regmixs_runs_are_ranked_at_both_sizes(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(shared_data("mixture-runs.tar.xz")) as tar:
        tar.extractall(tmp_path, filter="data")
    root = next(tmp_path.rglob("train_mixture_1m.csv")).parent
    train = read_runs(root / "train_mixture_1m.csv", root / "train_pile_loss_1m.csv").select("loss/the_pile_pile_cc")
    model = fit(train.weights, train.losses[:, 0])
    assert model.kind == "gp"
    for size, least in {"1m": 0.992, "60m": 0.988}.items():
        test = read_runs(root / f"test_mixture_{size}.csv", root / f"test_pile_loss_{size}.csv")
        measured = test.select("loss/the_pile_pile_cc").losses[:, 0]
        assert spearmanr(model.predict(test.weights), measured).statistic >= least
