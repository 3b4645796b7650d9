from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mix_documents import SMALL, documents, write_shards
from pydantic import ValidationError

from curate.mixtures.config import MixConfig
from curate.mixtures.explain import explain_lines
from curate.mixtures.shares import bucket_shares, split_bucket
from curate.mixtures.stage import STAGE
from curate.mixtures.upsample import fit_curve
from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from support import run_stage

BY = {"by": ["topic", "vigintile"], "upsample": {"by": "vigintile"}, "max_repeats": 7}


def config(**others: Any) -> MixConfig:
    return MixConfig.model_validate(BY | others)


def pool(groups: tuple[str, ...] = ("math", "news"), ranks: int = 20, size: int = 1_000) -> dict[str, int]:
    return {f"{group}/{rank}": size for group in groups for rank in range(ranks)}


def shares(
    config: MixConfig, sizes: dict[str, int], weights: dict[str, float] | None, budget: int
) -> tuple[dict[str, Fraction], dict[str, Any]]:
    found, said = bucket_shares(config, list(sizes), list(sizes.values()), weights, budget)
    assert sum(found) == 1
    return dict(zip(sizes, found, strict=True)), said


def test_without_weights_each_group_keeps_its_share_and_its_best_come_more_often() -> None:
    sizes = pool()
    found, said = shares(config(), sizes, None, 40_000)
    assert said["notes"] == []
    for group in ("math", "news"):
        own = [float(found[f"{group}/{rank}"]) * 40_000 / 1_000 for rank in range(20)]
        assert own == sorted(own) and own[:8] == [0] * 8
        assert own == pytest.approx(fit_curve(1.0).rates(np.arange(21) / 20))
        # OLMo 3's rates at one times the tokens there are
        assert [round(rate, 2) for rate in own[8:]] == pytest.approx(
            [0, 0.04, 0.11, 0.24, 0.44, 0.73, 1.12, 1.65, 2.34, 3.22, 4.35, 5.76], abs=0.011
        )


def test_numbers_are_ordered_as_numbers_bins_as_bins_and_the_unknown_is_the_worst() -> None:
    sizes = {f"news/{name}": 1_000 for name in ("10", "9", "unknown", "-1", "2.5")}
    _, said = shares(config(), sizes, None, 5_000)
    assert said["upsample"]["order"] == ["unknown", "-1", "2.5", "9", "10"]
    binned = config(bins={"vigintile": [-1, 0.5, 10]})
    sizes = {f"news/{name}": 1_000 for name in (">=10", "0.5-10", "<-1", "-1-0.5", "unknown")}
    _, said = shares(binned, sizes, None, 5_000)
    assert said["upsample"]["order"] == ["unknown", "<-1", "-1-0.5", "0.5-10", ">=10"]
    with pytest.raises(UsageError, match=r"mix\.upsample\.by: vigintile has the value 'good', which is no number"):
        shares(config(), {"news/good": 10, "news/3": 10}, None, 5)


def test_weights_are_of_the_groups_and_the_column_may_stand_anywhere() -> None:
    assert split_bucket("a|b/3/en", ["topic", "vigintile", "language"], "vigintile") == ("a|b/en", "3")
    assert split_bucket("3", ["vigintile"], "vigintile") == ("all", "3")
    found, _ = shares(config(), pool(), {"math": 3, "news": 1}, 20_000)
    assert float(sum(share for name, share in found.items() if name.startswith("math"))) == pytest.approx(0.75)
    with pytest.raises(UsageError, match=r"weigh the buckets without that column \(math, news\)"):
        shares(config(), pool(), {"math/3": 1}, 20_000)
    with pytest.raises(UsageError, match="did you mean 'math'"):
        shares(config(), pool(), {"maths": 1}, 20_000)


def test_a_group_that_is_asked_for_too_much_is_capped_and_said_so() -> None:
    found, said = shares(config(max_repeats=2), pool(), {"math": 9, "news": 1}, 50_000)
    assert float(sum(share for name, share in found.items() if name.startswith("math"))) == pytest.approx(0.8)
    assert any("math" in note and "capped" in note for note in said["notes"])
    with pytest.raises(
        UsageError, match=r"too small for a budget of 90,000 tokens.* have 40,000, each at most 2 times"
    ):
        shares(config(max_repeats=2), pool(), None, 90_000)


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9)), st.integers(0, 5_000), min_size=1, max_size=20
    ).filter(lambda sizes: sum(sizes.values()) > 10),
    st.floats(0.01, 1.0),
    st.integers(1, 8),
)
def test_no_bucket_is_ever_asked_for_more_than_the_cap(
    sizes: dict[tuple[str, int], int], part: float, cap: int
) -> None:
    named = {f"{group}/{rank}": size for (group, rank), size in sizes.items()}
    budget = max(1, math.floor(part * min(cap, 7) * sum(sizes.values())))
    found, _ = shares(config(max_repeats=cap), named, None, budget)
    for name, share in found.items():
        assert share * budget <= cap * named[name] * (1 + 1e-9)


def test_the_column_must_be_among_those_that_make_buckets() -> None:
    with pytest.raises(ValidationError, match=r"upsample\.by: 'quality' is not among the columns of `by` \(topic\)"):
        MixConfig.model_validate({"by": ["topic"], "upsample": {"by": "quality"}})


def test_a_mix_of_upsampled_documents_has_the_budget_and_says_what_was_changed(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    by = {
        "by": ["quality", "language"],
        "bins": {"quality": [0.2, 0.4, 0.6, 0.8]},
        "upsample": {"by": "quality", "floor": 0.3},
        "weights": {"en": 3, "de": 1},
        "budget": "60k",
        "max_repeats": 3,
    }
    run_stage(STAGE, MixConfig.model_validate(SMALL | by), write_shards(place, documents(150), 2), place, 7)
    facts = place.read_json("mix/tokens.json")
    assert facts["tokens"] == facts["budget"] == 60_000
    assert facts["upsample"]["order"] == ["unknown", "<0.2", "0.2-0.4", "0.4-0.6", "0.6-0.8", ">=0.8"]
    sums: dict[str, int] = defaultdict(int)
    repeats = defaultdict(list)
    for quality in facts["upsample"]["order"]:
        for language in ("de", "en"):
            bucket = facts["buckets"][f"{quality}/{language}"]
            sums[language] += bucket["tokens"]
            repeats[language].append(bucket["tokens"] / bucket["pool_tokens"])
            assert bucket["most_repeats"] <= 3
            assert bucket["share"] == pytest.approx(bucket["weight"], abs=0.01)
    assert all(np.diff(found).min() > -0.1 and found[-1] > found[0] + 0.5 for found in repeats.values())
    groups = facts["upsample"]["groups"]
    assert {name: total / 60_000 for name, total in sums.items()} == {
        name: pytest.approx(group["share"], abs=0.01) for name, group in groups.items()
    }
    assert groups["en"]["curve"]["a"] <= 0.3
    assert facts["notes"] and all(note in explain_lines(place) for note in facts["notes"])
