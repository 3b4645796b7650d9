"""The features of a page's blocks, as one matrix for the trees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from curate.stages.extract.content import describe, facts
from curate.stages.extract.content.segment import Blocks
from curate.stages.extract.dom import Tree, tags

_I, _B = tags.ID, tags.BITS
_HEADING, _BLOCK, _PRE = _B["HEADING"], _B["BLOCK"], _B["PRE"]
_H1, _P, _LI, _TR, _TD, _DIV, _BODY, _ARTICLE, _MAIN = (_I[n] for n in "h1 p li tr td div body article main".split())
_COLUMN = {name: place for place, name in enumerate(describe.COUNTS)}
_CHARS, _WORDS, _LINKS, _COMMAS, _SENTENCES, _STOPS, _TERMINAL = (
    _COLUMN[n] for n in "chars words link_words commas sentences stopwords terminal".split()
)
_BOLD = _COLUMN["bold_words"]

KINDS = (
    "p li h1 h2 h3 h4 tr td pre blockquote dt dd div figcaption caption label button legend body section article a span "
    "header footer nav aside main form address summary"
).split()
"""The kinds of elements a block stands in; h5 and h6 count as h4, th as td, any other as none of them."""
_KIND = np.full(256, len(KINDS), np.int64)
for _place, _name in enumerate(KINDS):
    _KIND[_I[_name]] = _place
_KIND[_I["h5"]] = _KIND[_I["h6"]] = _KIND[_I["h4"]]
_KIND[_I["th"]] = _KIND[_I["td"]]

_LOCAL = (
    "words log_words chars_per_word link_density commas_per_word sentences_per_word words_per_sentence stopword_density "
    "digit_share capital_share bold_share newlines symbol_share code_share prices years terminal upper_start anchors "
    "longest_word wide_share"
).split()
_SCORES = [f"score_{bucket}" for bucket in describe.BUCKETS]
_NEAR = ["path", "text", "log_words", "link_density", "stopword_density", "terminal", "kind", "same_home"]
_LEVELS = ("container", "level_1", "level_2", "level_3", "section")
_LEVEL = ["log_words", "link_density", "words_per_block", "long_share", "page_share", "headings", "commas", "path"]
NAMES: list[str] = [
    *_SCORES, "path", "text",
    *_LOCAL,
    "kind", "inner_kind", "depth",
    *[f"in_{name}" for name in describe.CONTEXTS[:-1]],
    "place", "place_words", "from_start", "from_end", "after_h1", "title_words", "title_share", "after_title",
    "heading_distance", "heading_kind", "words_since_heading", "first_of_text", "copies",
    *[f"{side}_{name}" for side in ("prev", "next", "prev2", "next2") for name in _NEAR],
    *[f"{level}_{name}" for level in _LEVELS for name in _LEVEL],
    "top_inside", "top_up", "top_down", "top_share", "top_score", "chain_score",
    *[f"mass{share}_{name}" for share in (50, 80, 95) for name in ("inside", "up", "down")],
    *[f"look{level}_{name}" for level in (1, 2, 3) for name in ("count", "words", "link_density", "share", "spread", "path")],
    "siblings", "sibling_place",
    "linked_data", "description", "page_words", "page_blocks", "page_link_density", "page_paragraph_share", "page_articles",
    "page_main", "page_bytes", "page_long_blocks", "page_wide", "page_best_path",
    *[f"page_{name}" for name in facts.FLAGS],
]  # fmt: skip
"""The columns of `Described.matrix`."""


@njit(cache=True)
def _log(value: float) -> float:
    return np.log(1.0 + max(0.0, value))


@njit(cache=True)
def _readability(
    tag: np.ndarray, parent: np.ndarray, home: np.ndarray, blocks: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Scores of elements as Mozilla's Readability gives them: of a block of 25 characters to its parent, half to the next …"""
    scores = np.zeros(len(tag), np.float32)
    for block in range(len(blocks)):
        row = counts[block]
        if row[0] < 25 or row[1] == 0:
            continue
        value = (1 + row[3] + min(row[0] / 100, 3.0)) * (1 - row[2] / row[1])
        node = blocks[block, 0]
        number = tag[node]
        if number != _DIV and number != _TD and node > 0:
            node = home[parent[node]]
        for level in range(6):
            scores[node] += value / (1 if level == 0 else 2 if level == 1 else 3 * level)
            if node <= 0:
                break
            node = home[parent[node]]
    return scores


