"""A checkpoint as a folder that `transformers` loads, without needing it.

| trained as | class | head |
|---|---|---|
| causal | `LlamaForCausalLM` | the vocabulary's |
| masked | `EuroBertForMaskedLM` (transformers 5) | the vocabulary's |
| causal, fine-tuned on labels | `LlamaForSequenceClassification` | `Head.score`, on the last token |
| masked, fine-tuned on labels | `EuroBertForSequenceClassification` | `Head`, on the mean |

The blocks are Llama's in all of them, the rotary layout too (`model.rotate`): only merged matrices are divided.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from curate.pipeline.errors import CurateError, DiskFull, UsageError, is_disk_full
from curate.pipeline.workspace import Workspace
from curate.pretrain.card import model_card, pipeline_tag
from curate.pretrain.classifier import Classifier
from curate.pretrain.model import Transformer
from curate.pretrain.trained import MASK, Trained, open_trained

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def export_hf(
    workspace: Workspace, output: str | os.PathLike[str], *, checkpoint: str | None = None, dtype: str = "float32"
) -> dict[str, Any]:
    """Writes the folder and gives its facts: `output`, `architecture`, `checkpoint`, `dtype`, `parameters`, `files` (bytes),
    and what `transformers.pipeline` calls the task (`pipeline`), with a `prompt` to try it.

    The folder appears under its name only when whole. UsageError where it holds something already or there is no such
    checkpoint; DiskFull where there is no space.
    """
    folder = Path(output).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{output} is there already and not an empty folder: give --output another name")
    trained = open_trained(workspace, checkpoint)
    config = hf_config(trained, dtype)
    texts = {
        "config.json": config,
        "generation_config.json": _generation_config(trained)
        if config["architectures"][0].endswith("CausalLM")
        else None,
        "tokenizer_config.json": _tokenizer_config(trained),
    }
    temporary = folder.with_name(f".{folder.name[:200]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, value in texts.items():
            if value is not None:
                (temporary / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
        (temporary / "tokenizer.json").write_text(hf_tokenizer(trained), "utf-8")
        (temporary / "README.md").write_text(model_card(workspace, trained, config, dtype), "utf-8")
        weights = {name: value.to(DTYPES[dtype]).contiguous() for name, value in hf_weights(trained.model).items()}
        save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
        sizes = {file.name: _synced(file) for file in sorted(temporary.iterdir())}
        temporary.replace(folder)
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"no space left while writing {output}: free some, then run again") from error
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise UsageError(f"{output} was filled by something else meanwhile: give --output another name") from None
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {
        "output": str(folder),
        "architecture": config["architectures"][0],
        "pipeline": pipeline_tag(trained),
        "prompt": f"Some {_mask_name(trained)} text" if pipeline_tag(trained) == "fill-mask" else "Some text",
        "checkpoint": trained.checkpoint.name,
        "dtype": dtype,
        "parameters": sum(value.numel() for value in weights.values()),
        "files": sizes,
    }


def _synced(file: Path) -> int:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
    return file.stat().st_size


# --- weights ----------------------------------------------------------------------------------------------------------


def hf_weights(model: Transformer) -> dict[str, Tensor]:
    """The weights under the names that `transformers` has for them; a tied head is not among them."""
    shape = model.shape
    found = {"model.embed_tokens.weight": model.embedding.weight, "model.norm.weight": model.norm.weight}
    query, kept = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    for number, block in enumerate(model.blocks):
        name = f"model.layers.{number}"
        parts = block.attention.qkv.weight.split((query, kept, kept))
        gate, up = block.ffn.gate_up.weight.chunk(2)
        found |= {f"{name}.self_attn.{letter}_proj.weight": part for letter, part in zip("qkv", parts, strict=True)}
        found |= {
            f"{name}.self_attn.o_proj.weight": block.attention.out.weight,
            f"{name}.mlp.gate_proj.weight": gate,
            f"{name}.mlp.up_proj.weight": up,
            f"{name}.mlp.down_proj.weight": block.ffn.down.weight,
            f"{name}.input_layernorm.weight": block.attention_norm.weight,
            f"{name}.post_attention_layernorm.weight": block.ffn_norm.weight,
        }
    if isinstance(model, Classifier):
        head = model.classifier.state_dict()
        names = {"score": "score"} if shape.causal else {"score": "classifier", "dense": "dense"}
        for name, value in head.items():
            layer, _, kind = name.partition(".")
            found[f"{names[layer]}.{kind}"] = value
    elif model.head is not None:
        found["lm_head.weight"] = model.head.weight
    return {name: value.detach().cpu() for name, value in found.items()}


# --- what stands beside them ------------------------------------------------------------------------------------------


def hf_config(trained: Trained, dtype: str = "float32") -> dict[str, Any]:
    """`config.json`: what both transformers 4 and 5 read (`rope_theta` and `rope_parameters`, `torch_dtype` and `dtype`).

    `vocab_size` counts the rows of the embedding, those that were added for a GPU's sake included.
    """
    shape, labels = trained.model.shape, trained.finetune.get("labels")
    kind = "SequenceClassification" if labels else ("CausalLM" if shape.causal else "MaskedLM")
    found: dict[str, Any] = {
        "architectures": [("Llama" if shape.causal else "EuroBert") + f"For{kind}"],
        "model_type": "llama" if shape.causal else "eurobert",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": shape.norm_eps,
        "max_position_embeddings": trained.length,
        "rope_theta": shape.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": shape.tied and not labels,
        "initializer_range": 0.02,
        "bos_token_id": trained.eos,
        "eos_token_id": trained.eos,
        "pad_token_id": trained.eos if labels else None,
        "dtype": dtype,
        "torch_dtype": dtype,
    }
    if shape.causal:
        found["use_cache"] = True
    else:
        found |= {"mask_token_id": trained.mask, "classifier_pooling": "mean"}
    if labels:
        found |= {
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
            "problem_type": "single_label_classification",
        }
    return found


def _generation_config(trained: Trained) -> dict[str, Any]:
    """Never an id that no text has."""
    unused = list(range(trained.vocab_size, trained.model.shape.vocab_size))
    found: dict[str, Any] = {
        "bos_token_id": trained.eos, "eos_token_id": trained.eos, "pad_token_id": trained.eos, "do_sample": True,
        "temperature": 0.8,
    }  # fmt: skip
    return found | ({"suppress_tokens": unused} if unused else {})


def hf_tokenizer(trained: Trained) -> str:
    """`tokenizer.json`: it encodes as the mix did, so it adds, cuts and fills up nothing.

    Of a masked model it has the mask token. For a classifier it puts the end-of-text token in front, as in fine-tuning.
    """
    from tokenizers import Tokenizer

    found = json.loads(trained.tokenizer_json)
    found |= {"truncation": None, "padding": None, "post_processor": None}
    name = _mask_name(trained)
    if name is not None and trained.tokenizer.token_to_id(name) is None:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        found["added_tokens"] = [
            *found.get("added_tokens", []), {"id": trained.mask, "content": name, "special": True} | flags,
        ]  # fmt: skip
    if trained.task == "labels":
        end = trained.tokenizer.id_to_token(trained.eos)
        special, text = {"SpecialToken": {"id": end, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        found["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [special, text],
            "pair": [special, text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {end: {"id": end, "ids": [trained.eos], "tokens": [end]}},
        }
    written = json.dumps(found, ensure_ascii=False)
    if name is not None and Tokenizer.from_str(written).token_to_id(name) != trained.mask:
        raise CurateError(
            f"the tokenizer has ids that it does not use, so {name} cannot have the id {trained.mask} that the model learnt: "
            "give the mix a tokenizer with a mask token (`mix.tokenizer.path`) and train again"
        )
    return written


def _mask_name(trained: Trained) -> str | None:
    """The token that hides another; one that the tokenizer does not have yet, where it has none."""
    if trained.mask is None:
        return None
    known = trained.tokenizer.id_to_token(trained.mask)
    if known is not None:
        return str(known)
    return next(name for name in (MASK, "<|mask|>", "<|curate-mask|>") if trained.tokenizer.token_to_id(name) is None)


def _tokenizer_config(trained: Trained) -> dict[str, Any]:
    end = trained.tokenizer.id_to_token(trained.eos)
    found = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": trained.length,
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left" if trained.model.shape.causal and trained.task is None else "right",
        "model_input_names": ["input_ids", "attention_mask"],
    }
    name = _mask_name(trained)
    return found | ({"mask_token": name} if name is not None else {})
