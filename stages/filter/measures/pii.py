"""How many personal addresses a text holds, after line edits and before they are masked."""

from __future__ import annotations

import numpy as np

from curate.stages.filter import pii
from curate.stages.filter.registry import signal
from curate.stages.text.segment import Int32Array, Segmented

SOURCE = "FineWeb (Penedo et al. 2024), PII; what counts is said in curate.stages.filter.pii"


@signal("pii_emails", unit="addresses", source=SOURCE, text="edited", kind="int")
def pii_emails(texts: Segmented) -> Int32Array:
    """E-mail addresses."""
    return _count(texts, pii.find_emails, texts.occurrences("@") > 0)


@signal("pii_ips", unit="addresses", source=SOURCE, text="edited", kind="int")
def pii_ips(texts: Segmented) -> Int32Array:
    """Public IPv4 addresses; version and section numbers, private and reserved addresses are none."""
    return _count(texts, pii.find_ips, texts.dotted_quads > 0)


def _count(texts: Segmented, find: pii.Finder, maybe: np.ndarray) -> Int32Array:
    """Finds in each text for which `maybe` holds."""
    counts = np.zeros(len(texts), np.int32)
    for row in np.flatnonzero(maybe):
        counts[row] = len(find(texts[int(row)]))
    return counts
