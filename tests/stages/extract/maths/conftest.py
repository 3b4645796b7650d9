from collections.abc import Callable

import pytest

from curate.stages.extract import maths
from curate.stages.extract.dom import parse

_NO_TEXT = {"script", "style", "textarea", "title", "svg", "head", "noscript"}


def _text_of(page: str) -> str:
    """A page's text as one block, white space joined: what the extraction engine does with a block, without "
    "choosing blocks."""
    tree = parse(page.encode("utf-8", "replace"))
    found = maths.read(tree)
    formulas, removed = {formula.node: formula for formula in found.formulas}, set(found.removed)
    parts: list[str] = []
    node = 1
    while node < len(tree.tag):
        name = tree.name(node)
        if node in formulas:
            parts.append(maths.enclose(formulas[node]))
        elif name == "code":
            parts.append(maths.verbatim(tree.text(node)))
        elif not name:
            parts.append(tree.text(node))
        if node in formulas or node in removed or name in _NO_TEXT or name == "code":
            node = int(tree.last[node])
        else:
            node += 1
    return maths.normalise(" ".join("".join(parts).split()), found.delimiters)


@pytest.fixture
def text_of() -> Callable[[str], str]:
    return _text_of
