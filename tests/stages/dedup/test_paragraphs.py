"""Lines, or spans of sentences, that stand elsewhere are cut by a plain definition; one copy of every unit stays."""

from __future__ import annotations

import datetime
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.pipeline.documents import DOCUMENT
from curate.pipeline.errors import UsageError
from curate.pipeline.recipe import load_recipe
from curate.pipeline.session import read_recipe
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.dedup import paragraph_steps, paragraphs
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.edit_config import ParagraphConfig
from curate.stages.dedup.stage import STAGE
from curate.stages.extract.config import ExtractConfig
from curate.stages.filter.config import FilterConfig
from support import rows, run_stage

Page = dict[str, Any]
Lost = list[set[int]]
"""For each text the numbers of the units that go."""
SECTIONS = {"extract": ExtractConfig, "filter": FilterConfig, "dedup": DedupConfig}
LINES = ParagraphConfig(least_words=3, least_chars=10)
SENTENCES = ParagraphConfig(unit="sentence", span=3, least_words=1, least_chars=10)


def units_of(text: str, config: ParagraphConfig) -> list[tuple[int, int]]:
    """Where units begin and end; sentences of texts in which every full stop ends one."""
    pattern = r"\S[^\n]*" if config.unit == "line" else r"[^\s.][^.\n]*\.?"
    return [(m.start(), m.start() + len(m.group().rstrip())) for m in re.finditer(pattern, text)]


def plain_text(unit: str) -> str:
    """FineWeb's normalisation, of letters, digits and ASCII punctuation."""
    found = "".join(c for c in unicodedata.normalize("NFD", unit.lower()) if unicodedata.category(c) != "Mn")
    return " ".join(re.sub(r"[^a-z0]", " ", re.sub(r"\d+", "0", found)).split())


def windows_of(text: str, config: ParagraphConfig) -> dict[int, tuple[str, ...]]:
    """By the number of its first unit every paragraph that is compared."""
    units = units_of(text, config)
    found = {}
    for first in range(len(units) - config.span + 1):
        inside = units[first : first + config.span]
        same = tuple(plain_text(text[start:stop]) for start, stop in inside)
        if any(same) and len(text[inside[0][0] : inside[-1][1]].split()) >= config.least_words:
            found[first] = same
    return found


def plain(texts: Sequence[str], config: ParagraphConfig) -> tuple[Lost, list[bool]]:
    """The definition, paragraph by paragraph, of texts in the order in which they keep copies: the units that go, and whether
    the text keeps units for others."""
    windows = [windows_of(text, config) for text in texts]
    first: dict[Any, tuple[int, int]] = {}
    holders = defaultdict(set)
    for number, found in enumerate(windows):
        for place, same in found.items():
            first.setdefault(same, (number, place))
            holders[same].add(number)
    lost: Lost = []
    relied = []
    for number, found in enumerate(windows):
        goes = set()
        for place, same in found.items():
            if first[same][0] < number or (config.within_pages and first[same] < (number, place)):
                goes |= set(range(place, place + config.span))
        lost.append(goes)
        kept = [place for place, same in found.items() if first[same][0] == number and len(holders[same]) > 1]
        relied.append(any(set(range(place, place + config.span)) - goes for place in kept))
    return lost, relied


def left_of(text: str, goes: set[int], config: ParagraphConfig) -> str:
    """The text without these units. Of the white space around them that with more line feeds stays; none at the ends."""
    units = units_of(text, config)
    borders = [0, *(at for unit in units for at in unit), len(text)]
    gaps = [text[borders[at] : borders[at + 1]] for at in range(0, len(borders), 2)]
    left, previous = "", -1
    for number, (start, stop) in enumerate(units):
        if number not in goes:
            between = gaps[number] if previous == number - 1 else max(gaps[previous + 1], gaps[number], key=lines_in)
            left += ("" if previous == -1 and number else between) + text[start:stop]
            previous = number
    return left + (gaps[-1] if previous == len(units) - 1 else "")


def lines_in(gap: str) -> int:
    return gap.count("\n")


