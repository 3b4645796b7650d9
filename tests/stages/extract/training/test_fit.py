"""Training on forty small pages of ten sites: what it learns, what it weighs, that it is repeatable."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from small_pages import small_page

from curate.pipeline.errors import UsageError
from curate.stages.extract.content import described, extract_page
from curate.stages.extract.content import model as models
from curate.stages.extract.training import data, fit, metric

PAGES = 40


def toy(number: int, **known: object) -> data.Page:
    source, gold = small_page(number)
    given: dict[str, object] = {"name": "toy", "gold": gold, "language": "en", "site": f"site{number % 10}.org"} | known
    name = str(given.pop("name"))
    return data.make(name, f"{number:04}", source, url=None, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def pages() -> list[data.Page]:
    return [toy(number) for number in range(PAGES)]


@pytest.fixture(scope="module")
def learned(pages: list[data.Page]) -> list[fit.Example]:
    return fit.examples(pages, {})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and small trees: forty pages have some five hundred blocks."""
    pytest.importorskip("lightgbm")
    monkeypatch.setattr(fit, "ROUNDS", (12, 8))
    monkeypatch.setattr(
        fit, "PARAMETERS", fit.PARAMETERS | {"min_data_in_leaf": 5, "learning_rate": 0.3, "feature_fraction": 1.0}
    )


# --- examples ---------------------------------------------------------------------------------------------------------


def test_a_page_with_gold_has_a_label_and_a_weight_for_each_block(learned: list[fit.Example]) -> None:
    whole = [each for each in learned if each.labels.any()]
    assert len(whole) == PAGES
    for each in whole:
        assert len(each.labels) == len(each.weights) == len(each.described.blocks)
        assert each.labels.dtype == each.weights.dtype == np.float32
        assert (each.weights > 0).all()
        assert 0 < each.labels.mean() < 1
        assert each.weights.sum() == pytest.approx(200, rel=1e-3)


def test_blocks_weigh_the_root_of_their_words_and_pages_the_same() -> None:
    weights = fit.block_weights(np.array([0.0, 1.0, 4.0, 100.0]))
    assert weights.sum() == pytest.approx(200)
    assert (weights / weights[0]).tolist() == pytest.approx([1, 1, 2, 10])


def test_gold_that_is_not_on_the_page_teaches_nothing() -> None:
    assert fit.examples([toy(1, gold="Somebody's summary in words that stand nowhere on the page. " * 5)], {}) == []


def test_a_page_without_a_block_teaches_nothing() -> None:
    assert fit.examples([data.make("toy", "1", b"<script>x</script>", url=None, gold="x", language="en")], {}) == []


def test_a_page_for_measuring_only_is_refused() -> None:
    with pytest.raises(UsageError, match="measuring only"):
        fit.examples([toy(1, role="measure")], {})


def test_gold_of_different_origin_is_marked_and_gold_not_checked_weighs_less() -> None:
    pages = [toy(number, name=name) for number, name in ((1, "pages-2026"), (2750, "pages-2026"), (3, "pages-reader"))]
    checked, unchecked, reader = [each for each in fit.examples(pages, {}) if each.labels.any()]
    assert [each.manner for each in (checked, unchecked, reader)] == [0, 0, 1]
    assert unchecked.weights.sum() / checked.weights.sum() == pytest.approx(fit.UNCHECKED_WEIGHT, rel=1e-3)


def test_a_page_without_gold_is_labelled_by_the_teachers() -> None:
    page = toy(1, gold=None)
    _, gold = small_page(1)
    (sure,) = fit.examples([page], {(page.key, "trafilatura"): gold, (page.key, "resiliparse"): gold})
    (unsure,) = fit.examples([page], {(page.key, "trafilatura"): gold})
    own, _ = fit.examples([toy(1)], {})
    assert np.array_equal(sure.labels, own.labels)
    assert sure.manner == unsure.manner == fit.TAUGHT
    np.testing.assert_allclose(sure.weights, own.weights * fit.TAUGHT_WEIGHT, rtol=1e-5)
    content = own.labels > 0.5
    assert (unsure.weights[content] < sure.weights[content]).all()


def test_a_page_on_which_both_teachers_find_nothing_has_no_content() -> None:
    (found,) = fit.examples([toy(1, gold=None)], {})
    assert not found.labels.any()


def test_a_page_on_which_one_teacher_alone_finds_nothing_teaches_nothing() -> None:
    page = toy(1, gold=None)
    assert fit.examples([page], {(page.key, "resiliparse"): small_page(1)[1]}) == []


# --- pages without content --------------------------------------------------------------------------------------------


def test_small_pages_are_shown_again_without_their_main_content(learned: list[fit.Example]) -> None:
    emptied = [each for each in learned if not each.labels.any()]
    assert len(emptied) == PAGES
    whole = {each.page.key: each for each in learned if each.labels.any()}
    for each in emptied:
        texts, before = (
            [one.described.blocks.string(block) for block in range(len(one.labels))]
            for one in (each, whole[each.page.key])
        )
        left = [text for text, label in zip(before, whole[each.page.key].labels, strict=True) if label <= 0.1]
        assert texts == left
        assert each.weights.sum() < whole[each.page.key].weights.sum()


