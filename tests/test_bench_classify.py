"""bench/classify.py: what it compares with is what it says, and a bar that was missed is shown as missed."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

BENCH = Path(__file__).parents[1] / "bench"
PROSE = ["the cat sat on the mat the cat ran", "a dog sat on the mat"]


@pytest.fixture
def perplexity(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    import perplexity

    return perplexity


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("rich")
    monkeypatch.syspath_prepend(str(BENCH))
    import classify

    return classify


def witten_bell(prose: list[str], text: str, unseen: int) -> float:
    """The perplexity from the definition: p(w | h) = (c(hw) + t(h) p(w | shorter h)) / (c(h) + t(h)), t: kinds after h."""
    lines = [line.split() for line in prose]
    grams = {
        size: Counter(tuple(line[at : at + size]) for line in lines for at in range(len(line) - size + 1))
        for size in (1, 2, 3)
    }
    words, total, kinds = text.split(), sum(grams[1].values()), len(grams[1])
    logs = []
    for at, word in enumerate(words):
        share = (grams[1][(word,)] + kinds / unseen) / (total + kinds)
        for size in (2, 3):
            context = tuple(words[at - size + 1 : at])
            after = [count for gram, count in grams[size].items() if gram[:-1] == context]
            if at >= size - 1 and after:
                share = (grams[size][(*context, word)] + len(after) * share) / (sum(after) + len(after))
        logs.append(math.log(share))
    return math.exp(-sum(logs) / len(logs))


@pytest.mark.parametrize(
    "text", ["the cat sat on a dog zebra the mat ran", "ran", "mat the", "zebra zebra zebra", *PROSE]
)
def test_the_perplexity_is_that_of_the_definition(perplexity: Any, text: str) -> None:
    (found,) = perplexity.perplexities(pa.array(PROSE), pa.array([text]))
    assert found == pytest.approx(witten_bell(PROSE, text, perplexity.UNSEEN))


def test_a_text_without_words_is_as_unlikely_as_can_be(perplexity: Any) -> None:
    found = perplexity.perplexities(pa.array(PROSE), pa.array(["", "...", "the cat sat"]))
    assert np.isfinite(found).all()
    assert found[2] < found[0] == found[1]


def test_a_missed_bar_is_told_and_a_part_that_was_left_out_is_not_judged(bench: Any) -> None:
    result = {
        "models": {"topic": {"accuracy": 0.73, "accuracy_sure_labels": 0.81}, "math": {"roc_area": 0.97}},
        "teacher": None,
    }
    rows = {row["what"]: row["reached"] for row in bench.reached(result)}
    assert rows == {"topic, sites kept out": True, "topic, sure labels": False, "math, ROC area": True}