def page(id: str | None, text: str | None, day: int | None = None, **more: Any) -> Page:
    date = None if day is None else datetime.datetime(2024, 1, day, tzinfo=datetime.UTC)
    made = {"id": id, "url": f"https://a.example/{id}", "text": text, "date": date, "snapshot": "s", "source": "w"}
    return made | more


def in_order(pages: Sequence[Page]) -> list[Page]:
    return sorted(pages, key=lambda p: (p["date"] is None, p["date"] or 0, p["snapshot"], p["id"] or "~"))


def by_definition(pages: Sequence[Page], config: ParagraphConfig) -> tuple[dict[str, str], dict[str, str]]:
    """What is left of every page that stays, and of every page that goes."""
    ranked = in_order(pages)
    texts = [item["text"] or "" for item in ranked]
    stays, goes = {}, {}
    for item, text, lost, relied in zip(ranked, texts, *plain(texts, config), strict=True):
        left = left_of(text, lost, config)
        short = bool(lost) and len(left.strip()) < config.least_chars and not relied
        (goes if short else stays)[item["id"]] = left
    return stays, goes


def run(
    folder: Path, shards: Mapping[str, Sequence[Page]], config: ParagraphConfig = LINES, **more: Any
) -> tuple[dict[str, str], list[Page], Counter[str]]:
    """Texts kept by id, ledger and characters edited. Neither exact nor near copies go unless asked for."""
    place, files = Workspace(folder), []
    for key, pages in shards.items():
        with place.create(f"filter/docs/{key}.parquet") as sink:
            pq.write_table(pa.Table.from_pylist(list(pages), schema=DOCUMENT), sink)
        files.append(Shard(key, File(f"filter/docs/{key}.parquet", sink.sha256, sink.size), len(pages)))
    section = DedupConfig.model_validate(
        {"paragraphs": config.model_dump(), "exact": False, "minhash": {"enabled": False}} | more
    )
    done = run_stage(STAGE, section, files, place)
    kept = {row["id"]: row["text"] or "" for task in done for row in rows(place, task.outputs["docs"].path)}
    ledger = [row for task in done for row in rows(place, task.outputs["ledger"].path)]
    edits = sum((Counter(task.counts.get("edits", {})) for task in done), Counter())
    return kept, sorted(ledger, key=lambda row: row["id"] or ""), edits


def split(pages: Sequence[Page], count: int, snapshot: str = "s") -> dict[str, Sequence[Page]]:
    return {f"{snapshot}/{n:03d}": pages[n::count] for n in range(count)}


