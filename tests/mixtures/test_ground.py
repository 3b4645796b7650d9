"""Domains out of finer buckets, weights back to them, and what a mixture is solved over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.mixtures.domains import Counted, Size, counted, domain_names, domain_tokens, spread
from curate.mixtures.ground import Ground, of_files, of_workspace, read_amounts
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Workspace


def table(tokens: dict[str, int], *by: str) -> Counted:
    return Counted(by, {name: Size(1, count, 3 * count, 7) for name, count in tokens.items()})


FINE = table({"a/en/0": 10, "a/en/1": 30, "a/de/0": 60, "b/en/0": 100}, "topic", "language", "rank")


def test_domains_are_the_values_of_their_columns_in_the_order_asked() -> None:
    names = list(FINE.buckets)
    assert domain_names(names, FINE.by, ["topic"]) == ["a", "a", "a", "b"]
    assert domain_names(names, FINE.by, ["language", "topic"]) == ["en/a", "en/a", "de/a", "en/b"]
    assert domain_names(names, FINE.by, []) == ["all"] * 4
    assert domain_names(["x/y.html"], ["source"], ["source"]) == ["x/y.html"]
    assert domain_tokens(FINE, ["topic"]) == {"a": 100, "b": 100}
    with pytest.raises(UsageError, match="did you mean 'topic'"):
        domain_names(names, FINE.by, ["topics"])


def test_weights_of_domains_are_spread_within_them_as_in_the_pool() -> None:
    assert spread({"a": 0.8, "b": 0.2}, FINE, ["topic"]) == pytest.approx(
        {"a/en/0": 0.08, "a/en/1": 0.24, "a/de/0": 0.48, "b/en/0": 0.2}
    )


def test_the_column_of_the_quality_curve_is_left_to_it() -> None:
    found = spread({"a": 0.8, "b": 0.2}, FINE, ["topic"], without="rank")
    assert found == pytest.approx({"a/en": 0.32, "a/de": 0.48, "b/en": 0.2})


def test_a_domain_that_the_pool_does_not_have_is_refused_unless_it_weighs_nothing() -> None:
    with pytest.raises(UsageError, match="no tokens of 'c'"):
        spread({"a": 0.5, "c": 0.5}, FINE, ["topic"])
    assert set(spread({"a": 1.0, "c": 0.0}, FINE, ["topic"])) == {"a/en/0", "a/en/1", "a/de/0"}


def test_a_slash_within_a_value_is_found_again_among_several_columns() -> None:
    pool = table({"x|y/0": 10, "x|y/1": 30}, "source", "rank")
    assert spread({"x/y": 1.0}, pool, ["source"]) == pytest.approx({"x|y/0": 0.25, "x|y/1": 0.75})


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from("01")),
        st.integers(1, 10**9),
        min_size=1,
    ),
    st.sampled_from([["k"], ["l"], ["k", "l"], ["l", "k"], []]),
    st.sampled_from([None, "m"]),
)
def test_spreading_keeps_every_domains_weight(
    sizes: dict[tuple[str, str, str], int], by: list[str], without: str | None
) -> None:
    pool = table({"/".join(values): count for values, count in sizes.items()}, "k", "l", "m")
    domains = domain_tokens(pool, by)
    weights = {name: (place + 1) / 10 for place, name in enumerate(sorted(domains))}
    found = spread(weights, pool, by, without)
    kept = [name for name in pool.by if name != without]
    sums: dict[str, float] = {}
    for bucket, domain in zip(found, domain_names(list(found), kept, by), strict=True):
        sums[domain] = sums.get(domain, 0.0) + found[bucket]
    assert sums == pytest.approx(weights)


def a_design(**changed: Any) -> dict[str, Any]:
    rows = [{"domain": "new", "prior": 0.25, "available": 50}, {"domain": "frozen", "prior": 0.75, "available": 80}]
    frozen = {"name": "frozen", "weights": {"a": 0.5, "b": 0.5}}
    return {"domains": rows, "by": ["topic"], "frozen": frozen} | changed


def test_a_frozen_mix_has_as_many_tokens_as_its_scarcest_part_allows_now(tmp_path: Path) -> None:
    place, swarm = Workspace(tmp_path), Workspace(tmp_path / "swarm")
    swarm.write_json("design.json", a_design())
    pool = table({"a/0": 30, "a/1": 30, "b/0": 40, "new/0": 90}, "topic", "rank")
    ground = of_workspace(place, swarm, ("new", "frozen"), pool)
    assert ground is not None
    assert ground.available.tolist() == [90, 80]  # 40 tokens of b are half of 80
    assert ground.prior.tolist() == [0.25, 0.75]
    assert ground.expand({"new": 0.4, "frozen": 0.6}) == pytest.approx({"new": 0.4, "a": 0.3, "b": 0.3})
    before = of_workspace(place, swarm, ("new", "frozen"), None)
    assert before is not None
    assert before.available.tolist() == [50, 80]
    assert "curate mix buckets" in before.notes[0]


def test_a_swarm_of_other_domains_or_a_damaged_design_is_said(tmp_path: Path) -> None:
    place, swarm = Workspace(tmp_path), Workspace(tmp_path / "swarm")
    assert of_workspace(place, swarm, ("a",), None) is None
    swarm.write_json("design.json", a_design())
    with pytest.raises(UsageError, match="did you mean 'new'"):
        of_workspace(place, swarm, ("news",), None)
    swarm.write_json("design.json", {"domains": 3})
    with pytest.raises(CurateError, match="is no design of a swarm"):
        of_workspace(place, swarm, ("a",), None)


def test_natural_shares_follow_from_the_tokens_of_a_file_or_of_the_buckets(tmp_path: Path) -> None:
    mean = np.array([0.9, 0.1])
    (tmp_path / "tokens.csv").write_text("domain,tokens\na,1M\nb,3M\nother,9\n")
    ground = of_files(("a", "b"), mean, str(tmp_path / "tokens.csv"), None, None)
    assert ground.available.tolist() == [1e6, 3e6]
    assert ground.prior.tolist() == [0.25, 0.75]
    counted_ground = of_files(("a", "b"), mean, None, None, table({"a": 30, "b": 10}, "topic"))
    assert counted_ground.prior.tolist() == [0.75, 0.25]
    (tmp_path / "prior.json").write_text('{"a": 1, "b": 1}')
    assert of_files(("a", "b"), mean, None, str(tmp_path / "prior.json"), None).prior.tolist() == [0.5, 0.5]
    nothing: Ground = of_files(("a", "b"), mean, None, None, None)
    assert nothing.prior.tolist() == [0.9, 0.1]
    assert len(nothing.notes) == 2


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "a,1\na,2\n", "t.csv:2: 'a' is given twice"),
        ("t.csv", "a,many\nb,many\n", "t.csv:2: 'many' is not a number"),
        ("t.csv", "a;1\n", "a line is domain,number"),
        ("t.csv", "a,-1\nb,-1\n", "'-1' is not a number of at least 0"),
        ("t.csv", "b,1\n", "has no domain 'a'"),
        ("t.json", "[1]", "must be a mapping"),
        ("t.json", "{", "not valid JSON"),
        ("t.json", '{"a": true}', "True is not a number"),
    ],
)
def test_a_file_of_tokens_that_cannot_be_read_names_its_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=said):
        of_files(("a",), np.ones(1), str(tmp_path / name), None, None)


def test_amounts_may_be_written_with_units(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,1.5B\n"b, c",2e3\nd,.5\n')
    assert read_amounts(str(tmp_path / "t.csv"), "--available") == {"a": 1.5e9, "b, c": 2000.0, "d": 0.5}


def test_a_file_of_buckets_that_is_none_is_said(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    assert counted(place) is None
    place.write_json("mix/buckets.json", {"by": ["a"], "buckets": {"x": {}}})
    with pytest.raises(CurateError, match="run `curate mix buckets` again"):
        counted(place)