def test_what_an_emptied_page_loses_is_its_content_and_what_scripts_hold() -> None:
    source = (
        b"<head><script src=x></script><title>T</title></head><script src=y></script><nav>Menu</nav>"
        b"<article><p>Text, <b>bold</b> and"
        b"<math><mi>x</mi></math> more.</p></article><script>f()</script><script></script><footer>Foot</footer>"
    )
    page, _ = described(source)
    texts = [page.blocks.string(block) for block in range(len(page.blocks))]
    found = fit.emptied(page, np.array([text.startswith("Text") for text in texts], np.float32))
    rest, _ = described(found)
    assert [rest.blocks.string(block) for block in range(len(rest.blocks))] == ["Menu", "Foot"]
    assert b"<article><p><b></b>" in found
    assert b"<script></script><script></script><footer>" in found
    assert fit.emptied(page, np.zeros(len(texts), np.float32)) == source.replace(b"f()", b"")


# --- snippets ---------------------------------------------------------------------------------------------------------


def test_snippets_put_labels_right() -> None:
    blocks = ["Where the  harbour\nlies", "Subscribe to our letter now", "Anything else", "x" * 200 + " to our letter"]
    labels, sure = np.full(4, 0.3, np.float32), np.full(4, 0.35)
    fit.put_right(blocks, ["the harbour lies"], ["to our letter"], labels, sure)
    assert labels.tolist() == pytest.approx([1, 0, 0.3, 0.3])  # in a long block the snippet is only a part
    assert sure.tolist() == [4, 4, 0.35, 0.35]


def test_a_block_with_a_wanted_and_an_unwanted_snippet_is_wanted() -> None:
    labels, sure = np.zeros(1, np.float32), np.ones(1)
    fit.put_right(["wanted and unwanted"], ["wanted and"], ["unwanted"], labels, sure)
    assert labels.tolist() == [1]


def test_without_snippets_nothing_is_put_right() -> None:
    labels, sure = np.full(1, 0.3, np.float32), np.ones(1)
    fit.put_right(["text"], [], [], labels, sure)
    assert (labels.tolist(), sure.tolist()) == (pytest.approx([0.3]), [1])


# --- training ---------------------------------------------------------------------------------------------------------


def test_the_linear_model_tells_content_by_its_words_and_classes(learned: list[fit.Example]) -> None:
    weights = fit.linear(learned)
    assert np.array_equal(models.rounded(weights), weights)
    kept, left = [], []
    for each in learned:
        ends, rows = each.described.linear_rows()
        for block in range(len(each.labels)):
            total = float(weights[rows[ends[block * 7] : ends[block * 7 + 7]]].sum())
            (kept if each.labels[block] > 0.5 else left).append(total)
    assert np.mean(np.array(kept) > np.median(left)) > 0.95


@pytest.mark.usefixtures("quick")
def test_a_model_finds_the_text_of_pages_of_other_sites(pages: list[data.Page], learned: list[fit.Example]) -> None:
    out = {f"site{number}.org" for number in (2, 5, 9)}
    model = fit.fit([each for each in learned if each.page.site not in out])
    scores = [
        metric.f1(page.gold or "", extract_page(page.html, model=model).text) for page in pages if page.site in out
    ]
    assert len(scores) == 12
    assert np.mean(scores) > 0.95


@pytest.mark.usefixtures("quick")
def test_the_same_pages_give_the_same_bytes(learned: list[fit.Example], tmp_path: Path) -> None:
    for name in ("one", "two"):
        models.save(tmp_path / name, fit.fit(learned))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.usefixtures("quick")
def test_the_model_draws_the_line_of_the_first_manner(pages: list[data.Page]) -> None:
    """Half the pages have gold without the heading, in the other manner."""
    mixed = []
    for number, page in enumerate(pages * 2):
        other = number >= len(pages)
        heading, _, rest = (page.gold or "").partition("\n\n")
        assert heading
        mixed.append(
            toy(int(page.id), name="pages-reader" if other else "pages-2026", gold=rest if other else page.gold)
        )
    model = fit.fit(fit.examples(mixed, {}))
    first = [(page.gold or "").partition("\n\n")[0] for page in pages]
    texts = [extract_page(page.html, model=model).text for page in pages]
    assert np.mean([heading in text for heading, text in zip(first, texts, strict=True)]) > 0.9


def test_without_lightgbm_training_says_what_to_install(
    learned: list[fit.Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(UsageError, match=r"training needs LightGBM: pip install 'curate-web\[dev\]'"):
        fit.boost([np.zeros((1, 2), np.float32)], learned[:1], 1)


def test_a_page_with_much_left_is_not_shown_again() -> None:
    source, gold = small_page(9)
    rest = b"<ul>" + b"<li>one more thing to click" * 60 + b"</ul>"
    page = data.make("toy", "9", source.replace(b"</body>", rest + b"</body>"), url=None, gold=gold, language="en")
    assert rest in page.html
    assert len(fit.examples([page], {})) == 1
