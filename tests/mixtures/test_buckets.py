from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from curate.mixtures.buckets import UNKNOWN, bin_names, bucket_names, check_columns
from curate.pipeline.errors import UsageError


def names(columns: dict[str, pa.Array], by: list[str], **bins: list[float]) -> list[str]:
    batch = pa.RecordBatch.from_pydict(columns)
    check_columns(batch.schema, by, bins)
    found: list[str] = bucket_names(batch, by, bins).to_pylist()
    return found


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_a_number_on_an_edge_belongs_to_the_bin_above(kind: pa.DataType) -> None:
    values = pa.array([-1.0, 0.0, 0.25, 0.49, 0.5, 7.0, None, float("nan"), float("inf")], kind)
    expected = ["<0.25", "<0.25", "0.25-0.5", "0.25-0.5", ">=0.5", ">=0.5", UNKNOWN, UNKNOWN, ">=0.5"]
    assert names({"quality": values}, ["quality"], quality=[0.25, 0.5]) == expected
    assert set(expected) == {*bin_names([0.25, 0.5]), UNKNOWN}


def test_null_and_blank_values_are_unknown_and_names_are_trimmed() -> None:
    assert names({"topic": pa.array(["science", None, "", "  ", " sport "])}, ["topic"]) == [
        "science",
        UNKNOWN,
        UNKNOWN,
        UNKNOWN,
        "sport",
    ]
    assert names({"topic": pa.nulls(2)}, ["topic"]) == [UNKNOWN, UNKNOWN]


def test_a_slash_in_a_value_cannot_be_taken_for_the_next_column() -> None:
    columns = {"a": pa.array(["x/y", "x"]), "b": pa.array(["z", "y/z"])}
    assert names(columns, ["a", "b"]) == ["x|y/z", "x/y|z"]
    assert names(columns, ["a"]) == ["x/y", "x"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1, None], pa.int32()), ["1", UNKNOWN]),
        (pa.array([True, None]), ["true", UNKNOWN]),
        (pa.array(["en", "de"]).dictionary_encode(), ["en", "de"]),
        (pa.array(["en", None], pa.large_string()), ["en", UNKNOWN]),
    ],
)
def test_whole_numbers_flags_and_dictionaries_are_buckets_as_they_are(values: pa.Array, expected: list[str]) -> None:
    assert names({"value": values}, ["value"]) == expected
    assert names({"value": values, "other": pa.array(["a", "b"])}, ["other", "value"]) == [
        f"a/{expected[0]}",
        f"b/{expected[1]}",
    ]


def test_a_field_of_a_struct_is_named_with_a_dot() -> None:
    signals: list[dict[str, Any] | None] = [{"words": 10}, {"words": 500}, None, {"words": None}]
    columns = {"signals": pa.array(signals)}
    assert names(columns, ["signals.words"], **{"signals.words": [100.0]}) == ["<100", ">=100", UNKNOWN, UNKNOWN]
    with pytest.raises(UsageError, match=r"did you mean 'signals\.words'"):
        names(columns, ["signals.word"])
    with pytest.raises(UsageError, match="makes no buckets"):
        names(columns, ["signals"])


def test_no_column_makes_one_bucket() -> None:
    assert names({"topic": pa.array(["a", "b"])}, []) == ["all", "all"]
