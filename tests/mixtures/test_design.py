from __future__ import annotations

import csv
import io
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from curate.mixtures.design import default_count, design, identify
from curate.pipeline.errors import UsageError
from support import shared_data

PRIOR = np.array([0.4, 0.3, 0.2, 0.07, 0.03])
STRENGTHS = np.logspace(-1, np.log10(5), 15)

PILE = {  # the prior of RegMix's script
    "arxiv": 0.113285273,
    "freelaw": 0.079608651,
    "nih_exporter": 0.003913491,
    "pubmed_central": 0.185375901,
    "wikipedia_en": 0.051081359,
    "dm_mathematics": 0.015962925,
    "github": 0.101750772,
    "philpapers": 0.003707518,
    "stackexchange": 0.066529351,
    "enron_emails": 0.001750772,
    "gutenberg_pg_19": 0.027085479,
    "pile_cc": 0.236869207,
    "ubuntu_irc": 0.01184346,
    "europarl": 0.007929969,
    "hackernews": 0.008032956,
    "pubmed_abstracts": 0.038825953,
    "uspto_backgrounds": 0.046446962,
}


def pure(**changes: object) -> dict[str, object]:
    """Nothing but the distribution: no coverage, no distance between mixtures."""
    return {"cover": 0, "tolerance": 0.0, **changes}


def regmix(prior: np.ndarray, count: int, seed: int) -> np.ndarray:
    """RegMix's script, written plainly, a stream a mixture."""
    bounds = [min(share * 15, 1.0) for share in prior]
    tempered = prior**0.5 / np.sum(prior**0.5)
    mixtures: list[np.ndarray] = []
    while len(mixtures) < count:
        random = np.random.Generator(np.random.Philox(key=np.array([seed, len(mixtures)], np.uint64)))
        while True:
            drawn = random.dirichlet(tempered * np.logspace(-1, np.log10(5), 15)[random.integers(15)])
            if all(weight <= bound for weight, bound in zip(drawn, bounds, strict=True)):
                break
        kept = np.where(drawn < 2e-4, 0.0, drawn)
        mixtures.append(kept / kept.sum())
    return np.array(mixtures)


def test_regmix_is_its_script() -> None:
    prior = np.array(list(PILE.values()))
    prior = prior / prior.sum()
    found = design(prior, 300, sampling="regmix", seed=11, **pure())
    np.testing.assert_allclose(found, regmix(prior, 300, 11), atol=1e-12)


def test_regmix_s_published_runs_have_the_distribution_of_one_of_its_settings() -> None:
    with tarfile.open(shared_data("mixture-runs.tar.xz")) as archive:
        file = archive.extractfile("mixture-runs/train_mixture_1m.csv")
        assert file is not None
        rows = list(csv.DictReader(io.TextIOWrapper(file, "utf-8")))
    published = {name: np.array([float(row[f"train_the_pile_{name}"]) for row in rows]) for name in PILE}
    found = design(list(PILE.values()), 800, sampling="regmix", temperature=0.1, strength=(1, 5), seed=5)
    rounded = np.round(np.round(found / 2e-4) * 2e-4, 3)  # as the table has them
    for index, name in enumerate(PILE):
        assert ks_2samp(published[name], rounded[:, index]).pvalue > 1e-3, name