@njit(cache=True)
def _mass(prose: np.ndarray, before: np.ndarray, last: np.ndarray, holds: np.ndarray, share: float) -> int:
    """The smallest element that holds a share of the page's prose words; of equal ones the innermost."""
    needed = share * prose[-1]
    best, best_words = 0, prose[-1]
    for node in range(1, len(holds)):
        if holds[node]:
            words = prose[before[last[node]]] - prose[before[node]]
            if words > 0 and words >= needed and words <= best_words:
                best, best_words = node, words
    return best


@njit(cache=True)
def _apart(target: int, parent: np.ndarray, last: np.ndarray, depth: np.ndarray, tag: np.ndarray,
           up: np.ndarray, down: np.ndarray) -> None:  # fmt: skip
    """For each element the steps up to where it meets `target`, and from there down to it."""
    up[0], down[0] = 0, depth[target]
    for node in range(1, len(parent)):
        if tag[node] == tags.TEXT:
            continue
        if node <= target < last[node]:
            up[node], down[node] = 0, depth[target] - depth[node]
        else:
            up[node], down[node] = up[parent[node]] + 1, down[parent[node]]


@njit(cache=True)
def _matrix(tag: np.ndarray, parent: np.ndarray, last: np.ndarray, home: np.ndarray, before: np.ndarray, blocks: np.ndarray,
            pieces: np.ndarray, counts: np.ndarray, scores: np.ndarray, context: np.ndarray, depth: np.ndarray,
            look: np.ndarray, section: np.ndarray, children: np.ndarray, order: np.ndarray, heading: np.ndarray,
            words: np.ndarray, word_at: np.ndarray, title_cover: np.ndarray, title_words: int, linked: np.ndarray,
            description: np.ndarray, page: np.ndarray, flags: np.ndarray, kinds: np.ndarray, columns: int,
            size: int) -> np.ndarray:  # fmt: skip
    n = len(blocks)
    x = np.zeros((n, columns), np.float32)
    path = scores[:, 0] + scores[:, 1] + scores[:, 2] + scores[:, 3]
    text = scores[:, 4] + scores[:, 5] + scores[:, 6]

    # Sums over blocks, so that any element's are one difference.
    sums = np.zeros((n + 1, 7), np.float64)
    prose = np.zeros(n + 1, np.float64)
    for block in range(n):
        row = counts[block]
        long = row[_WORDS] >= 15 and row[_LINKS] < 0.5 * row[_WORDS]
        is_heading = flags[tag[blocks[block, 0]]] & _HEADING != 0
        sums[block + 1, 0] = sums[block, 0] + row[_WORDS]
        sums[block + 1, 1] = sums[block, 1] + row[_LINKS]
        sums[block + 1, 2] = sums[block, 2] + 1
        sums[block + 1, 3] = sums[block, 3] + (row[_WORDS] if long else 0)
        sums[block + 1, 4] = sums[block, 4] + is_heading
        sums[block + 1, 5] = sums[block, 5] + row[_COMMAS]
        sums[block + 1, 6] = sums[block, 6] + path[block] * row[_WORDS]
        prose[block + 1] = prose[block] + (row[_WORDS] if long else 0)
    total = max(1.0, sums[n, 0])
    if prose[n] == 0:
        for block in range(n + 1):
            prose[block] = sums[block, 0]

    readable = _readability(tag, parent, home, blocks, counts)
    top, top_score = 0, 0.0
    for node in range(1, len(tag)):
        if readable[node] > 0:
            low, high = before[node], before[last[node]]
            all_words = sums[high, 0] - sums[low, 0]
            value = readable[node] * (1 - (sums[high, 1] - sums[low, 1]) / max(1.0, all_words))
            readable[node] = value
            if value > top_score:
                top, top_score = node, value
    # Elements that blocks stand in: a cell of a joined row is none, and what is left out of the page has no `home`.
    holds = np.zeros(len(tag), np.bool_)
    for block in range(n):
        node = blocks[block, 0]
        while node > 0 and not holds[node]:
            holds[node] = True
            node = home[parent[node]]
    centres = np.empty(4, np.int64)
    centres[0] = top
    centres[1] = _mass(prose, before, last, holds, 0.5)
    centres[2] = _mass(prose, before, last, holds, 0.8)
    centres[3] = _mass(prose, before, last, holds, 0.95)
    up = np.zeros((4, len(tag)), np.int32)
    down = np.zeros((4, len(tag)), np.int32)
    for place in range(4):
        _apart(centres[place], parent, last, depth, tag, up[place], down[place])

    texts = np.empty(n, np.uint64)
    for block in range(n):
        value = np.uint64(0xCBF29CE484222325)
        for index in range(word_at[block], word_at[block + 1]):
            value = (value ^ words[index]) * np.uint64(0x100000001B3)
        texts[block] = value
    text_group, text_first = describe.group(texts)
    copies = np.zeros(len(text_first), np.int32)
    for block in range(n):
        copies[text_group[block]] += 1

    h1 = title_block = -1
    paragraph_words = 0.0
    long_blocks = 0
    wide = 0.0
    best_path = -100.0
    for block in range(n):
        number = tag[blocks[block, 0]]
        if number == _H1 and h1 < 0:
            h1 = block
        if (
            title_block < 0
            and title_words >= 2
            and title_cover[block] > 0.6
            and counts[block, _WORDS] >= 0.5 * min(title_words, 12)
            and counts[block, _WORDS] <= title_words + 4
        ):
            title_block = block
        if number == _P:
            paragraph_words += counts[block, _WORDS]
        if counts[block, _WORDS] >= 15 and counts[block, _LINKS] < 0.5 * counts[block, _WORDS]:
            long_blocks += 1
            best_path = max(best_path, path[block])
        wide += counts[block, 19]
    articles = mains = 0
    for node in range(len(tag)):
        articles += tag[node] == _ARTICLE
        mains += tag[node] == _MAIN

    for block in range(n):
        row = counts[block]
        node = blocks[block, 0]
        number = tag[node]
        n_words = max(1.0, row[_WORDS])
        n_chars = max(1.0, row[_CHARS])
        j = 0
        for bucket in range(7):
            x[block, j] = scores[block, bucket]
            j += 1
        x[block, j], x[block, j + 1] = path[block], text[block]
        j += 2
        x[block, j] = row[_WORDS]
        x[block, j + 1] = _log(row[_WORDS])
        x[block, j + 2] = n_chars / n_words
        x[block, j + 3] = row[_LINKS] / n_words
        x[block, j + 4] = row[_COMMAS] / n_words
        x[block, j + 5] = row[_SENTENCES] / n_words
        x[block, j + 6] = n_words / (1 + row[_SENTENCES])
        x[block, j + 7] = row[_STOPS] / n_words
        x[block, j + 8] = row[6] / n_chars
        x[block, j + 9] = row[7] / n_words
        x[block, j + 10] = row[_BOLD]
        x[block, j + 11] = row[10]
        x[block, j + 12] = row[11] / n_words
        x[block, j + 13] = row[12] / n_chars
        x[block, j + 14] = row[13]
        x[block, j + 15] = row[14]
        x[block, j + 16] = row[_TERMINAL]
        x[block, j + 17] = row[16]
        x[block, j + 18] = row[17]
        x[block, j + 19] = row[18]
        x[block, j + 20] = row[19] / n_chars
        j += 21
        inner = parent[pieces[blocks[block, 3], 0]]
        x[block, j], x[block, j + 1], x[block, j + 2] = kinds[number], kinds[tag[inner]], depth[node]
        j += 3
        bits = context[node] | context[inner]
        for bit in range(23):
            x[block, j] = bits >> bit & 1
            j += 1
        x[block, j] = block / n
        x[block, j + 1] = sums[block, 0] / total
        x[block, j + 2] = _log(block)
        x[block, j + 3] = _log(n - 1 - block)
        x[block, j + 4] = block - h1 if h1 >= 0 else -1000
        x[block, j + 5] = title_cover[block]
        x[block, j + 6] = title_cover[block] * row[_WORDS] / max(1, title_words)
        x[block, j + 7] = block - title_block if title_block >= 0 else -1000
        above = heading[block]
        x[block, j + 8] = block - above if above >= 0 else 1000
        x[block, j + 9] = kinds[tag[blocks[above, 0]]] if above >= 0 else -1
        x[block, j + 10] = _log(sums[block, 0] - sums[above + 1, 0]) if above >= 0 else -1
        x[block, j + 11] = text_first[text_group[block]] == block
        x[block, j + 12] = copies[text_group[block]]
        j += 13
        for side in (-1, 1, -2, 2):
            other = block + side
            if 0 <= other < n:
                near = counts[other]
                near_words = max(1.0, near[_WORDS])
                x[block, j] = path[other]
                x[block, j + 1] = text[other]
                x[block, j + 2] = _log(near[_WORDS])
                x[block, j + 3] = near[_LINKS] / near_words
                x[block, j + 4] = near[_STOPS] / near_words
                x[block, j + 5] = near[_TERMINAL]
                x[block, j + 6] = kinds[tag[blocks[other, 0]]]
                x[block, j + 7] = (
                    home[parent[blocks[other, 0]]] == home[parent[node]] if node > 0 and blocks[other, 0] > 0 else 0
                )
            else:
                x[block, j : j + 8] = -1
            j += 8
        place = node
        chain = 0.0
        for level in range(5):
            if level == 4:
                place = section[node]
            low, high = before[place], before[last[place]]
            level_words = sums[high, 0] - sums[low, 0]
            level_blocks = max(1.0, sums[high, 2] - sums[low, 2])
            safe = max(1.0, level_words)
            x[block, j] = _log(level_words)
            x[block, j + 1] = (sums[high, 1] - sums[low, 1]) / safe
            x[block, j + 2] = level_words / level_blocks
            x[block, j + 3] = (sums[high, 3] - sums[low, 3]) / safe
            x[block, j + 4] = level_words / total
            x[block, j + 5] = sums[high, 4] - sums[low, 4]
            x[block, j + 6] = (sums[high, 5] - sums[low, 5]) / safe
            x[block, j + 7] = (sums[high, 6] - sums[low, 6]) / safe
            j += 8
            if level < 3 and place > 0:
                place = home[parent[place]] if parent[place] >= 0 else 0
        place = node
        for _ in range(6):
            chain = max(chain, readable[place])
            if place <= 0:
                break
            place = home[parent[place]]
        x[block, j] = top <= node < last[top]
        x[block, j + 1], x[block, j + 2] = up[0, node], down[0, node]
        x[block, j + 3] = (sums[before[last[top]], 0] - sums[before[top], 0]) / total
        x[block, j + 4] = _log(top_score)
        x[block, j + 5] = chain / max(1e-6, top_score)
        j += 6
        for centre in range(1, 4):
            x[block, j] = centres[centre] <= node < last[centres[centre]]
            x[block, j + 1], x[block, j + 2] = up[centre, node], down[centre, node]
            j += 3
        j += 18  # blocks that look alike: filled below
        x[block, j], x[block, j + 1] = children[max(0, parent[node])], order[node]
        j += 2
        x[block, j], x[block, j + 1] = linked[block], description[block]
        x[block, j + 2] = _log(total)
        x[block, j + 3] = _log(n)
        x[block, j + 4] = sums[n, 1] / total
        x[block, j + 5] = paragraph_words / total
        x[block, j + 6] = articles
        x[block, j + 7] = mains
        x[block, j + 8] = _log(size)
        x[block, j + 9] = long_blocks
        x[block, j + 10] = wide / total
        x[block, j + 11] = best_path
        j += 12
        for index in range(len(page)):
            x[block, j + index] = page[index]

    column = columns - len(page) - 12 - 2 - 18
    stats = np.zeros((n, 6), np.float64)
    for level in range(3):
        groups = look[level]
        stats[:] = 0
        for block in range(n):
            g = groups[block]
            stats[g, 0] += 1
            stats[g, 1] += counts[block, _WORDS]
            stats[g, 2] += counts[block, _LINKS]
            stats[g, 3] += counts[block, _WORDS] * counts[block, _WORDS]
            stats[g, 4] += path[block]
        for block in range(n):
            g = groups[block]
            alike = stats[g, 0]
            mean = stats[g, 1] / alike
            x[block, column] = _log(alike)
            x[block, column + 1] = mean
            x[block, column + 2] = stats[g, 2] / max(1.0, stats[g, 1])
            x[block, column + 3] = stats[g, 1] / total
            x[block, column + 4] = np.sqrt(max(0.0, stats[g, 3] / alike - mean * mean)) / (1 + mean)
            x[block, column + 5] = stats[g, 4] / alike
        column += 6
    return x


