"""A sentence encoder of a few kilobytes, with random weights, in the form of a Hugging Face folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

VOCABULARY = {
    "cooking": "oven butter flour bake stir recipe sugar dough",
    "law": "court judge appeal statute lawyer verdict trial clause",
    "sport": "goal match league striker penalty referee stadium coach",
}
WIDTH, HEADS, LAYERS, INNER, POSITIONS = 32, 4, 2, 48, 24


def write_encoder(folder: Path, seed: int = 0, **config: Any) -> Path:
    """A BERT folder with random weights."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *" ".join(VOCABULARY.values()).split()]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {
        "model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH, "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS, "max_position_embeddings": POSITIONS, "layer_norm_eps": 1e-12,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(about | config))
    chance = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray[Any, Any]:
        return (chance.normal(size=shape) / math.sqrt(shape[-1])).astype(np.float32)

    arrays = {
        "embeddings.word_embeddings.weight": drawn(len(words), WIDTH),
        "embeddings.position_embeddings.weight": drawn(POSITIONS, WIDTH) / 4,
        "embeddings.token_type_embeddings.weight": drawn(2, WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        stem = f"encoder.layer.{layer}."
        shapes = {f"attention.self.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value")}
        shapes |= {
            "attention.output.dense": (WIDTH, WIDTH),
            "intermediate.dense": (INNER, WIDTH),
            "output.dense": (WIDTH, INNER),
        }
        for name, shape in shapes.items():
            arrays[f"{stem}{name}.weight"], arrays[f"{stem}{name}.bias"] = drawn(*shape), drawn(shape[0])
        norms += [f"{stem}attention.output.LayerNorm", f"{stem}output.LayerNorm"]
    for name in norms:
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = 1 + drawn(WIDTH), drawn(WIDTH)
    save_file(arrays, folder / "model.safetensors")
    return folder
