"""C4's document signals, on the text after line edits, and what those edits took away.

Source of all: C4 (Raffel et al. 2020, arXiv 1910.10683), section 2.2. In C4's code a line is dropped, or condemns its
document, in one loop; here every line edit comes first, so a `{` in a line with "javascript" does not count.
"""

from __future__ import annotations

import numpy as np

from curate.stages.filter.registry import signal
from curate.stages.text.segment import Int32Array, Segmented

SOURCE = "C4 (Raffel et al. 2020), section 2.2"


@signal("lorem_ipsum", unit="yes or no", source=SOURCE, text="edited", kind="bool")
def lorem_ipsum(texts: Segmented) -> Int32Array:
    """1 where "lorem ipsum" occurs, in either case."""
    return (texts.occurrences("lorem ipsum", ignore_case=True) > 0).astype(np.int32)


@signal("curly_bracket", unit="yes or no", source=SOURCE, text="edited", kind="bool")
def curly_bracket(texts: Segmented) -> Int32Array:
    """1 where `{` occurs. It stands in LaTeX as in code: leave the rule out for mathematics."""
    return (texts.occurrences("{") > 0).astype(np.int32)


@signal("sentence_count", unit="sentences", source=SOURCE, text="edited", kind="int")
def sentence_count(texts: Segmented) -> Int32Array:
    """Sentences as `Segmented.sentences` cuts them; a line's end ends one."""
    return texts.sentences.count.astype(np.int32)


@signal("removed_lines", unit="lines", source=SOURCE, text="edited", kind="int")
def removed_lines(texts: Segmented) -> Int32Array:
    """Lines that the line edits took away."""
    return (texts.before.lines.count - texts.lines.count).astype(np.int32)


@signal("removed_chars", unit="characters", source=SOURCE, text="edited", kind="int")
def removed_chars(texts: Segmented) -> Int32Array:
    """Characters that the line edits took away: lines, citation marks, white space around lines."""
    return (texts.before.chars - texts.chars).astype(np.int32)
