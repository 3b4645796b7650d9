"""The recipe: one YAML file that says everything a run does; typed, and refused whole if any key is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, create_model

from curate.pipeline.config import Strict
from curate.pipeline.errors import UsageError, nearest
from curate.pipeline.stage import import_module


class InputConfig(Strict):
    """What comes in: files, their format and, for JSONL and Parquet, which column is what."""

    paths: list[str] = Field(default_factory=list)
    """Files, globs or URLs; `--input` replaces them."""
    snapshot: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the crawl for every input; otherwise from the files (warcinfo, then path), else `default`."""
    format: str | None = Field(default=None, pattern="^(warc|jsonl|parquet)$")
    """Otherwise by the file's name."""
    text: str = "text"
    html: str | None = None
    """A column with HTML to extract, instead of `text`."""
    id: str = "id"
    url: str = "url"
    date: str = "date"


class RunConfig(Strict):
    """How the run works; nothing here changes what is written."""

    attempts: int = Field(default=3, ge=1, le=20)
    """Tries before a task is quarantined whole."""
    backoff_seconds: float = Field(default=1.0, ge=0, le=600)
    """Wait before the second try; doubled for each further one."""
    tasks_per_worker: int = Field(default=64, ge=1)
    """A worker process is replaced after so many tasks, which bounds leaks of native libraries."""


class RecipeHead(Strict):
    """The keys of a recipe beside the stages' own sections."""

    name: str = "unnamed"
    description: str = ""
    seed: int = Field(default=0, ge=0)
    plugins: list[str] = Field(default_factory=list)
    """Modules imported before anything else, on every worker: they register signals."""
    input: InputConfig = Field(default_factory=InputConfig)
    run: RunConfig = Field(default_factory=RunConfig)


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe: typed, complete, unchangeable."""

    head: RecipeHead
    sections: Mapping[str, Strict]

    def section(self, name: str) -> Any:
        """A stage's typed configuration."""
        return self.sections[name]

    def to_yaml(self) -> str:
        """Every key with its resolved value: what the run writes to `recipe.yaml`."""
        data = self.head.model_dump(mode="json") | {
            name: section.model_dump(mode="json") for name, section in self.sections.items()
        }
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def shipped() -> dict[str, str]:
    """Names of the recipes that come with the package, and their one-line descriptions."""
    found = {}
    for entry in sorted(resources.files("curate.recipes").iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".yaml"):
            data = yaml.safe_load(entry.read_text("utf-8")) or {}
            found[entry.name.removesuffix(".yaml")] = str(data.get("description", "")).strip().split("\n")[0]
    return found


def recipe_text(source: str) -> str:
    """The YAML of a file or of a shipped recipe, as it stands."""
    return _read(source)[1]


def load_recipe(
    source: str, sections: Mapping[str, type[Strict]], settings: Sequence[str] = (), *, text: str | None = None
) -> Recipe:
    """A recipe from a file or a shipped name, with `a.b=c` settings laid over it.

    `sections` are the stages' configurations by name. With `text` the YAML is given, and `source` is only its name. Raises
    UsageError that names file, line, key and nearest valid key.
    """
    data, where = _load(source, (), text)
    for setting in settings:
        _apply(data, setting, where)
    plugins = data.get("plugins") or []
    if isinstance(plugins, list) and all(isinstance(name, str) for name in plugins):
        import_plugins(plugins)
    fields: dict[str, Any] = {name: (model, Field(default_factory=model)) for name, model in sections.items()}
    model = create_model("Recipe", __base__=RecipeHead, **fields)
    try:
        resolved = model.model_validate(data)
    except ValidationError as error:
        raise UsageError("\n".join(_describe(item, model, where, source) for item in error.errors())) from None
    head = RecipeHead(**{name: getattr(resolved, name) for name in RecipeHead.model_fields})
    return Recipe(head, {name: getattr(resolved, name) for name in sections})


def input_of(source: str, text: str) -> InputConfig:
    """What a recipe in YAML reads, and nothing else of it. Raises UsageError."""
    data, _ = _load(source, (), text)
    return load_recipe(source, {}, text=yaml.safe_dump({"input": data.get("input") or {}})).head.input


def import_plugins(modules: Sequence[str]) -> None:
    """Imports the user's own modules, from where Python finds them or the current folder; they register signals."""
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise UsageError(f"plugins: cannot import {module!r}: {error}") from error


