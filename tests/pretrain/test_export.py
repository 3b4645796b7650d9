"""The exported folder, read by transformers: the same logits, the same ids; and what is refused."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mixes import EOS, byte_tokenizer
from safetensors.torch import load_file
from small_models import labelled, write_checkpoint, write_rows

from curate.pipeline.errors import CurateError, DiskFull, UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain import export as exports
from curate.pretrain.classifier import Classifier
from curate.pretrain.export import export_hf
from curate.pretrain.finetune import FinetuneConfig, finetune
from curate.pretrain.trained import open_trained

MODELS = {
    "tied": {},
    "untied": {"tied": False, "rope_theta": 500_000.0},
    "grouped": {"kv_heads": 2},
    "one key": {"kv_heads": 1, "tied": False},
    "masked": {"objective": "masked"},
    "masked untied": {"objective": "masked", "tied": False, "kv_heads": 2},
}


def exported(folder: Path, dtype: str = "float32", **settings):
    """(the model, the folder with its export)."""
    workspace = Workspace(folder / "w")
    write_checkpoint(workspace, **settings)
    export_hf(workspace, folder / "hf", dtype=dtype)
    return open_trained(workspace), folder / "hf"


def hugging_face(folder: Path, **options):
    transformers = pytest.importorskip("transformers")
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    found, info = getattr(transformers, architecture).from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return found


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_transformers_gives_the_same_logits(tmp_path, name):
    trained, folder = exported(tmp_path, **MODELS[name])
    theirs = hugging_face(folder)
    expected = "EuroBertForMaskedLM" if name.startswith("masked") else "LlamaForCausalLM"
    assert type(theirs).__name__ == expected
    tokens = torch.randint(0, 257, (2, 64), generator=torch.Generator().manual_seed(0))
    tokens[0, 5] = trained.eos
    logits = trained.model(tokens)
    assert logits.std() > 0.5, "a test of logits that are all alike would show nothing"
    torch.testing.assert_close(theirs(input_ids=tokens).logits, logits, rtol=0, atol=1e-4)


@torch.no_grad()
def test_weights_of_16_bits_are_written_and_loaded_as_such(tmp_path):
    trained, folder = exported(tmp_path, dtype="bfloat16")
    weights = load_file(folder / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    assert weights["model.embed_tokens.weight"].equal(trained.model.embedding.weight.bfloat16())
    theirs = hugging_face(folder)
    assert theirs.dtype == torch.bfloat16
    tokens = torch.arange(0, 40)[None]
    ours, found = trained.model(tokens), theirs(input_ids=tokens).logits.float()
    assert torch.nn.functional.cosine_similarity(ours, found, dim=-1).min() > 0.999


def test_the_program_does_not_need_transformers(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    _, folder = exported(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_the_configuration_is_what_old_and_new_transformers_read(tmp_path):
    _, folder = exported(tmp_path, rope_theta=500_000.0, kv_heads=2)
    found = json.loads((folder / "config.json").read_text())
    assert found["rope_theta"] == found["rope_parameters"]["rope_theta"] == 500_000.0
    assert (found["vocab_size"], found["max_position_embeddings"], found["num_key_value_heads"]) == (320, 64, 2)
    assert found["bos_token_id"] == found["eos_token_id"] == 256
    assert found["dtype"] == found["torch_dtype"] == "float32"


def test_ids_that_no_text_has_are_never_generated(tmp_path):
    workspace = Workspace(tmp_path / "w")
    model = write_checkpoint(workspace, tied=False, folder="pretrain/checkpoints")
    with torch.no_grad():
        model.head.weight[257:] = model.norm.weight.sign() * 9
        model.head.weight[290:] *= -1
    state = open_trained(workspace).checkpoint.state
    from curate.pretrain.checkpoint import save_checkpoint

    kept = {key: state[key] for key in ("config", "model", "data", "vocabulary")}
    save_checkpoint(workspace, 9, model, [], kept, byte_tokenizer().to_str().encode())
    export_hf(workspace, tmp_path / "hf")
    theirs = hugging_face(tmp_path / "hf")
    with torch.no_grad():
        assert int(theirs(input_ids=torch.tensor([[65]])).logits[0, -1].argmax()) >= 257
        written = theirs.generate(torch.tensor([[65]]), max_new_tokens=30, do_sample=False)
    assert int(written.max()) < 257


# --- tokenizers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    trained, folder = exported(tmp_path_factory.mktemp("tokenizer"))
    return trained, transformers.AutoTokenizer.from_pretrained(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from([EOS, " ", "\n", "a", "naïve", "日本", "🙂", "'s", " .", "[MASK]"]) | st.text(), max_size=8
    )
)
def test_the_tokenizer_gives_the_ids_of_training_and_the_text_back(tokenizers, parts):
    trained, theirs = tokenizers
    text = "".join(parts)
    ids = theirs(text, split_special_tokens=True).input_ids
    assert ids == trained.encode(text)
    assert theirs.decode(ids) == text
    if EOS not in text:
        assert theirs(text).input_ids == ids


def test_the_tokenizer_knows_the_special_tokens(tokenizers):
    _, theirs = tokenizers
    assert (theirs.eos_token_id, theirs.bos_token_id, theirs.pad_token_id, theirs.mask_token_id) == (
        256,
        256,
        256,
        None,
    )
    assert theirs(f"a{EOS}b").input_ids.count(256) == 1
    assert theirs.model_max_length == 64


def test_a_masked_models_tokenizer_has_the_mask_that_training_added(tmp_path):
    transformers = pytest.importorskip("transformers")
    trained, folder = exported(tmp_path, objective="masked")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert (trained.mask, theirs.mask_token, theirs.mask_token_id) == (257, "[MASK]", 257)
    assert theirs("the [MASK].").input_ids == [*trained.encode("the "), 257, *trained.encode(".")]
    pipe = transformers.pipeline("fill-mask", model=str(folder), device="cpu")
    assert len(pipe("the [MASK] a", top_k=3)) == 3


def wordpiece(gap: bool = False):
    """BERT's tokenizer, with what it puts around a text; `gap`: with ids that it does not use."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "sea", "##s", "."]
    if gap:
        words.remove("[MASK]")
    vocabulary = {word: number + (50 if gap and number > 5 else 0) for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([word for word in words if word.startswith("[")])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.enable_truncation(4)
    return tokenizer


def test_a_given_tokenizer_keeps_its_mask_and_adds_and_cuts_nothing(tmp_path):
    transformers = pytest.importorskip("transformers")
    trained, folder = exported(tmp_path, objective="masked", tokenizer=wordpiece(), eos=2, mask=3)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    text = "The seas. The seas. the"
    assert trained.encode(text) == theirs(text).input_ids == [4, 5, 6, 7, 4, 5, 6, 7, 4]
    assert (theirs.mask_token_id, theirs.eos_token_id) == (3, 2)


def test_a_mask_that_the_tokenizer_cannot_hold_is_refused(tmp_path):
    workspace = Workspace(tmp_path / "w")
    write_checkpoint(workspace, objective="masked", tokenizer=wordpiece(gap=True), eos=2, mask=57)
    with pytest.raises(CurateError, match=r"\[MASK\] cannot have the id 57"):
        export_hf(workspace, tmp_path / "hf")


# --- classifiers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_a_classifier_gives_the_same_logits_also_of_texts_of_different_lengths(tmp_path, objective):
    transformers = pytest.importorskip("transformers")
    workspace = Workspace(tmp_path / "w")
    write_checkpoint(workspace, objective=objective)
    rows = write_rows(tmp_path / "rows.jsonl", labelled(30))
    config = FinetuneConfig(task="labels", columns={"text": "text", "label": "label"}, epochs=2, device="cpu")
    finetune(workspace, "topics", [rows], config, progress=lambda event: None)
    export_hf(workspace, tmp_path / "hf", checkpoint="topics")
    trained, theirs = open_trained(workspace, "topics"), hugging_face(tmp_path / "hf")
    assert isinstance(trained.model, Classifier)
    assert list(theirs.config.id2label.values()) == ["rain", "stars", "walls"]
    texts = ["rain on the walls", "stars", "a longer text of stars and of rain"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        ours = [trained.model.classify(torch.tensor([[256, *ids]]), torch.tensor([len(ids) + 1]))[0]
                for ids in map(trained.encode, texts)]  # fmt: skip
        torch.testing.assert_close(theirs(**batch).logits, torch.stack(ours), rtol=0, atol=1e-4)


# --- the folder -------------------------------------------------------------------------------------------------------


def test_the_card_says_what_the_model_is(tmp_path):
    workspace = Workspace(tmp_path / "w")
    write_checkpoint(workspace, step=20)
    lines = [{"step": 10, "validation": {"loss": 3.0, "bits_per_byte": 2.5}}, {"step": 30, "validation": {"loss": 1.0}}]
    cut = b'\0\0\0\n{"step": 20, "loss'  # as a crash of the machine leaves it
    workspace.write_bytes("pretrain/log.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in lines) + cut)
    export_hf(workspace, tmp_path / "hf")
    card = (tmp_path / "hf" / "README.md").read_text()
    for fact in ("| tokens of training | 5,120 |", f"`{'0' * 64}`", "| validation bits per byte | 2.5000 |",
                 "| vocabulary | 257 (rows of the embedding: 320) |", "Ids from 257 on stand for nothing"):  # fmt: skip
        assert fact in card
    assert "validation loss | 1.0" not in card, "of a later step"


def test_a_folder_that_holds_something_is_refused_and_left_as_it_is(tmp_path):
    workspace = Workspace(tmp_path / "w")
    write_checkpoint(workspace)
    (tmp_path / "hf").mkdir()
    export_hf(workspace, tmp_path / "hf")
    before = {path.name: path.read_bytes() for path in (tmp_path / "hf").iterdir()}
    with pytest.raises(UsageError, match="give --output another name"):
        export_hf(workspace, tmp_path / "hf")
    assert {path.name: path.read_bytes() for path in (tmp_path / "hf").iterdir()} == before


def test_a_full_disk_leaves_no_half_of_a_folder(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path / "w")
    write_checkpoint(workspace)

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exports, "save_file", full)
    with pytest.raises(DiskFull, match="no space left while writing"):
        export_hf(workspace, tmp_path / "hf")
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
