"""What other documents have already is cut, by a plain definition; one copy of everything stays."""

from __future__ import annotations

import datetime
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.pipeline.documents import DOCUMENT
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.dedup import stage
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.stage import STAGE
from curate.stages.dedup.substring import Cuts, cut, find_repeats
from support import rows, run_stage

Spans = list[list[tuple[int, int]]]
"""For each text the stretches that go."""


def first_holders(texts: Sequence[bytes], least: int) -> dict[bytes, int]:
    holders: dict[bytes, int] = {}
    for number, text in enumerate(texts):
        for start in range(len(text) - least + 1):
            holders.setdefault(text[start : start + least], number)
    return holders


def plain(texts: Sequence[bytes], least: int, bridge: float) -> Spans:
    """The definition, window by window."""
    first = first_holders(texts, least)
    held_later = {w for n, t in enumerate(texts) for s in range(len(t) - least + 1) if first[w := t[s : s + least]] < n}
    found = []
    for number, text in enumerate(texts):
        goes, relied = set(), set()
        for start in range(len(text) - least + 1):
            window = text[start : start + least]
            if first[window] < number:
                goes |= set(range(start, start + least))
            elif window in held_later:
                relied |= set(range(start, start + least))
        runs = runs_of(goes)
        spans: list[tuple[int, int, int]] = []
        for start, stop in runs:
            if spans:
                low, high, covered = spans[-1]
                together = covered + stop - start
                if together >= bridge * (stop - low) and not relied & set(range(high, start)):
                    spans[-1] = (low, stop, together)
                    continue
            spans.append((start, stop, stop - start))
        found.append([inwards for start, stop, _ in spans if (inwards := whole(text, start, stop))])
    return found