def _read(source: str) -> tuple[str, str]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            return str(path), path.read_text("utf-8")
        except FileNotFoundError:
            raise UsageError(f"no such recipe file: {source}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read recipe {source}: {error}") from error
    names = shipped()
    if source not in names:
        raise UsageError(f"no recipe named {source!r}{nearest(source, tuple(names))} (`curate recipes` lists them)")
    return f"{source}.yaml", resources.files("curate.recipes").joinpath(f"{source}.yaml").read_text("utf-8")


def _load(
    source: str, seen: tuple[str, ...], text: str | None = None
) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    """The merged data of a recipe and of what it extends, and where (file:line) each key stands."""
    if source in seen:
        raise UsageError(f"recipes extend each other in a circle: {' -> '.join([*seen, source])}")
    file, text = _read(source) if text is None else (source, text)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f"{file}:{mark.line + 1}" if mark else file
        raise UsageError(f"{place}: not valid YAML: {problem or error}") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise UsageError(f"{file}:1: a recipe is a mapping of keys, not a {type(data).__name__}")
    where: dict[tuple[str, ...], str] = {}
    if node is not None:
        _locate(node, (), file, where)
    base = data.pop("extends", None)
    if base is None:
        return data, where
    below, places = _load(str(base), (*seen, source))
    return _merge(below, data), places | where


def _locate(node: yaml.Node, path: tuple[str, ...], file: str, where: dict[tuple[str, ...], str]) -> None:
    where.setdefault(path, f"{file}:{node.start_mark.line + 1}")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            place = f"{file}:{key.start_mark.line + 1}"
            if inner in where:
                raise UsageError(f"{place}: {'.'.join(inner)} is given twice (first at {where[inner]})")
            where[inner] = place
            _locate(value, inner, file, where)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _locate(value, (*path, str(index)), file, where)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _apply(data: dict[str, Any], setting: str, where: dict[tuple[str, ...], str]) -> None:
    name, equals, value = setting.partition("=")
    keys = tuple(name.strip().split("."))
    if not equals or not all(keys):
        raise UsageError(f"--set {setting!r}: give key=value, as in --set filter.language.threshold=0.5")
    target = data
    for depth, key in enumerate(keys[:-1]):
        inner = target.setdefault(key, {})
        if inner is None:
            inner = target[key] = {}
        if not isinstance(inner, dict):
            raise UsageError(f"--set {setting!r}: {'.'.join(keys[: depth + 1])} holds a value, not keys")
        target = inner
    try:
        target[keys[-1]] = yaml.safe_load(value) if value else None
    except yaml.YAMLError as error:
        raise UsageError(f"--set {setting!r}: {error}") from None
    for depth in range(1, len(keys) + 1):
        where.setdefault(keys[:depth], f"--set {setting}")
    where[keys] = f"--set {setting}"


def _describe(item: Any, model: type[BaseModel], where: dict[tuple[str, ...], str], source: str) -> str:
    """One line for one validation error: place, key, what is wrong, the nearest valid name."""
    path = tuple(str(part) for part in item["loc"] if part != "[key]")
    known = path
    while known and known not in where:
        known = known[:-1]
    changed = (place for key, place in where.items() if place.startswith("--set") and key[: len(path)] == path)
    place = next(changed, where.get(known, source))
    key = ".".join(path) or "recipe"
    if item["type"] == "extra_forbidden":
        return f"{place}: {key}: unknown key{nearest(path[-1], _keys_at(model, path[:-1]))}"
    message = item["msg"].removeprefix("Value error, ")
    given = item.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) and "[key]" not in item["loc"] else ""
    return f"{place}: {key}: {message}{shown}"


def _keys_at(model: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    """The keys of the section at a path; none where it is no section."""
    for part in path:
        if get_origin(model) in (dict, list):  # `part` is a name of the recipe's own, or a place
            model = get_args(model)[-1]
        elif _is_section(model) and part in model.model_fields:
            model = model.model_fields[part].annotation
        else:
            return ()
        options = get_args(model) if get_origin(model) not in (dict, list) else ()
        model = next((option for option in options if _is_section(option) or get_origin(option) in (dict, list)), model)
    return tuple(model.model_fields) if _is_section(model) else ()


def _is_section(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)
