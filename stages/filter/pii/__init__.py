"""Personal addresses: e-mail, public IP addresses, telephone numbers and IBANs, found and masked.

A mask is chosen by the address's own hash, so that the same input gives the same bytes and one address the same mask
throughout. Finding takes time linear in the text, whatever it holds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.stages.filter.pii import addresses, emails, ibans, phones

if TYPE_CHECKING:
    from curate.stages.filter.config import PiiConfig
    from curate.stages.text.segment import Segmented

KINDS = ("email", "ip", "phone", "iban")
EMAIL, IP, PHONE, IBAN = range(4)

EMAIL_MASKS, IP_MASKS, IPV6_MASKS, PHONE_MASKS = emails.MASKS, addresses.MASKS, addresses.IPV6_MASKS, phones.MASKS
IBAN_MASKS = ("DE00 0000 0000 0000 0000 00",)
"""Its check digits are wrong."""

SPANS = pa.list_(pa.struct([("kind", pa.string()), ("start", pa.int32()), ("stop", pa.int32())]))
"""What was found in a document, as a column."""

ROUNDS = 4
"""Times that a masked text is looked at again."""

MOST_PLACES = 20_000
"""Places of one text that are looked at (of 490 pages of 2026 none has more than 52). Behind them nothing is found, so that
a flood of made-up numbers takes two seconds at most; a rule on `pii_spans` drops such texts."""
MOST_BYTES = 200_000
"""Bytes that these places may have in all, since a place is a run of numbers of any length."""

_RANK = {EMAIL: 0, IBAN: 1, IP: 2, PHONE: 3}
"""Of two finds that overlap, the first in this order stays."""

Span = tuple[int, int, int]
"""Kind (its position in KINDS), start, stop."""


@dataclass(frozen=True, eq=False)
class Found:
    """Finds of a batch: one value a find, by document and then by position; no two of a document overlap.

    `row` is the document, `kind` the position in KINDS, `start` and `stop` count characters of its text.
    """

    row: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def count(self, documents: int, kind: str | None = None) -> npt.NDArray[np.int32]:
        """Finds of each document, of one kind or of all."""
        rows = self.row if kind is None else self.row[self.kind == KINDS.index(kind)]
        return np.bincount(rows, minlength=documents).astype(np.int32)

    def spans(self, documents: int) -> pa.ListArray:
        """A list a document, of the type SPANS."""
        offsets = np.zeros(documents + 1, np.int32)
        np.cumsum(self.count(documents), out=offsets[1:])
        kinds = pa.DictionaryArray.from_arrays(pa.array(self.kind, pa.int32()), pa.array(KINDS)).cast(pa.string())
        ends = [pa.array(values, pa.int32()) for values in (self.start, self.stop)]
        values = pa.StructArray.from_arrays([kinds, *ends], fields=list(SPANS.value_type))
        return pa.ListArray.from_arrays(pa.array(offsets), values, type=SPANS)

    @classmethod
    def of(cls, spans: pa.ListArray | pa.ChunkedArray) -> Found:
        """From a column of the type SPANS; null is no find."""
        spans = spans.combine_chunks() if isinstance(spans, pa.ChunkedArray) else spans
        values = pc.list_flatten(spans)
        kinds = pc.index_in(values.field("kind"), pa.array(KINDS))
        columns = (pc.list_parent_indices(spans), kinds, values.field("start"), values.field("stop"))
        return cls(*(np.asarray(column, np.int64) for column in columns))


def find(texts: Segmented) -> Found:
    """All addresses of a batch; ask by `texts.once(find)`, which keeps the answer.

    In a text only the first MOST_PLACES places that may be an address are looked at, and MOST_BYTES of them.
    Of bytes that are no UTF-8 each invalid sequence counts as one character, as in `texts[row]`.
    """
    from curate.stages.filter.pii.kernels import CLASSES, TRIGGERS, candidates

    rows, kinds, starts, stops = candidates(texts.bytes, texts.documents, TRIGGERS, CLASSES)
    found: list[tuple[int, int, int, int]] = []
    edges = [0, *(np.flatnonzero(np.diff(rows)) + 1).tolist(), len(rows)] if len(rows) else []
    for low, high in itertools.pairwise(edges):
        row = int(rows[low])
        begin, end = int(texts.documents[row]), int(texts.documents[row + 1])
        begins, ends = _first_places(starts[low:high], stops[low:high])
        places = zip(kinds[low : low + len(ends)].tolist(), begins.tolist(), ends.tolist(), strict=True)
        spans = _apart(list(_search(texts.bytes, begin, end, places)))
        found += [(row, *span) for span in _in_characters(texts.bytes, begin, spans)]
    table = np.array(found, np.int64).reshape(-1, 4)
    return Found(table[:, 0], table[:, 1], table[:, 2], table[:, 3])


def _first_places(
    starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The places of one text that are looked at; the last may be cut short."""
    stops = stops[:MOST_PLACES].copy()
    reach = np.cumsum(stops - starts[:MOST_PLACES])
    full = int(np.searchsorted(reach, MOST_BYTES, "right"))
    if full < len(stops):
        stops = stops[: full + 1]
        stops[full] -= reach[full] - MOST_BYTES
    return starts[: len(stops)], stops