@njit(cache=True)
def _look_alikes(looks: np.ndarray, blocks: np.ndarray, home: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Groups of blocks that look alike: the same names and classes on their path, one to three elements long: (3, blocks)."""
    n = len(blocks)
    groups = np.empty((3, n), np.int32)
    nodes = np.empty(n, np.int32)
    values = np.empty(n, np.uint64)
    for block in range(n):
        nodes[block] = blocks[block, 0]
        values[block] = looks[nodes[block]]
    for level in range(3):
        groups[level], _ = describe.group(values)
        for block in range(n):
            if nodes[block] > 0:
                nodes[block] = home[parent[nodes[block]]]
                values[block] = (values[block] ^ looks[nodes[block]]) * np.uint64(0x100000001B3)
    return groups


_SPANS = (5, 10, 20)
CONTEXT_NAMES: list[str] = [
    "first", "near_-3", "near_-2", "near_-1", "near_1", "near_2", "near_3",
    *[f"around_{span}" for span in _SPANS], "before", "kept_words", "kept_share",
    *[f"above_{level}_{name}" for level in range(6) for name in ("mean", "share", "others")],
    "sure_before", "sure_after", "alike_1", "alike_2", "alike_3", "highest",
]  # fmt: skip
"""What the second trees see before the columns of `NAMES`: the first ones' probabilities in and around a block."""


@njit(cache=True)
def _in_context(matrix: np.ndarray, first: np.ndarray, words: np.ndarray, blocks: np.ndarray, before: np.ndarray,
                last: np.ndarray, home: np.ndarray, parent: np.ndarray, look: np.ndarray,
                columns: int) -> np.ndarray:  # fmt: skip
    n = len(first)
    x = np.empty((n, columns + matrix.shape[1]), np.float32)
    kept = np.zeros(n + 1, np.float64)
    weight = np.zeros(n + 1, np.float64)
    number = np.zeros(n + 1, np.float64)
    highest = 0.0
    for block in range(n):
        kept[block + 1] = kept[block] + first[block] * words[block]
        weight[block + 1] = weight[block] + words[block]
        number[block + 1] = number[block] + first[block]
        highest = max(highest, first[block])
    total = max(kept[n], 1e-6)
    alike = np.zeros((3, n, 2), np.float64)
    for level in range(3):
        for block in range(n):
            share = max(words[block], 1.0)
            alike[level, look[level, block], 0] += first[block] * share
            alike[level, look[level, block], 1] += share
    sure = -1
    sure_before = np.empty(n, np.float32)
    for block in range(n):
        sure_before[block] = block - sure if sure >= 0 else 500
        if first[block] > 0.7 and words[block] >= 8:
            sure = block
    sure = -1
    for block in range(n - 1, -1, -1):
        row = x[block]
        row[0] = first[block]
        j = 1
        for offset in (-3, -2, -1, 1, 2, 3):
            row[j] = first[block + offset] if 0 <= block + offset < n else -1
            j += 1
        own = first[block] * words[block]
        for span in _SPANS:
            low, high = max(0, block - span), min(n, block + span + 1)
            row[j] = (kept[high] - kept[low] - own) / max(1.0, weight[high] - weight[low] - words[block])
            j += 1
        row[j], row[j + 1], row[j + 2] = kept[block] / total, kept[n], kept[n] / max(1.0, weight[n])
        j += 3
        node = blocks[block, 0]
        for _ in range(6):
            low, high = before[node], before[last[node]]
            row[j] = (kept[high] - kept[low]) / max(1.0, weight[high] - weight[low])
            row[j + 1] = (kept[high] - kept[low]) / total
            row[j + 2] = (number[high] - number[low] - first[block]) / (high - low - 1) if high - low > 1 else -1
            j += 3
            if node > 0:
                node = home[parent[node]]
        row[j] = sure_before[block]
        row[j + 1] = sure - block if sure >= 0 else 500
        if first[block] > 0.7 and words[block] >= 8:
            sure = block
        j += 2
        for level in range(3):
            row[j] = alike[level, look[level, block], 0] / alike[level, look[level, block], 1]
            j += 1
        row[j] = highest
        row[j + 1 :] = matrix[block]
    return x


@dataclass(frozen=True, slots=True)
class Described:
    """A page before the model: its blocks' counts (blocks, `describe.COUNTS`), words and headings, its elements' places."""

    tree: Tree
    blocks: Blocks
    facts: facts.Facts
    counts: np.ndarray
    words: np.ndarray
    word_at: np.ndarray
    heading: np.ndarray
    context: np.ndarray
    depth: np.ndarray
    section: np.ndarray
    children: np.ndarray
    order: np.ndarray
    look: np.ndarray

    def matrix(self, weights: np.ndarray) -> np.ndarray:
        """The features, float32 (blocks, `NAMES`), given the linear model's weights (`describe.SLOTS`)."""
        tree, blocks = self.tree, self.blocks
        scores = describe.linear_scores(
            tree.data, tree.tag, tree.parent, tree.spans, blocks.pieces, blocks.blocks, self.words, self.word_at, self.heading,
            weights,
        )  # fmt: skip
        title, linked, description = (
            words_of(text) for text in (self.facts.title, self.facts.linked_text, self.facts.description)
        )
        return _matrix(
            tree.tag, tree.parent, tree.last, blocks.home, blocks.before, blocks.blocks, blocks.pieces, self.counts, scores,
            self.context, self.depth, self.look, self.section, self.children, self.order, self.heading,
            self.words, self.word_at, describe.coverage(self.words, self.word_at, title, 1), len(title),
            describe.coverage(self.words, self.word_at, linked, 3), describe.coverage(self.words, self.word_at, description, 3),
            self.facts.flags, tags.FLAGS, _KIND, len(NAMES), len(tree.source),
        )  # fmt: skip

    def linear_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """The slots of the linear model that are 1, to train it: `describe.linear_rows`."""
        tree, blocks = self.tree, self.blocks
        return describe.linear_rows(
            tree.data,
            tree.tag,
            tree.parent,
            tree.spans,
            blocks.pieces,
            blocks.blocks,
            self.words,
            self.word_at,
            self.heading,
        )

    def in_context(self, matrix: np.ndarray, first: np.ndarray) -> np.ndarray:
        """The second trees' features, float32 (blocks, `CONTEXT_NAMES` and `NAMES`), given the first ones' probabilities."""
        blocks = self.blocks
        return _in_context(
            matrix, first, self.counts[:, _WORDS], blocks.blocks, blocks.before, self.tree.last, blocks.home,
            self.tree.parent, self.look, len(CONTEXT_NAMES),
        )  # fmt: skip


def words_of(text: str) -> np.ndarray:
    """The hashes of a text's words, as `describe.scan_words` cuts them."""
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    hashes = np.empty(len(data) + 1, np.uint64)
    return hashes[: describe.scan_words(data, 0, len(data), hashes, 0)]


def describe_page(tree: Tree, blocks: Blocks) -> Described:
    """Counts and slots of a page's blocks."""
    counts, words, word_at = describe.count(
        blocks.text, blocks.pieces, blocks.blocks, tree.anchor, tree.parent, tree.tag, describe.STOPS
    )
    heading = describe.headings_before(tree.tag, blocks.blocks, counts, tags.FLAGS)
    context, depth, looks, section, children, order = describe.elements(
        tree.data,
        tree.tag,
        tree.parent,
        tree.marks,
        tree.spans,
        describe.TAG_BITS,
        describe.ROLE_KEYS,
        describe.ROLE_BITS,
    )
    look = _look_alikes(looks, blocks.blocks, blocks.home, tree.parent)
    found = facts.facts(tree)
    return Described(
        tree, blocks, found, counts, words, word_at, heading, context, depth, section, children, order, look
    )