def runs_of(numbers: set[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs


def whole(text: bytes, start: int, stop: int) -> tuple[int, int] | None:
    """Moved inwards to where characters begin."""
    begins = [at for at in range(len(text) + 1) if at == len(text) or text[at] & 0xC0 != 0x80]
    inside = [at for at in begins if start <= at <= stop]
    return (inside[0], inside[-1]) if len(inside) > 1 else None


def spans_of(cuts: Cuts, texts: int) -> Spans:
    """Pieces that touch are one span."""
    spans: Spans = [[] for _ in range(texts)]
    for text, start, stop in zip(cuts.text.tolist(), cuts.start.tolist(), cuts.stop.tolist(), strict=True):
        if spans[text] and spans[text][-1][1] == start:
            spans[text][-1] = (spans[text][-1][0], stop)
        else:
            spans[text].append((start, stop))
    return spans


def pieces_of(cuts: Cuts, text: int) -> list[tuple[int, int, int]]:
    rows = zip(cuts.text.tolist(), cuts.start.tolist(), cuts.stop.tolist(), cuts.keeper.tolist(), strict=True)
    return [piece for number, *piece in rows if number == text]  # type: ignore[misc]


small_texts = st.lists(
    st.one_of(st.text("ab", max_size=30), st.text("aé€", max_size=20), st.sampled_from(["abab" * 5, "a" * 20])),
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(small_texts, st.integers(1, 7), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
@example(["abcde", "abcXcde", "abcXcde"], 3, 0.5)
def test_what_goes_is_what_the_definition_says(texts: list[str], least: int, bridge: float) -> None:
    cuts = find_repeats(pa.array(texts, pa.string()), least_bytes=least, bridge=bridge)
    assert spans_of(cuts, len(texts)) == plain([text.encode() for text in texts], least, bridge)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab", max_size=30), max_size=6), st.integers(1, 7), st.sampled_from([0.3, 0.8]))
def test_each_byte_of_a_piece_is_in_a_window_of_the_text_that_is_said_to_keep_it(
    texts: list[str], least: int, bridge: float
) -> None:
    cuts = find_repeats(pa.array(texts, pa.string()), least_bytes=least, bridge=bridge)
    for row, keeper in enumerate(cuts.keeper.tolist()):
        text, start, stop = texts[cuts.text[row]], int(cuts.start[row]), int(cuts.stop[row])
        if keeper >= 0:
            assert keeper < cuts.text[row] and cuts.relied[keeper]
            windows = [at for at in range(len(text) - least + 1) if text[at : at + least] in texts[keeper]]
            assert set(range(start, stop)) <= {at + byte for at in windows for byte in range(least)}


@settings(max_examples=200, deadline=None)
@given(small_texts, st.integers(1, 7), st.sampled_from([0.3, 0.8]))
def test_every_byte_that_goes_stays_somewhere_but_what_is_bridged(texts: list[str], least: int, bridge: float) -> None:
    """Followed from text to text, through copies, each ends at a byte that stays."""
    cuts = find_repeats(pa.array(texts, pa.string()), least_bytes=least, bridge=bridge)
    data = [text.encode() for text in texts]
    for row, keeper in enumerate(cuts.keeper.tolist()):
        for at in range(int(cuts.start[row]), int(cuts.stop[row])) if keeper >= 0 else ():
            assert stays(data, cuts, least, int(cuts.text[row]), at)


def stays(data: list[bytes], cuts: Cuts, least: int, text: int, at: int) -> bool:
    for start, stop, keeper in pieces_of(cuts, text):
        if start <= at < stop:
            if keeper < 0:
                return False
            first = first_holders(data, least)
            for window in range(max(0, at - least + 1), min(at, len(data[text]) - least) + 1):
                content = data[text][window : window + least]
                holder = first[content]
                if holder < text and stays(data, cuts, least, holder, data[holder].find(content) + at - window):
                    return True
            return False
    return True


def test_repeats_within_one_text_stay() -> None:
    assert len(find_repeats(pa.array(["x" * 50 + "abcdef" * 9]), least_bytes=5)) == 0


def test_nothing_is_repeated_across_the_border_of_two_texts() -> None:
    assert len(find_repeats(pa.array(["abc", "def", "abcdef", "def", "abc"]), least_bytes=4)) == 0


def test_empty_and_missing_texts_are_texts() -> None:
    cuts = find_repeats(pa.array(["", None, "abcd", None, "abcd", ""], pa.string()), least_bytes=4)
    assert (cuts.text.tolist(), cuts.start.tolist(), cuts.stop.tolist(), cuts.keeper.tolist()) == ([4], [0], [4], [2])


def test_a_slice_of_an_array_is_taken_as_it_stands() -> None:
    cuts = find_repeats(pa.array(["abcd", "abcd", "xabcd"]).slice(1), least_bytes=4)
    assert (cuts.text.tolist(), cuts.start.tolist(), cuts.keeper.tolist()) == ([1], [1], [0])


def test_what_is_cut_leaves_the_rest_in_order() -> None:
    cuts = find_repeats(pa.array(["12345678", "a1234b5678c"]), least_bytes=4, bridge=1.0)
    assert cut(b"a1234b5678c", cuts.start, cuts.stop) == b"abc"


Page = dict[str, Any]
OFF = {"enabled": False}
CHOSEN = {"least_bytes": 40, "least_chars": 10, "bridge": 0.8}


def words(seed: int, count: int) -> str:
    chosen = random.Random(seed)
    return " ".join("".join(chosen.choices("abcdefghijklmnopé€", k=6)) for _ in range(count))


def page(id: str, text: str | None, day: int | None, **more: Any) -> Page:
    date = None if day is None else datetime.datetime(2024, 1, day, tzinfo=datetime.UTC)
    made = {"id": id, "url": f"https://a.example/{id}", "text": text, "date": date, "snapshot": "s", "source": "w"}
    return made | {"offset": int.from_bytes(id.encode()) % 2**40} | more


def corpus(seed: int = 0) -> list[Page]:
    """Pages of their own words with, in some, a footer, a long quotation, and nothing but these."""
    footer, quotation = words(900, 20), words(901, 40)
    pages = [page(f"own{n:02d}", words(n, 30), n + 1) for n in range(6)]
    pages += [page(f"footer{n}", f"{words(20 + n, 40)}\n{footer}", 9 - n) for n in range(6)]
    pages += [page(f"quotes{n}", f"{words(40 + n, 30)} {quotation} {words(60 + n, 30)}", None) for n in range(3)]
    pages += [page("zero", footer + "\n" + quotation, None), page("empty", "", 3), page("null", None, 3)]
    random.Random(seed).shuffle(pages)
    return pages


def run(
    folder: Path, shards: Mapping[str, Sequence[Page]], **config: Any
) -> tuple[dict[str, str], list[Page], Counter[str]]:
    """Texts kept by id, ledger and characters edited."""
    place, files = Workspace(folder), []
    for key, pages in shards.items():
        with place.create(f"filter/docs/{key}.parquet") as sink:
            pq.write_table(pa.Table.from_pylist(list(pages), schema=DOCUMENT), sink)
        files.append(Shard(key, File(f"filter/docs/{key}.parquet", sink.sha256, sink.size), len(pages)))
    section = DedupConfig.model_validate({"substring": CHOSEN} | config)
    done = run_stage(STAGE, section, files, place)
    kept = {row["id"]: row["text"] for task in done for row in rows(place, task.outputs["docs"].path)}
    ledger = [row for task in done for row in rows(place, task.outputs["ledger"].path)]
    edits = sum((Counter(task.counts.get("edits", {})) for task in done), Counter())
    return kept, sorted(ledger, key=lambda row: row["id"] or ""), edits


def split(pages: Sequence[Page], count: int) -> dict[str, Sequence[Page]]:
    return {f"s/{n:03d}": pages[n::count] for n in range(count)}


def by_definition(pages: Sequence[Page]) -> dict[str, str]:
    """What is left of every page, the earliest keeping their copies."""
    ranked = sorted(pages, key=lambda p: (p["date"] is None, p["date"] or 0, p["snapshot"], p["id"]))
    data = [(p["text"] or "").encode() for p in ranked]
    left = {}
    for item, text, spans in zip(ranked, data, plain(data, CHOSEN["least_bytes"], CHOSEN["bridge"]), strict=True):
        for start, stop in reversed(spans):
            text = text[:start] + text[stop:]
        left[item["id"]] = text.decode()
    return left


def test_pages_lose_what_an_earlier_page_has_wherever_it_lies(tmp_path: Path) -> None:
    pages = corpus()
    kept, ledger, edits = run(tmp_path, split(pages, 3))
    expected = by_definition(pages)
    assert {id: text or "" for id, text in kept.items()} == {id: t for id, t in expected.items() if id != "zero"}
    (gone,) = ledger
    assert (gone["id"], gone["reason"], gone["kept_id"]) == ("zero", "substring_duplicate", "quotes0")
    assert (gone["value"], gone["threshold"]) == (len(expected["zero"].strip()), CHOSEN["least_chars"])
    lost = {p["id"]: len(p["text"] or "") - len(expected[p["id"]]) for p in pages if p["id"] != "zero"}
    assert edits == {"repeated_substrings": sum(lost.values())}
    assert lost["footer0"] > 100 and lost["footer5"] == lost["quotes0"] == 0


def test_the_answer_does_not_depend_on_shards_order_or_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stories = []
    for number, (count, memory) in enumerate([(1, 1024), (2, 64), (7, 64)]):
        if number == 2:
            monkeypatch.setattr(stage, "BYTES_A_KEY", 8 << 20)  # a group a shard
        kept, ledger, edits = run(tmp_path / str(number), split(corpus(number), count), memory_mb=memory)
        stories.append((kept, [(row["id"], row["reason"], row["kept_id"]) for row in ledger], edits))
    assert stories[0] == stories[1] == stories[2]


def test_pages_that_go_as_copies_keep_nothing(tmp_path: Path) -> None:
    """The page that stays of a cluster is asked, not the earlier one that goes."""
    footer, body = words(900, 20), words(1, 60)
    pages = [
        page("copy", f"{body} {footer}", 1), page("kept", f"{body} {footer} {words(3, 4)}", 2),
        page("other", f"{words(2, 30)} {footer}", 3),
    ]  # fmt: skip
    kept, ledger, _ = run(tmp_path, {"s/a": pages}, keep="longest")
    assert [(row["id"], row["reason"]) for row in ledger] == [("copy", "near_duplicate")]
    assert footer in kept["kept"] and footer not in kept["other"]


def test_a_short_page_that_keeps_a_copy_for_another_stays(tmp_path: Path) -> None:
    footer = words(900, 8)
    pages = [page("only", footer, 1), page("long", f"{words(1, 40)} {footer}", 2)]
    kept, ledger, _ = run(tmp_path, {"s/a": pages}, substring=CHOSEN | {"least_chars": 200})
    assert kept["only"] == footer and footer not in kept["long"] and not ledger


def test_what_was_cut_is_told_with_the_page_that_keeps_it(tmp_path: Path) -> None:
    quotation = words(901, 40)
    run(tmp_path, {"s/a": [page("b", f"é {quotation}", 2)], "s/b": [page("a", quotation, 1)]}, minhash=OFF)
    table = pa.concat_tables(
        [pq.read_table(path) for path in sorted((tmp_path / "dedup/steps/substrings").rglob("*.parquet"))]
    )
    (told,) = table.to_pylist()
    assert (told["id"], told["kept_id"], told["bridged"], told["relied"]) == ("b", "a", False, False)
    assert (told["start"], told["stop"]) == (3, 3 + len(quotation.encode()))


def test_a_partition_is_cut_where_it_is_full_and_pages_keep_their_cuts(tmp_path: Path) -> None:
    """Two texts of half a partition: the third is compared with none of them."""
    filler = words(7, 80_000)
    pages = [page(f"{n}", f"{words(n, 20)}{filler[n]}" + filler[: 520_000 - n], n + 1) for n in range(3)]
    for item in pages:
        item["text"] = item["text"].encode()[:520_000].decode(errors="ignore")
    kept, _, _ = run(tmp_path, {"s/a": pages}, substring=CHOSEN | {"partition_mb": 1}, minhash=OFF)
    assert [len(kept[f"{n}"].encode()) > 500_000 for n in range(3)] == [True, False, True]
