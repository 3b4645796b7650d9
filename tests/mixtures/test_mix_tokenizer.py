from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.mixtures import tokenizer as module
from curate.mixtures.tokenizer import EOS, DocumentTokenizer, train_tokenizer
from curate.pipeline.errors import UsageError

TEXTS = [
    "The quick brown fox jumps over the lazy dog. 1234567 + 89 = x^2\n\n" * 3,
    "Der schnelle braune Fuchs springt über den faulen Hund — äöüß. " * 3,
    "素早い茶色の狐が怠け者の犬を飛び越える。" * 3,
    "for i in range(10):\n    print(i)  # ====================================\n" * 3,
]


@pytest.fixture(scope="module")
def trained() -> DocumentTokenizer:
    return DocumentTokenizer(train_tokenizer(iter(TEXTS), 600).encode())


@settings(deadline=None)
@given(texts=st.lists(st.text(max_size=200), max_size=8))
def test_tokens_decode_back_to_any_text_and_end_with_the_end_of_text(
    trained: DocumentTokenizer, texts: list[str]
) -> None:
    for text, ids in zip(texts, trained.encode(texts), strict=True):
        assert ids[-1] == trained.eos and (ids[:-1] != trained.eos).all()
        assert trained.decode(ids) == text
        assert trained.text_bytes(ids) == len(text.encode())


@pytest.mark.parametrize("text", [EOS, f"a{EOS}b", f" {EOS}\n" * 3, "<s></s><pad>"])
def test_an_end_of_text_written_in_a_page_is_only_text(trained: DocumentTokenizer, text: str) -> None:
    (ids,) = trained.encode([text])
    assert (ids[:-1] != trained.eos).all()
    assert trained.decode(ids) == text


def test_long_texts_are_encoded_in_pieces_and_come_back_whole(
    trained: DocumentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["".join(TEXTS) * 5, "x" * 3000, "", " " * 2000, "short"]
    whole = trained.encode(texts)
    monkeypatch.setattr(module, "PIECE", 200)
    for text, ids, once in zip(texts, trained.encode(texts), whole, strict=True):
        assert trained.decode(ids) == text
        assert abs(len(ids) - len(once)) <= 0.2 * len(once) + 20


def test_bytes_are_counted_exactly_in_the_middle_of_a_character(trained: DocumentTokenizer) -> None:
    text = "a\U0001f600b"
    (ids,) = trained.encode([text])
    counts = [trained.text_bytes(ids[:end]) for end in range(len(ids) + 1)]
    assert counts[0] == 0 and counts[-1] == len(text.encode())
    assert counts == sorted(counts)
    assert trained.text_bytes(ids[:2]) < len("a\U0001f600".encode())


def test_training_gives_the_same_bytes_in_any_process_order_and_number_of_threads() -> None:
    program = (
        "import sys, json, hashlib; from curate.mixtures.tokenizer import train_tokenizer;"
        "texts = json.loads(sys.stdin.read());"
        "print(hashlib.sha256(train_tokenizer(iter(texts), 700).encode()).hexdigest())"
    )
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdeé日"), random.integers(2, 6))) for _ in range(400)]
    texts = TEXTS + [" ".join(random.choice(words, 50)) for _ in range(60)]
    found = {hashlib.sha256(train_tokenizer(iter(texts), 700).encode()).hexdigest()}
    for order, threads, parallel in ((1, "1", "false"), (-1, "5", "true")):
        environment = os.environ | {
            "RAYON_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": parallel,
            "PYTHONHASHSEED": threads,
        }
        result = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(texts[::order]),
            env=environment,
            text=True,
            capture_output=True,
            check=True,
        )
        found.add(result.stdout.strip())
    assert len(found) == 1


def test_a_small_sample_gives_a_smaller_vocabulary_than_asked() -> None:
    small = DocumentTokenizer(train_tokenizer(iter(["ab ab"]), 10_000).encode())
    assert 257 <= small.vocab_size < 300
    assert small.decode(small.encode(["ganz anders \x00 文"])[0]) == "ganz anders \x00 文"


def test_no_entry_of_the_vocabulary_is_longer_than_the_bound() -> None:
    data = json.loads(train_tokenizer(iter(["=" * 5000 + "\n"] * 50), 2000))
    assert max(len(entry) for entry in data["model"]["vocab"]) <= module.LONGEST_TOKEN


def test_training_ends_on_a_page_that_is_one_endless_word() -> None:
    random = np.random.default_rng(1)
    word = "".join(random.choice(list("abcdefgh"), 200_000))
    tokenizer = DocumentTokenizer(train_tokenizer(iter([word, "\0" * 200_000, word.upper()]), 3000).encode())
    assert tokenizer.vocab_size > 2000
    assert tokenizer.decode(tokenizer.encode([word])[0]) == word


def given_tokenizer(**changes: object) -> bytes:
    data = json.loads(train_tokenizer(iter(TEXTS), 400))
    return json.dumps(data | changes).encode()


def test_a_given_tokenizer_that_pads_cuts_and_adds_marks_does_none_of_that_here() -> None:
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    wild = Tokenizer.from_str(given_tokenizer().decode())
    wild.add_special_tokens(["[CLS]"])
    wild.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", wild.token_to_id("[CLS]"))])
    wild.enable_truncation(5)
    wild.enable_padding(length=50)
    tame = DocumentTokenizer(wild.to_str().encode())
    text = "a longer sentence than five tokens [CLS] can hold"
    (ids,) = tame.encode([text])
    assert tame.decode(ids) == text
    assert (ids == tame.eos).sum() == 1
    assert tame.vocab_size == 401


def test_a_given_tokenizer_must_have_an_end_of_text_token_or_name_its_own() -> None:
    data = given_tokenizer().replace(EOS.encode(), b"<|fin|>")
    with pytest.raises(UsageError, match=r"mix\.tokenizer\.eos"):
        DocumentTokenizer(data)
    assert DocumentTokenizer(data, "<|fin|>").eos == 0
    with pytest.raises(UsageError, match="no token 'fin'"):
        DocumentTokenizer(data, "fin")
    with pytest.raises(UsageError, match=r"not a tokenizer\.json"):
        DocumentTokenizer(b"{}")
    with pytest.raises(UsageError, match=r"not a tokenizer\.json"):
        DocumentTokenizer(b"\xff\xfe")
