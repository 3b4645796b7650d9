"""The token format: what is written is what is read, and damage is named."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixes import write_mix

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.tokens import INDEX, TokenSet, TokenWriter, token_dtype

documents = st.lists(st.lists(st.integers(0, 69_999), min_size=1, max_size=9), min_size=1, max_size=12)


def made(folder, docs, shards=2, vocab_size=70_000, url=None):
    workspace = Workspace(url or str(folder))
    write_mix(workspace, [(ids, len(ids) * 3, "b") for ids in docs], shards=shards, vocab_size=vocab_size, eos=0)
    return workspace


@settings(max_examples=30, deadline=None)
@given(docs=documents, shards=st.integers(1, 4), data=st.data())
def test_every_window_and_every_document_come_back_as_they_were_written(tmp_path_factory, docs, shards, data):
    found = TokenSet(made(tmp_path_factory.mktemp("mix"), docs, shards))
    stream = [token for doc in docs for token in doc]
    assert (found.tokens, found.documents, found.bytes) == (len(stream), len(docs), 3 * len(stream))
    start = data.draw(st.integers(0, len(stream)))
    length = data.draw(st.integers(0, len(stream) - start))
    assert found.window(start, length).tolist() == stream[start : start + length]
    offset = data.draw(st.integers(0, len(stream) - 1))
    document = found.document_at(offset)
    place = int(document.id.removeprefix("tokens-"))
    assert document.start == sum(len(doc) for doc in docs[:place]) <= offset < document.start + len(docs[place])
    assert (document.tokens, document.bytes, document.bucket) == (len(docs[place]), 3 * len(docs[place]), "b")


@settings(max_examples=30, deadline=None)
@given(docs=documents, shards=st.integers(1, 3), data=st.data())
def test_documents_in_windows_are_those_that_share_a_token_with_one(tmp_path_factory, docs, shards, data):
    found = TokenSet(made(tmp_path_factory.mktemp("mix"), docs, shards))
    length = data.draw(st.integers(1, 10))
    starts = data.draw(st.lists(st.integers(0, found.tokens - 1), min_size=1, max_size=4))
    owner = [number for number, doc in enumerate(docs) for _ in doc]
    expected = sorted({doc for start in starts for doc in owner[start : start + length]})
    assert [item.id for item in found.documents_in(starts, length)] == [f"tokens-{number}" for number in expected]


def test_the_files_are_plain_little_endian_numbers_and_a_parquet_table(tmp_path):
    made(tmp_path, [[1, 2, 0], [65_535, 0]], shards=1, vocab_size=65_536)
    assert (tmp_path / "mix/tokens/00000.bin").read_bytes() == b"\1\0\2\0\0\0\xff\xff\0\0"
    table = pq.read_table(tmp_path / "mix/tokens/00000.idx.parquet")
    assert table.schema.equals(INDEX)
    assert table.column("start").to_pylist() == [0, 3]


@pytest.mark.parametrize(("vocab_size", "name"), [(65_536, "uint16"), (65_537, "uint32")])
def test_a_vocabulary_takes_two_bytes_a_token_as_long_as_it_fits(vocab_size, name):
    assert token_dtype(vocab_size).name == name


@pytest.mark.parametrize("ids", [[], [-1], [65_536], [0.5], [[1]]])
def test_the_writer_refuses_what_are_not_tokens_of_its_type(ids):
    writer = TokenWriter(io.BytesIO(), io.BytesIO(), "uint16")
    with pytest.raises(ValueError, match="document d"):
        writer.add(ids, id="d", snapshot="S", bytes=1)


def test_reading_outside_the_set_is_an_error_and_not_a_shorter_array(tmp_path):
    found = TokenSet(made(tmp_path, [[1, 2, 0]], shards=1))
    for start, length in ((0, 4), (3, 1), (-1, 1)):
        with pytest.raises(IndexError):
            found.window(start, length)
    with pytest.raises(IndexError):
        found.document_at(3)


def test_a_workspace_without_a_mix_says_which_command_makes_one(tmp_path):
    with pytest.raises(UsageError) as caught:
        TokenSet(Workspace(tmp_path))
    assert str(caught.value) == f"{tmp_path} has no mix/tokens.json: run `curate mix` first"


def test_a_workspace_that_is_named_in_an_error_keeps_its_secrets(tmp_path):
    workspace = Workspace("memory://me:secret@bucket/run?token=secret")
    with pytest.raises(UsageError) as caught:
        TokenSet(workspace)
    assert str(caught.value).startswith("memory://bucket/run has no ")


def test_a_token_file_of_the_wrong_size_is_named(tmp_path):
    workspace = made(tmp_path, [[1, 2, 0], [3, 0]])
    with (tmp_path / "mix/tokens/00001.bin").open("ab") as stream:
        stream.write(b"\0\0")
    with pytest.raises(CurateError, match=r"mix/tokens/00001\.bin has 10 bytes, .* says 8 "):
        TokenSet(workspace)
    (tmp_path / "mix/tokens/00001.bin").unlink()
    with pytest.raises(CurateError, match=r"00001\.bin is missing"):
        TokenSet(workspace)


def test_sums_that_contradict_the_shards_are_refused(tmp_path):
    workspace = made(tmp_path, [[1, 2, 0], [3, 0]])
    facts = workspace.read_json("mix/tokens.json")
    workspace.write_json("mix/tokens.json", facts | {"tokens": 6})
    with pytest.raises(UsageError, match="hold 5 tokens, the total says 6"):
        TokenSet(workspace)
    workspace.write_json("mix/tokens.json", {key: value for key, value in facts.items() if key != "eos"})
    with pytest.raises(UsageError, match="eos"):
        TokenSet(workspace)


def test_the_identity_depends_on_the_tokens_and_not_on_the_place(tmp_path):
    one, same = (TokenSet(made(tmp_path / name, [[1, 2, 0], [3, 0]])) for name in "ab")
    other = TokenSet(made(tmp_path / "c", [[1, 2, 0], [4, 0]]))
    assert one.sha256 == same.sha256 != other.sha256


def test_a_remote_mix_is_copied_once_and_its_checksums_tested(tmp_path):
    workspace = made(None, [[1, 2, 0], [3, 0]], url=f"memory://{tmp_path.name}-tokens")
    found = TokenSet(workspace, cache=tmp_path)
    assert found.window(1, 4).tolist() == [2, 0, 3, 0]
    assert found.document_at(4).id == "tokens-1"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(f"{shard.sha256}.bin" for shard in found.shards)
    workspace.write_bytes("mix/tokens/00000.bin", b"\1" * 12)
    assert TokenSet(workspace, cache=tmp_path).window(0, 2).tolist() == [1, 2]
    with pytest.raises(CurateError, match="SHA-256"):
        TokenSet(workspace, cache=tmp_path / "fresh")
    assert list((tmp_path / "fresh").iterdir()) == []


def test_the_token_format_and_the_configuration_need_no_torch():
    code = "import sys, curate.pretrain.tokens, curate.pretrain.config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_index_holds_the_number_of_the_repeat(tmp_path):
    with (tmp_path / "a").open("wb") as tokens, (tmp_path / "b").open("wb") as index:
        writer = TokenWriter(tokens, index, "uint16")
        for repeat in range(3):
            writer.add(np.array([5, 0]), id="d", snapshot="S", bytes=4, bucket="x", repeat=repeat)
        writer.close()
    assert pq.read_table(tmp_path / "b").column("repeat").to_pylist() == [0, 1, 2]
    assert json.loads(json.dumps(writer.entry("tokens/00000", "f" * 64)))["tokens"] == 6


@pytest.mark.parametrize(("version", "read"), [(1, True), (2, True), (3, False)])
def test_a_mix_of_a_later_version_is_refused_and_one_from_before_languages_is_read(tmp_path, version, read):
    workspace = made(tmp_path, [[1, 2, 0], [3, 0]])
    facts = workspace.read_json("mix/tokens.json")
    workspace.write_json("mix/tokens.json", facts | {"schema_version": version})
    if read:
        assert TokenSet(workspace).tokens == facts["tokens"]
    else:
        with pytest.raises(UsageError, match="schema version 3, this program reads 1 and 2"):
            TokenSet(workspace)