def many_groups(monkeypatch: pytest.MonkeyPatch, paragraphs_a_task: int) -> None:
    """Groups, parts and passes of a few paragraphs: 64 MiB of memory hold no more."""
    monkeypatch.setattr(paragraph_steps, "BYTES_A_PARAGRAPH", (64 << 20) // paragraphs_a_task)
    monkeypatch.setattr(paragraph_steps, "BYTES_AN_OWNER", (64 << 20) // paragraphs_a_task)


def words(number: int) -> str:
    """A number in letters: numbers themselves are all the same."""
    return " ".join("abcdefghij"[int(digit)] for digit in str(number))


WORDS = ["sun", "moon", "star", "Sky", "CAFÉ", "2024", "7", "*", "tree,", "lake"]


def corpus(seed: int, config: ParagraphConfig, pages: int = 24) -> list[Page]:
    """Pages of few words, so that most of their units stand elsewhere; dates, ids and snapshots that collide."""
    chosen = random.Random(seed)
    units = [" ".join(chosen.choices(WORDS, k=chosen.randint(1, 6))) for _ in range(30)]
    if config.unit == "sentence":  # no part without a letter, no full stop before a small one
        units = [f"A{unit}" for unit in units]
    ends, gaps = ("", ["\n", "\n\n", " \n"]) if config.unit == "line" else (".", [" ", " ", "\n", "\n\n"])
    made = []
    for number in range(pages):
        at = [chosen.randrange(len(units)) for _ in range(chosen.randint(0, 3))]
        taken = [unit + ends for first in at for unit in units[first : first + chosen.randint(1, 6)]]
        text = "".join(unit + chosen.choice(gaps) for unit in taken)
        day = chosen.choice([None, 1, 1, 2, 3])
        made.append(page(f"p{number:02d}", text if chosen.random() < 0.5 else text.strip(), day))
    return [*made, page("null", None, 1), page("blank", " \n\n", 1)]


unit_texts = st.lists(
    st.sampled_from(["aa bb", "bb aa", "aa", "Aa  BB!", "cc 12", "cc 7", "*", "é aa", "dd ee ff"]), max_size=6
)
CONFIGS = [
    LINES.model_copy(update={"least_words": 2}),
    LINES.model_copy(update={"least_words": 1, "within_pages": False}),
    LINES.model_copy(update={"least_words": 2, "span": 2}),
    SENTENCES,
    SENTENCES.model_copy(update={"span": 2, "within_pages": False}),
    SENTENCES.model_copy(update={"span": 2, "least_words": 4}),
]


@settings(max_examples=60, deadline=None)
@given(st.lists(unit_texts, max_size=4), st.sampled_from(CONFIGS), st.randoms(use_true_random=False))
@example([["aa"] * 5], SENTENCES, random.Random(0))
def test_paragraphs_are_those_of_the_definition(
    found: list[list[str]], config: ParagraphConfig, chosen: random.Random
) -> None:
    gaps = ["\n", "\n\n", " \n\n "] if config.unit == "line" else [". ", ".\n", ".\n\n"]
    texts = ["".join(unit + chosen.choice(gaps) for unit in units) for units in found]
    if config.unit == "sentence":
        texts = [text.replace("*", "x").replace("!", "") for text in texts]
    texts = [re.sub(r"\. (.)", lambda found: ". " + found.group(1).upper(), text) for text in texts]
    table = paragraphs.windows(pa.array([None, *texts], pa.string()), list(range(10, 11 + len(texts))), config)
    expected = [windows_of(text, config) for text in texts]
    assert [(row["row"] - 11, row["unit"]) for row in table.to_pylist()] == [
        (number, place) for number, windows in enumerate(expected) for place in windows
    ]
    same = [windows[place] for windows in expected for place in windows]
    hashes = list(zip(table["high"].to_pylist(), table["low"].to_pylist(), strict=True))
    assert len(set(hashes)) == len(set(same)) == len(set(zip(hashes, same, strict=True)))
    for row in table.to_pylist():
        text = texts[row["row"] - 11]
        units = units_of(text, config)
        data = text.encode()[row["start"] : row["stop"]].decode()
        assert data == text[units[row["unit"]][0] : units[row["unit"] + config.span - 1][1]]


@pytest.mark.parametrize("config", [
    LINES, LINES.model_copy(update={"within_pages": False}), SENTENCES.model_copy(update={"least_chars": 60}),
])  # fmt: skip
def test_pages_lose_what_an_earlier_place_has_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: ParagraphConfig
) -> None:
    many_groups(monkeypatch, 50)
    for seed in range(2):
        pages = corpus(seed, config)
        kept, ledger, edits = run(tmp_path / str(seed), split(pages, 3), config, memory_mb=64)
        stays, goes = by_definition(pages, config)
        assert kept == stays
        assert {(row["id"], row["reason"], row["value"]) for row in ledger} == {
            (id, "paragraph_duplicate", len(left.strip())) for id, left in goes.items()
        }
        texts = {item["id"]: item["text"] or "" for item in pages}
        assert edits == {"repeated_paragraphs": sum(len(texts[id]) - len(left) for id, left in stays.items())}
        assert goes and edits.total() > 100
    steps = {folder.name for folder in (tmp_path / "0/dedup/steps").iterdir()}
    assert {name for name in steps if name.startswith("paragraph")} == {
        "paragraphs", "paragraph_hashes", "paragraph_shared", "paragraph_firsts", "paragraph_owners", "paragraph_cuts",
    }  # fmt: skip


@pytest.mark.parametrize("config", [LINES, SENTENCES])
def test_the_answer_does_not_depend_on_shards_order_or_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: ParagraphConfig
) -> None:
    stories = []
    for number, (count, paragraphs_a_task) in enumerate([(1, 0), (2, 50), (5, 12)]):
        pages = corpus(3, config)
        random.Random(number).shuffle(pages)
        with monkeypatch.context() as patch:
            if paragraphs_a_task:
                many_groups(patch, paragraphs_a_task)
            kept, ledger, edits = run(tmp_path / str(number), split(pages, count), config, memory_mb=64)
        stories.append((kept, [(row["id"], row["reason"], row["kept_id"]) for row in ledger], edits))
    assert all(story == stories[0] for story in stories)