def mask(texts: pa.Array, found: Found, config: PiiConfig) -> pa.Array:
    """The texts with every find replaced, of those kinds for which the recipe has masks; other texts stay as they are.

    In a text that was masked nothing of these kinds is found again: where masks of one's own bare what was part of a
    longer word before, that is masked too.
    """
    from curate.stages.text.segment import Segmented

    masks = (config.emails, config.ips, config.phones, config.ibans)
    asked = [kind for kind, chosen in enumerate(masks) if chosen]
    rows = np.unique(found.row[np.isin(found.kind, asked)])
    if not len(rows):
        return texts
    changed = _replaced(texts, found, masks)
    for _ in range(ROUNDS):
        again = find(Segmented(changed.take(pa.array(rows))))
        if not np.isin(again.kind, asked).any():
            break
        changed = _replaced(changed, replace(again, row=rows[again.row]), masks)
    return changed


def _replaced(texts: pa.Array, found: Found, masks: Sequence[bool | Sequence[str]]) -> pa.Array:
    wanted = np.isin(found.kind, [kind for kind, chosen in enumerate(masks) if chosen])
    columns = (found.row, found.kind, found.start, found.stop)
    changed: dict[int, tuple[list[str], int]] = {}
    whole: dict[int, str] = {}
    for row, kind, start, stop in zip(*(column[wanted].tolist() for column in columns), strict=True):
        if row not in whole:
            whole[row] = texts[row].as_py()
        parts, behind = changed.get(row, ([], 0))
        parts += [whole[row][behind:start], choose(kind, whole[row][start:stop], masks[kind])]
        changed[row] = (parts, stop)
    touched = np.zeros(len(texts), np.bool_)
    touched[list(changed)] = True
    values = ["".join([*parts, whole[row][behind:]]) for row, (parts, behind) in changed.items()]
    return pc.replace_with_mask(texts, pa.array(touched), pa.array(values, texts.type))


def choose(kind: int, address: str, masks: bool | Sequence[str]) -> str:
    """The mask of an address: one of those given, or (True) of the usual ones."""
    if isinstance(masks, bool):
        usual = (EMAIL_MASKS, IPV6_MASKS if ":" in address else IP_MASKS, PHONE_MASKS, IBAN_MASKS)
        masks = usual[kind]
    return masks[crc32(address.lower().encode()) % len(masks)]


def _search(
    data: npt.NDArray[np.uint8], begin: int, end: int, places: Iterator[tuple[int, int, int]]
) -> Iterator[Span]:
    """Finds at the places that the scan of the bytes gave, in bytes."""
    last = begin  # where the telephone number before ended
    for kind, start, stop in places:
        before, behind = _AROUND[kind]
        low, high = max(begin, start - before), min(end, stop + behind)
        while low > begin and data[low] & 0xC0 == 0x80:
            low -= 1
        while high < end and data[high] & 0xC0 == 0x80:
            high += 1
        raw = data[low:high].tobytes()
        text = raw.decode("utf-8", "surrogateescape")
        plain = len(text) == len(raw)
        at = start - low if plain else len(raw[: start - low].decode("utf-8", "surrogateescape"))
        till = stop - low if plain else len(raw[: stop - low].decode("utf-8", "surrogateescape"))
        if kind == PHONE:
            ended = len(raw[: last - low].decode("utf-8", "surrogateescape")) if low < last <= start else 0
            spans = phones.find_phones(text, at, till, ended)
        elif kind == IP and till > at:
            spans = list(addresses.find_ipv4(text, at, till))
        else:
            spans = [span for span in (_POINTED[kind](text, at),) if span]
        for one, two in spans:
            if not plain:
                one, two = (len(text[:k].encode("utf-8", "surrogateescape")) for k in (one, two))
            last = low + two if kind == PHONE else last
            yield kind, low + one, low + two


_AROUND = {
    EMAIL: (emails.BEFORE, emails.BEHIND),
    IP: (addresses.BEFORE, addresses.BEHIND),
    PHONE: (phones.BEFORE, phones.BEHIND),
    IBAN: (4, 64),
}
"""Bytes before and behind a place that a finder sees."""
_POINTED = {EMAIL: emails.find_email, IP: addresses.find_ipv6, IBAN: ibans.find_iban}


def _apart(spans: list[Span]) -> list[Span]:
    """Those that overlap none that ranks before them, by position."""
    if len(spans) < 2:
        return spans
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: span[1:]):
        while kept and kept[-1][2] > span[1] and _RANK[kept[-1][0]] > _RANK[span[0]]:
            kept.pop()
        if not kept or kept[-1][2] <= span[1]:
            kept.append(span)
    return kept


def _in_characters(data: npt.NDArray[np.uint8], begin: int, spans: list[Span]) -> Iterator[Span]:
    """The same spans, counted in characters of the text that begins at this byte."""
    place, chars = begin, 0
    for kind, start, stop in spans:
        before = len(data[place:start].tobytes().decode("utf-8", "replace"))
        inside = len(data[start:stop].tobytes().decode("utf-8", "replace"))
        yield kind, chars + before, chars + before + inside
        place, chars = stop, chars + before + inside
