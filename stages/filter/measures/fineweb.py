"""FineWeb's own three filters and the ratio of newlines, on the text after line edits.

Source of all: FineWeb (Penedo et al. 2024, arXiv 2406.17557), section 3.6 and table 2, and datatrove's `FineWebQualityFilter`.
"""

from __future__ import annotations

import numpy as np

from curate.stages.filter.measures.gopher import fraction, ratio
from curate.stages.filter.registry import signal
from curate.stages.text.segment import Float32Array, Segmented

SOURCE = "FineWeb (Penedo et al. 2024), section 3.6"

SHORT_LINE = 30


@signal("terminal_punctuation_line_fraction", unit="fraction of lines", source=SOURCE, text="edited")
def terminal_punctuation_line_fraction(texts: Segmented) -> Float32Array:
    """Lines that end in a terminal mark of any script (Sentence_Terminal) or a closing quotation mark / all lines."""
    from curate.stages.text.kernels import TERMINAL

    return fraction(texts.lines.total((texts.line_marks & TERMINAL) != 0), texts.lines.count)


@signal("short_line_fraction", unit="fraction of lines", source=SOURCE, text="edited")
def short_line_fraction(texts: Segmented) -> Float32Array:
    """Lines of at most 30 characters / all lines."""
    return fraction(texts.lines.total(texts.lines.chars <= SHORT_LINE), texts.lines.count)


@signal("edited_duplicate_line_char_fraction", unit="fraction of characters", source=SOURCE, text="edited")
def edited_duplicate_line_char_fraction(texts: Segmented) -> Float32Array:
    """Characters in lines that stood earlier in the same document / all characters but newlines, after line edits."""
    return fraction(texts.lines.repeated[1], texts.chars - texts.occurrences("\n"))


@signal("newline_to_word_ratio", unit="newlines a word", source=SOURCE, text="edited")
def newline_to_word_ratio(texts: Segmented) -> Float32Array:
    """Breaks between lines / words. A run of newlines is one break, as FineWeb's text has no empty lines at this point."""
    return ratio(np.maximum(texts.lines.count - 1, 0), texts.words.count)