def test_pages_of_several_snapshots_are_compared_where_the_scope_is_global(tmp_path: Path) -> None:
    line = "one two three four five"
    shards = {
        "a/0": [page("same", f"{line}\nleft over in a", 2, snapshot="a")],
        "b/0": [page("same", f"{line}\nleft over in b", 1, snapshot="b")],
    }
    for scope, left in (("snapshot", f"{line}\nleft over in a"), ("global", "left over in a")):
        place = tmp_path / scope
        run(place, shards, scope=scope)
        assert [row["text"] for row in rows(Workspace(place), "dedup/docs/a/0.parquet")] == [left]
        assert [row["text"] for row in rows(Workspace(place), "dedup/docs/b/0.parquet")] == [f"{line}\nleft over in b"]


def test_hashes_that_agree_in_their_first_half_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = paragraphs._digest
    monkeypatch.setattr(paragraphs, "_digest", lambda data: bytes([0] * 7 + [whole(data)[0] % 3]) + whole(data)[8:])
    many_groups(monkeypatch, 20)
    pages = corpus(4, LINES)
    kept, ledger, _ = run(tmp_path, split(pages, 4), memory_mb=64)
    stays, goes = by_definition(pages, LINES)
    assert (kept, {row["id"] for row in ledger}) == (stays, set(goes))


def test_pages_without_an_id_keep_one_copy_of_what_they_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "one two three four five"
    pages = [
        page(None, f"{line}\n{own}", url=own) for own in ("nothing but mine", "something of mine", "a third of these")
    ]
    outcomes = []
    for number, order in enumerate([(0, 1, 2), (2, 0, 1), (1, 2, 0)]):
        with monkeypatch.context() as patch:
            many_groups(patch, 1 if number else 100)
            run(tmp_path / str(number), split([pages[place] for place in order], 3), memory_mb=64)
        files = sorted((tmp_path / str(number) / "dedup/docs").rglob("*.parquet"))
        outcomes.append({row["text"] for file in files for row in pq.read_table(file).to_pylist()})
    assert sum(line in text for text in outcomes[0]) == 1 and outcomes[0] == outcomes[1] == outcomes[2]


def test_pages_that_go_as_copies_keep_nothing(tmp_path: Path) -> None:
    """The page that stays of a cluster is asked, not the earlier one that goes."""
    footer = "all rights are reserved here"
    pages = [
        page("copy", f"the same text\n{footer}", 1), page("kept", f"The same text.\n{footer}", 2),
        page("other", f"some other text\n{footer}", 3),
    ]  # fmt: skip
    kept, ledger, _ = run(tmp_path, {"s/a": pages}, exact=True, keep="newest")
    assert [(row["id"], row["reason"]) for row in ledger] == [("copy", "exact_duplicate")]
    assert kept == {"kept": f"The same text.\n{footer}", "other": "some other text"}


def test_a_short_page_that_keeps_a_copy_for_another_stays(tmp_path: Path) -> None:
    line, other = "one two three four five", "six seven eight nine"
    pages = [
        page("a", f"{line} x\n{other}", 1),
        page("b", f"{line}\n{other}", 2),
        page("c", f"{line}\nsomething long", 3),
    ]
    kept, ledger, _ = run(tmp_path, {"s/a": pages}, LINES.model_copy(update={"least_chars": 30}))
    assert kept["b"] == line and [(row["id"], row["kept_id"]) for row in ledger] == [("c", "b")]