def moments(centre: np.ndarray, strengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of a Dirichlet whose concentration is one of several, each as likely."""
    between = np.diag(centre) - np.outer(centre, centre)
    return centre, between * np.mean(1 / (1 + strengths))


@pytest.mark.parametrize("sparse", [True, False])
def test_natural_mixtures_have_the_moments_of_the_dirichlet(sparse: bool) -> None:
    count, minimum = 1_500, 0.0 if sparse else 0.01
    low, high = (0.1, 5.0) if sparse else (1.0, 20.0)
    found = design(PRIOR, count, sparse=sparse, minimum=minimum, seed=3, **pure())
    base = np.zeros(5) if sparse else np.minimum(minimum, PRIOR / 2)
    free = 1 - base.sum()
    _, covariance = moments((PRIOR - base) / free, np.geomspace(low, high, 15))
    error = np.sqrt(free**2 * np.diag(covariance) / count)
    assert np.all(np.abs(found.mean(axis=0) - PRIOR) < 4 * error)
    measured = np.cov(found.T)
    np.testing.assert_allclose(measured, free**2 * covariance, atol=4 * np.sqrt(2 / count) * covariance.max())


def test_sparse_mixtures_have_few_domains_and_dense_ones_all() -> None:
    prior = np.full(24, 1 / 24)
    sparse, dense = design(prior, 60), design(prior, 60, sparse=False)
    assert np.count_nonzero(sparse, axis=1).mean() < 8
    assert sparse[sparse > 0].min() >= 2e-3
    assert dense.min() >= 2e-3


def test_the_default_is_three_runs_a_domain_and_one_more() -> None:
    assert default_count(5) == 18
    assert design(PRIOR).shape == (18, 5)


@pytest.mark.parametrize("sampling", ["natural", "regmix"])
@pytest.mark.parametrize("sparse", [True, False])
def test_a_larger_design_begins_with_the_smaller(sampling: str, sparse: bool) -> None:
    small = design(PRIOR, 9, sampling=sampling, sparse=sparse, seed=4)
    large = design(PRIOR, 40, sampling=sampling, sparse=sparse, seed=4)
    assert np.array_equal(large[:9], small)
    assert not np.array_equal(design(PRIOR, 9, sampling=sampling, sparse=sparse, seed=5), small)


def test_no_two_mixtures_are_near_each_other() -> None:
    found = design([0.98, 0.02], 60, seed=1)
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)[np.triu_indices(60, 1)]
    assert distances.min() >= 0.01


def test_more_mixtures_than_there_are_is_an_error_that_says_why() -> None:
    with pytest.raises(UsageError, match=r"no mixture for run \d+ of 12 .*nearer than 0.2 to another"):
        design([0.5, 0.5], 12, tolerance=0.2)


@pytest.mark.parametrize("sampling", ["natural", "regmix"])
def test_a_rare_domain_is_in_some_runs_and_can_be_told_from_the_others(sampling: str) -> None:
    prior = np.append(np.full(9, 0.1111), 1e-4)
    found = design(prior, sampling=sampling, seed=2)
    assert np.count_nonzero(found, axis=0).min() >= 3
    report = identify(found)
    assert report.all
    assert report.condition < 30


def test_a_domain_that_no_run_has_is_refused() -> None:
    with pytest.raises(UsageError, match=r"never have rare.*make it 2 runs at least"):
        design([1 - 1e-9, 1e-9], 5, **pure(), domains=["common", "rare"])


def test_runs_do_not_repeat_a_small_pool_more_than_allowed() -> None:
    available = PRIOR * 2_000_000
    free = design(PRIOR, 40, seed=6)
    held = design(PRIOR, 40, seed=6, available=available, tokens=1_000_000, max_repeats=2)
    assert (free * 1_000_000 / available).max() > 2
    assert (held * 1_000_000 / available).max() <= 2


def test_a_pool_that_does_not_fill_a_run_is_an_error() -> None:
    with pytest.raises(UsageError, match="the pool fills 50% of a run in a run of 1,000 tokens, each at most 5 times"):
        design(PRIOR, available=PRIOR * 100, tokens=1_000)


def test_a_domain_of_too_few_tokens_for_the_smallest_weight_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"'tiny' can be 0.050% of a mixture in a run of 10,000 tokens"):
        design([0.999, 0.001], available=[10**6, 1], tokens=10_000, domains=["big", "tiny"])


def test_mixtures_have_at_least_as_many_domains_as_asked() -> None:
    assert np.count_nonzero(design(PRIOR, 30, least=3), axis=1).min() >= 3


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"prior": [1.0]}, "nothing to be weighed against"),
        ({"prior": [1.0, 0.0]}, "leave it out"),
        ({"sampling": "other"}, "neither"),
        ({"strength": (5.0, 0.1)}, "do not fall"),
        ({"minimum": 0.5}, "does not fit"),
        ({"count": 0}, "0 runs"),
        ({"least": 3}, "at least 3"),
        ({"temperature": -1.0}, "exponent of the prior"),
        ({"available": [1.0], "tokens": 1}, "tokens of 1 domains"),
        ({"domains": ["one"]}, "1 domains"),
    ],
)
def test_what_makes_no_design_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        design(**({"prior": [0.5, 0.5]} | wrong))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.01, 1), min_size=2, max_size=9),
    st.sampled_from(["natural", "regmix"]),
    st.booleans(),
    st.integers(0, 2**70),
)
def test_designs_are_mixtures_that_tell_all_domains_apart(
    prior: list[float], sampling: str, sparse: bool, seed: int
) -> None:
    found = design(prior, sampling=sampling, sparse=sparse, seed=seed)
    assert found.shape == (default_count(len(prior)), len(prior))
    assert np.all(found >= 0)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(found)))
    report = identify(found)
    assert report.all
    assert min(report.sampled) >= 3


# What runs can tell


def test_the_condition_number_is_that_of_the_scaled_weights() -> None:
    weights = design(PRIOR, seed=8)
    scaled = weights / np.linalg.norm(weights, axis=0)
    report = identify(weights, list("abcde"))
    assert report.condition == pytest.approx(np.linalg.cond(scaled))
    variances = np.diag(np.linalg.inv(scaled.T @ scaled))
    assert report.weakest == "abcde"[variances.argmax()]
    assert report.to_json()["all"] is True


def test_domains_that_always_go_together_are_not_told_apart() -> None:
    both = np.random.default_rng(0).dirichlet([1, 1], 12)
    report = identify(np.column_stack([both[:, 0], both[:, 1] / 2, both[:, 1] / 2]))
    assert (report.rank, report.all) == (2, False)
    assert "2 of 3 domains apart" in report.lines()[-1]
    assert report.to_json()["condition"] is None


def test_fewer_runs_than_domains_do_not_tell_them_apart() -> None:
    assert identify(np.eye(4)[:3]).rank == 3
