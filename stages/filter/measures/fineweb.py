"""FineWeb's own three filters and the ratio of newlines, on the text after line edits.

Source of all: FineWeb (Penedo et al. 2024, arXiv 2406.17557), section 3.6 and table 2, and datatrove's `FineWebQualityFilter`.

With counting `datatrove` they are what that filter computes (datatrove 0.10.1) on the text that its C4 filter leaves, but for
one thing: where C4's leaves a space behind a citation mark at a line's end, which then ends in no mark, ours leaves none.
"""

from __future__ import annotations

import numpy as np

from curate.stages.filter.measures.parts import RawLines, fraction, ratio, raw_lines
from curate.stages.filter.registry import signal
from curate.stages.text.segment import BoolArray, Float32Array, Int64Array, Segmented

SOURCE = "FineWeb (Penedo et al. 2024), section 3.6"

SHORT_LINE = 30


def _filled(texts: Segmented) -> tuple[RawLines, BoolArray]:
    """Lines as they stand, and which hold more than white space."""
    from curate.stages.filter.measures.line_kernels import BLANK

    lines = texts.once(raw_lines)
    return lines, (lines.marks & BLANK) == 0


@signal("terminal_punctuation_line_fraction", unit="fraction of lines", source=SOURCE, text="edited")
def terminal_punctuation_line_fraction(texts: Segmented) -> Float32Array:
    """Lines that end in a terminal mark of any script (Sentence_Terminal) or a closing quotation mark / all lines.

    datatrove: in a terminal mark, no quotation mark; white space behind it leaves the line without.
    """
    if texts.counting == "datatrove":
        from curate.stages.filter.measures.line_kernels import STOPPED

        lines, filled = texts.once(_filled)
        return fraction(lines.marked(STOPPED), lines.total(filled))
    from curate.stages.text.kernels import TERMINAL

    return fraction(texts.lines.total((texts.line_marks & TERMINAL) != 0), texts.lines.count)


@signal("short_line_fraction", unit="fraction of lines", source=SOURCE, text="edited")
def short_line_fraction(texts: Segmented) -> Float32Array:
    """Lines of at most 30 characters / all lines. datatrove: white space around a line counts."""
    if texts.counting == "datatrove":
        lines, filled = texts.once(_filled)
        return fraction(lines.total(filled & (lines.chars <= SHORT_LINE)), lines.total(filled))
    return fraction(texts.lines.total(texts.lines.chars <= SHORT_LINE), texts.lines.count)


@signal("edited_duplicate_line_char_fraction", unit="fraction of characters", source=SOURCE, text="edited")
def edited_duplicate_line_char_fraction(texts: Segmented) -> Float32Array:
    """Characters in lines that stood earlier in the same document / all characters but newlines, after line edits.

    datatrove: lines are not trimmed.
    """
    if texts.counting == "datatrove":
        lines, filled = texts.once(_filled)
        repeated = lines.spans(texts, filled).repeated[1]
    else:
        repeated = texts.lines.repeated[1]
    return fraction(repeated, texts.chars - texts.occurrences("\n"))


@signal("newline_to_word_ratio", unit="newlines a word", source=SOURCE, text="edited")
def newline_to_word_ratio(texts: Segmented) -> Float32Array:
    """Breaks between lines / words. A run of newlines is one break, as FineWeb's text has no empty lines at this point.

    datatrove: / tokens; and where no line was edited, every newline counts.
    """
    return ratio(_breaks(texts), texts.counted.count)


def _breaks(texts: Segmented) -> Int64Array:
    if texts.counting == "datatrove" and texts.before is texts:
        return texts.occurrences("\n")
    return np.maximum(texts.lines.count - 1, 0)
