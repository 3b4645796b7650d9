from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import f, spearmanr
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_score

from curate.mixtures.runs import Runs
from curate.mixtures.tasks import noise_interval, noise_of, replicates_needed, study
from curate.pipeline.errors import UsageError


def runs_of(design: np.ndarray, repeated: Sequence[np.ndarray] = (), seed: int = 0) -> Runs:
    """Runs with these losses: a design, and groups of replicates."""
    random = np.random.default_rng(seed)
    weights = [random.dirichlet(np.ones(3), len(design))]
    weights += [np.repeat(random.dirichlet(np.ones(3), 1), len(group), axis=0) for group in repeated]
    losses = np.concatenate([design, *repeated])
    return Runs(
        domains=("a", "b", "c"),
        weights=np.concatenate(weights),
        tasks=tuple(f"task/{number}" for number in range(design.shape[1])),
        losses=losses,
        names=tuple(f"run-{number}" for number in range(len(losses))),
        kinds=("design",) * len(design) + ("replicate",) * (len(losses) - len(design)),
        seeds=tuple(range(len(losses))),
    )


def families_of(seed: int, sizes: Sequence[int], runs: int = 40, noise: float = 0.2) -> np.ndarray:
    """Losses whose tasks follow one hidden score a family; shape (runs, tasks)."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(runs, len(sizes)))
    return np.repeat(hidden, sizes, axis=1) + noise * random.normal(size=(runs, sum(sizes)))


def ranks_of(losses: np.ndarray) -> np.ndarray:
    """Standardised ranks by task, plainly (no ties)."""
    ranks = losses.argsort(axis=0).argsort(axis=0).astype(float)
    return ((ranks - ranks.mean(axis=0)) / (ranks.std(axis=0) * np.sqrt(len(ranks)))).T


def labels_of(families: dict[str, tuple[str, ...]], tasks: Sequence[str]) -> list[int]:
    place = {task: number for number, members in enumerate(families.values()) for task in members}
    return [place[task] for task in tasks]


def same_partition(one: Sequence[int], other: Sequence[int]) -> bool:
    pairs = set(zip(one, other, strict=True))
    return len(pairs) == len(set(one)) == len(set(other))


# Families


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 12])
def test_families_are_those_of_ward_clustering(count: int) -> None:
    losses = np.random.default_rng(3).normal(size=(25, 12)) + np.random.default_rng(4).normal(size=(25, 1))
    found = study(runs_of(losses), clusters=count)
    oracle = AgglomerativeClustering(n_clusters=count, linkage="ward").fit(ranks_of(losses))
    assert len(found.families) == count
    assert same_partition(labels_of(dict(found.families), found.clustered), oracle.labels_.tolist())


def test_the_tree_has_ward_s_distances() -> None:
    losses = families_of(3, [4, 4, 4], noise=1.0)
    oracle = AgglomerativeClustering(n_clusters=1, linkage="ward", compute_distances=True).fit(ranks_of(losses))
    assert [merge[2] for merge in study(runs_of(losses)).merges] == pytest.approx(oracle.distances_.tolist())


def test_a_cut_is_a_distance_of_ward_s_tree() -> None:
    losses = families_of(1, [3, 4, 2])
    found = study(runs_of(losses), cut=0.9)
    oracle = AgglomerativeClustering(n_clusters=None, distance_threshold=0.9, linkage="ward").fit(ranks_of(losses))
    assert same_partition(labels_of(dict(found.families), found.clustered), oracle.labels_.tolist())
    assert "0.9" in found.rule


def test_the_number_of_families_has_the_largest_silhouette() -> None:
    losses = families_of(2, [3, 4, 2])
    found = study(runs_of(losses))
    assert labels_of(dict(found.families), found.clustered) == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    vectors = ranks_of(losses)
    scores = [
        silhouette_score(vectors, AgglomerativeClustering(n_clusters=number, linkage="ward").fit(vectors).labels_)
        for number in range(2, 9)
    ]
    assert found.silhouette == pytest.approx(max(scores))
    assert int(np.argmax(scores)) + 2 == 3


def test_a_family_bears_the_name_of_the_task_nearest_to_all_its_others() -> None:
    losses = families_of(5, [4, 3])
    losses[:, 1] = np.random.default_rng(6).permutation(losses[:, 1])  # one that goes its own way
    found = study(runs_of(losses), clusters=2)
    vectors = dict(zip(found.clustered, ranks_of(losses), strict=True))
    for name, members in found.families.items():
        sums = {task: sum(np.linalg.norm(vectors[task] - vectors[other]) for other in members) for task in members}
        assert name == min(sums, key=lambda task: sums[task])
        assert name in members


def test_ward_s_distance_is_that_of_the_rank_correlation() -> None:
    losses = families_of(7, [2])
    found = study(runs_of(losses))
    rho = spearmanr(losses[:, 0], losses[:, 1]).statistic
    assert 1 - found.merges[0][2] ** 2 / 2 == pytest.approx(rho)


def test_tasks_that_have_nothing_in_common_are_one_family() -> None:
    found = study(runs_of(np.random.default_rng(8).normal(size=(300, 6))))
    assert len(found.families) == 1
    assert found.rule.startswith("one: ")
    assert found.silhouette is None


def test_a_task_that_does_not_vary_is_said_and_has_no_correlation() -> None:
    losses = families_of(9, [3, 3])
    losses[:, 4] = 2.5
    found = study(runs_of(losses, [losses[:3] * 0 + np.arange(3)[:, None]]))
    assert found.tasks[4].aggregate is None
    assert found.tasks[4].signal is False
    assert any("no mixture changes task/4" in note for note in found.notes)


# Signal and noise


def test_signal_to_noise_is_the_ratio_of_plain_standard_deviations() -> None:
    design = families_of(10, [2, 2], runs=30)
    first, second = np.random.default_rng(11).normal(size=(4, 4)), np.random.default_rng(12).normal(size=(3, 4)) + 5
    found = study(runs_of(design, [first * 0.1, second * 0.1]))
    noise = np.sqrt(((first * 0.1).var(axis=0, ddof=1) * 3 + (second * 0.1).var(axis=0, ddof=1) * 2) / 5)
    for index, task in enumerate(found.tasks):
        assert task.noise == pytest.approx(noise[index])
        assert task.spread == pytest.approx(design[:, index].std(ddof=1))
        assert task.ratio == pytest.approx(design[:, index].std(ddof=1) / noise[index])
        assert task.p == pytest.approx(f.sf(design[:, index].var(ddof=1) / noise[index] ** 2, 29, 5))
        rest = np.delete(design, index, axis=1).mean(axis=1)
        assert task.aggregate == pytest.approx(spearmanr(design[:, index], rest).statistic)
    assert (found.replicates, found.freedom) == (7, 5)


def test_tasks_with_signal_are_told_from_those_without() -> None:
    random = np.random.default_rng(13)
    design = random.normal(size=(40, 1)) * [1, 1, 1, 0, 0, 0] + 0.2 * random.normal(size=(40, 6))
    found = study(runs_of(design, [0.2 * random.normal(size=(10, 6))]))
    assert found.signal == ("task/0", "task/1", "task/2")
    assert [task.signal for task in found.tasks] == [True] * 3 + [False] * 3
    assert not any("replicates" in note for note in found.notes)


def test_a_signal_beyond_chance_but_small_beside_the_noise_does_not_count() -> None:
    random = np.random.default_rng(23)
    found = study(runs_of(1.5 * random.normal(size=(200, 2)), [random.normal(size=(100, 2))]))
    for task in found.tasks:
        assert task.adjusted is not None
        assert task.adjusted < 0.001
        assert task.signal is False


def test_intervals_hold_the_true_ratio_as_often_as_they_say() -> None:
    random = np.random.default_rng(14)
    found = study(runs_of(3 * random.normal(size=(30, 300)), [random.normal(size=(4, 300))]), clusters=1)
    inside = [task.low is not None and task.high is not None and task.low <= 3 <= task.high for task in found.tasks]
    assert 0.92 < np.mean(inside) < 0.98


def test_by_chance_hardly_any_task_carries_signal() -> None:
    random = np.random.default_rng(15)
    found = study(runs_of(random.normal(size=(30, 200)), [random.normal(size=(3, 200))]), clusters=1)
    assert len(found.signal) <= 1


def test_without_replicates_nothing_is_judged_and_they_are_asked_for() -> None:
    found = study(runs_of(families_of(16, [2, 2])))
    assert {task.signal for task in found.tasks} == {None}
    assert found.noise_interval is None
    assert any(f"under {replicates_needed()} seeds" in note for note in found.notes)


def test_few_replicates_are_said_to_be_too_few() -> None:
    found = study(runs_of(families_of(17, [2, 2]), [0.1 * np.random.default_rng(18).normal(size=(3, 4))]))
    assert found.noise_interval == pytest.approx((0.5207, 6.2847), abs=1e-4)
    assert any("rests on 3 replicates and may be up to 6.3 times" in note for note in found.notes)


def test_replicates_needed_bring_the_interval_below_the_factor() -> None:
    for factor in (1.5, 2.0, 3.0):
        needed = replicates_needed(factor)
        assert noise_interval(needed - 1)[1] <= factor < noise_interval(needed - 2)[1]
    with pytest.raises(UsageError):
        replicates_needed(1.0)


def test_replicates_that_agree_to_the_last_digit_are_doubted() -> None:
    found = study(runs_of(families_of(19, [2, 2]), [np.ones((3, 4))]))
    assert any("were they trained with different seeds?" in note for note in found.notes)
    assert found.tasks[0].ratio == np.inf
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["tasks"][0]["ratio"] is None


# Runs that are not whole


def test_runs_that_diverged_and_tasks_measured_seldom_are_left_out_of_the_ranks() -> None:
    losses = families_of(20, [3, 3])
    losses[5] = np.nan
    losses[2:, 5] = np.nan
    found = study(runs_of(losses))
    assert found.clustered == tuple(f"task/{number}" for number in range(5))
    assert found.ranked == 39
    assert found.tasks[5].family is None
    assert found.tasks[5].runs == 2
    assert any("39 of 40 runs" in note for note in found.notes)
    assert "in no family: measured by too few runs" in found.lines()


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(UsageError, match="2 runs of a design"):
        study(runs_of(np.ones((2, 3))))
    with pytest.raises(UsageError, match="no three of 8 runs measured the same tasks"):
        study(runs_of(np.full((8, 2), np.nan)))


@pytest.mark.parametrize("clusters", [0, 5])
def test_more_families_than_tasks_are_refused(clusters: int) -> None:
    with pytest.raises(UsageError, match="give 1 to 4"):
        study(runs_of(families_of(21, [2, 2])), clusters=clusters)


# What is shown


def test_lines_show_every_task_with_its_family() -> None:
    found = study(runs_of(families_of(22, [2, 2], noise=0.05), [0.05 * np.random.default_rng(1).normal(size=(10, 4))]))
    text = "\n".join(found.lines())
    for task in found.tasks:
        assert task.task in text
    for name in found.families:
        assert f"family {name}" in text
    assert "4 of 4 tasks carry signal (*)" in text


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(3, 12), st.integers(1, 7), st.integers(0, 4), st.sampled_from([0.0, 0.2, 0.9])
)
def test_any_runs_give_a_study_or_an_error_that_says_why(
    seed: int, count: int, tasks: int, repeats: int, missing: float
) -> None:
    random = np.random.default_rng(seed)
    design = np.round(random.normal(size=(count, tasks)), 1)
    design[random.random(design.shape) < missing] = np.nan
    runs = runs_of(design, [random.normal(size=(repeats, tasks))] if repeats else [])
    try:
        found = study(runs)
    except UsageError as error:
        assert "measured the same tasks" in str(error)
        return
    json.dumps(found.to_json(), allow_nan=False)
    assert sorted(task for members in found.families.values() for task in members) == sorted(found.clustered)
    assert len(found.tasks) == tasks
    assert found.lines()


def test_the_noise_of_a_run_is_pooled_over_the_mixtures_that_were_trained_more_than_once() -> None:
    weights = np.array([[1.0, 0], [0, 1], [0, 1], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    losses = np.array([[1.0, 1], [2, 5], [4, 5.5], [7, np.nan], [8, np.nan], [9, 3]])
    kinds = ("design", *("replicate",) * 5)
    runs = Runs(("a", "b"), weights, ("loss/x", "loss/y"), losses, tuple("012345"), kinds, (0,) * 6)
    (noise, freedom), (other, fewer) = noise_of(runs)
    assert (noise, freedom) == (pytest.approx(np.sqrt((2 + 2) / 3)), 3)
    assert (other, fewer) == (pytest.approx(np.sqrt(0.125)), 1)
    assert noise_of(runs.where("design")) == [(None, 0), (None, 0)]
