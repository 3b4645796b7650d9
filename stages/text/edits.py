"""C4's line edits: lines dropped and citation marks stripped, for a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from curate.stages.text import unicode
from curate.stages.text.segment import Segmented, pack


def edit_lines(
    texts: Segmented,
    *,
    citations: bool,
    longest_word: int | None,
    fewest_words: int,
    phrases: Sequence[str],
    terminal: bool,
) -> tuple[Segmented, pa.Array]:
    """The texts without the lines that fail, as a batch and as Arrow strings; lines come out trimmed, paragraphs stay apart.

    A line goes if it has a word of more than `longest_word` characters, does not end in a terminal mark (with `terminal`),
    has fewer than `fewest_words` words, or holds one of the phrases (ASCII letters in either case). Citation marks are
    `[12]`, `[]`, `[edit]`, `[citation needed]`. Source: C4 (Raffel et al. 2020, 2.2), in the order of datatrove's code.
    """  # fmt: skip
    from curate.stages.text import edit_kernels

    lines, words = texts.lines, texts.words
    packed, offsets = pack(phrases, fold=True)
    limits = np.array([longest_word or 0, fewest_words, terminal, citations], np.int64)
    verdicts = np.empty(len(lines.start), np.uint8)
    edit_kernels.judge_lines(
        texts.bytes, lines.start, lines.stop, lines.first, unicode.classes(), words.start, words.chars, words.first,
        limits, packed, offsets, verdicts,
    )  # fmt: skip
    out = np.empty(int(texts.documents[-1] - texts.documents[0]), np.uint8)
    documents = np.zeros(len(texts) + 1, np.int64)
    edit_kernels.rewrite(texts.bytes, lines.start, lines.stop, lines.first, verdicts, citations, out, documents)
    buffers = [None, pa.py_buffer(documents), pa.py_buffer(out[: documents[-1]].tobytes())]
    array = pa.Array.from_buffers(pa.large_string(), len(texts), buffers)
    edited = Segmented(array, before=texts)
    return edited, array
