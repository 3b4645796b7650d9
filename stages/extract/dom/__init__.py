"""A page's bytes as a tree in arrays: a compiled tokeniser and a tree builder as tolerant as browsers are."""

from curate.stages.extract.dom.tree import Tree, parse

__all__ = ["Tree", "parse"]