def test_a_page_whose_copy_is_taken_apart_by_earlier_pages_is_not_kept_for_it(tmp_path: Path) -> None:
    """Of b's middle three sentences no unit is left: c's stand in a."""
    first, second, third, fourth, fifth = (f"Word {word} comes here." for word in ("ant", "bee", "cat", "dog", "elk"))
    pages = [
        page("a", f"{first} {second} {third} Between stands this. {third} {fourth} {fifth}", 1),
        page("b", f"{first} {second} {third} {fourth} {fifth}", 2),
        page("c", f"{second} {third} {fourth} And something else.", 3),
    ]
    kept, ledger, _ = run(tmp_path, {"s/a": pages}, SENTENCES)
    assert kept == {"a": pages[0]["text"], "c": "And something else."}
    assert [(row["id"], row["reason"], row["kept_id"]) for row in ledger] == [("b", "paragraph_duplicate", "a")]


def test_a_page_of_one_line_again_and_again_goes_without_a_page_that_keeps_it(tmp_path: Path) -> None:
    (row,) = run(
        tmp_path, {"s/a": [page("a", "buy it now\n" * 1000, 1)]}, LINES.model_copy(update={"least_chars": 20})
    )[1]
    assert (row["reason"], row["kept_id"], row["value"], row["threshold"]) == ("paragraph_duplicate", None, 10, 20)
    assert row["detail"] == f"{999 * 11 + 1} bytes stand elsewhere"


def test_what_is_left_is_as_far_apart_as_it_was(tmp_path: Path) -> None:
    shared = "one two three four five"
    pages = [
        page("a", shared, 1), page("middle", f"a\n\n{shared}\n\nb", 2), page("tight", f"a\n{shared}\n\nb", 2),
        page("first", f"{shared}\n\nb\n", 2), page("last", f"a\n\n{shared}\n", 2),
    ]  # fmt: skip
    kept, _, _ = run(tmp_path, {"s/a": pages}, LINES.model_copy(update={"least_chars": 0}))
    assert kept == {"a": shared, "middle": "a\n\nb", "tight": "a\n\nb", "first": "b\n", "last": "a"}


def test_letters_of_scripts_without_spaces_are_words(tmp_path: Path) -> None:
    line = "今天天气很好我们出去玩"
    pages = [page("a", line, 1), page("b", f"{line}\n别的内容", 2)]
    kept, _, _ = run(tmp_path, {"s/a": pages}, LINES.model_copy(update={"least_words": 10, "least_chars": 0}))
    assert kept == {"a": line, "b": "别的内容"}


def test_a_line_that_all_pages_have_again_and_again_is_one_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of 40,000 paragraphs, two of them, each of one shard that alone has more than a task may hold."""
    many_groups(monkeypatch, 15_000)
    pages = [page(f"{n:04d}", "all rights are reserved here\n" * 20 + f"the text of {words(n)}") for n in range(2_000)]
    kept, _, edits = run(tmp_path, split(pages, 2), memory_mb=64)
    assert kept == {item["id"]: item["text"][20 * 29 - 29 * (item["id"] == "0000") :] for item in pages}
    assert edits.total() == 29 * (20 * 2_000 - 1)


def test_paragraphs_and_substrings_in_one_recipe_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\ndedup:\n  paragraphs: {}\n  substring: {}\n")
    with pytest.raises(UsageError, match="paragraphs and substring both take repeats out of the same texts"):
        load_recipe(str(tmp_path / "mine.yaml"), SECTIONS)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("c4", {"unit": "sentence", "span": 3, "least_words": 1, "within_pages": True, "least_chars": 1}),
        ("dolma1", {"unit": "line", "span": 1, "least_words": 1, "within_pages": True, "least_chars": 1}),
        ("dolma3", None),
        ("fineweb", None),
    ],
)
def test_recipes_compare_the_paragraphs_that_their_papers_say(name: str, published: dict[str, Any] | None) -> None:
    section = read_recipe(name).section("dedup")
    assert (section.paragraphs and section.paragraphs.model_dump()) == published
    assert section.url == (name == "dolma1") and section.everywhere == (name != "fineweb")
    assert (section.substring and (section.substring.least_bytes, section.substring.bridge)) == (
        (500, 0.8) if name == "dolma3" else None
    )


def test_dolma_3_is_deduplicated_as_its_report_says() -> None:
    section = read_recipe("dolma3").section("dedup")
    assert (section.minhash.bands, section.minhash.rows, section.minhash.ngram) == (26, 11, 5)
    assert (section.verify, section.verified_from, section.keep) == ("jaccard", 0.8, "newest")
