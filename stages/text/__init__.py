"""Texts cut once, for filters and dedup alike: lines, paragraphs, sentences and words as byte positions."""

from curate.stages.text.segment import Segmented, Spans, segment

__all__ = ["Segmented", "Spans", "segment"]
