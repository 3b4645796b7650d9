"""The tokenizer of a mix: trained on a sample of its documents or given, and applied without ever reading markup
of its own out of a page's text."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from curate.pipeline.errors import UsageError, nearest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EOS = "<|endoftext|>"
"""The end-of-text token of the tokenizers that we train."""
KNOWN_EOS = (EOS, "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]", "<|im_end|>", "[SEP]", "<end>")
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}{1,64}|\p{N}{1,3}| ?[^\s\p{L}\p{N}]{1,64}[\r\n]{0,64}"
    r"|\s{0,64}[\r\n]{1,64}|\s{1,64}(?!\S)|\s{1,64}"
)
"""Where words end before bytes are merged: the pattern of cl100k (OpenAI's tiktoken) and Llama 3, but for the bound of 64:
training takes time in proportion to merges times the length of a word, so that a page of one word would never end."""
LONGEST_TOKEN = 64
"""Bytes of a token at most: a line of a thousand equal signs is not one entry of the vocabulary."""
PIECE = 1 << 18
"""Characters encoded in one call: an encoding takes about 100 bytes of memory a token."""


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> str:
    """A byte-level BPE trained on the texts, as the JSON of the `tokenizers` library.

    The vocabulary is smaller than asked where the texts hold too few pairs that occur twice. The same texts in any order
    give the same bytes, whatever the number of threads: ties between pairs are broken by their ids.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return str(tokenizer.to_str())


class DocumentTokenizer:
    """Turns texts into rows of token ids, each ended by the end-of-text token.

    Special tokens that stand in a page's text are read as plain text, nothing is cut, padded or put in front. Raises
    UsageError where the JSON is no tokenizer or has no end-of-text token.
    """

    def __init__(self, data: bytes, eos: str | None = None, where: str = "mix/tokenizer.json") -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = (
            "false"  # a worker is one core, and the library's threads do not survive a fork
        )
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Tokenizer = Tokenizer.from_str(data.decode())
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception
            raise UsageError(
                f"mix.tokenizer: {where} is not a tokenizer.json of the tokenizers library: {error}"
            ) from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        """One more than the largest id."""
        self.eos = _eos_id(vocabulary, eos, where)

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """The ids of each text, the end-of-text token last; one array a text."""
        pieces = [list(_pieces(text)) for text in texts]
        rows: list[list[npt.NDArray[np.uint32]]] = [[] for _ in texts]
        waiting: list[tuple[int, str]] = []
        size = 0
        for number, parts in enumerate(pieces):
            for part in parts:
                if size + len(part) > PIECE and waiting:
                    self._encode(waiting, rows)
                    waiting, size = [], 0
                waiting.append((number, part))
                size += len(part)
        self._encode(waiting, rows)
        end = np.array([self.eos], np.uint32)
        return [np.concatenate([*row, end]) for row in rows]

    def _encode(self, waiting: list[tuple[int, str]], rows: list[list[npt.NDArray[np.uint32]]]) -> None:
        found = self._tokenizer.encode_batch_fast([part for _, part in waiting], add_special_tokens=False)
        for (number, _), encoding in zip(waiting, found, strict=True):
            rows[number].append(np.array(encoding.ids, np.uint32))

    def decode(self, ids: Sequence[int] | npt.NDArray[Any]) -> str:
        """The text of a row of ids; the end-of-text token stands for none."""
        plain = [int(item) for item in ids if item != self.eos]
        return str(self._tokenizer.decode(plain, skip_special_tokens=False))

    def text_bytes(self, ids: Sequence[int] | npt.NDArray[Any]) -> int:
        """UTF-8 bytes of the text that these ids stand for: exact for byte-level tokenizers even in the middle of a
        character, else those of the decoded text."""
        if type(self._tokenizer.decoder).__name__ == "ByteLevel":
            names = (self._tokenizer.id_to_token(int(item)) for item in ids if item != self.eos)
            return sum(len(name or "") for name in names)
        return len(self.decode(ids).encode("utf-8", "replace"))


def _eos_id(vocabulary: dict[str, int], eos: str | None, where: str) -> int:
    if eos is not None:
        if eos not in vocabulary:
            raise UsageError(
                f"mix.tokenizer.eos: {where} has no token {eos!r}{nearest(eos, tuple(set(KNOWN_EOS) & set(vocabulary)))}"
            )
        return vocabulary[eos]
    for name in KNOWN_EOS:
        if name in vocabulary:
            return vocabulary[name]
    raise UsageError(
        f"mix.tokenizer: {where} has none of the known end-of-text tokens: name its own as mix.tokenizer.eos"
    )


def _pieces(text: str) -> Iterator[str]:
    """The text in parts of at most PIECE characters, cut before a space where there is one in the second half."""
    start = 0
    while len(text) - start > PIECE:
        cut = text.rfind(" ", start + PIECE // 2, start + PIECE)
        cut = cut if cut > start else start + PIECE
        yield text[start:cut]
        start = cut
    if start < len(text):
        yield text[start:]
