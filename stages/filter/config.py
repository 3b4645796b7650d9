"""The recipe's section `filter`: what is measured, which lines go, which rules a document must pass, what is masked."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from curate.pipeline.config import Strict
from curate.stages.filter import fasttext_file
from curate.stages.filter.languages import PREFIX, canonical, missing, near
from curate.stages.filter.registry import Signal, registered, unknown
from curate.stages.filter.rules import Overlay, Rules, laid_over, sensible
from curate.stages.urls.lists import UrlLists

LID_176 = "lid.176"

_CODES = """
af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da de diq
    dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id ie ilo io is it ja
    jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms mt mwl my myv mzn
    nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn sco sd sh si sk sl so sq sr
    su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf yi yo yue zh
"""
LID_176_LANGUAGES = frozenset(_CODES.split())
"""Labels of fastText's lid.176: ISO 639-1, else 639-3, and a few Wikipedia codes."""


class LanguageConfig(Strict):
    """Which language a document is in, by a fastText model on its text as extracted, newlines as spaces."""

    model: str = Field(default=LID_176, min_length=1, json_schema_extra={"file": True})
    """`lid.176`, which is fetched once into the cache, or the path of a fastText model file."""
    languages: Literal["all"] | list[str] = "all"
    """`all`, or what is kept: languages (`de` is also GlotLID's `deu_Latn`) or single labels of the model (`zho_Hant`)."""
    threshold: float = Field(default=0.0, ge=0, le=1)
    """The least score (the model's probability of the label) that is kept."""

    @field_validator("model")
    @classmethod
    def _there(cls, model: str) -> str:
        if model != LID_176 and not Path(model).is_file():
            raise ValueError(f"no such file; give {LID_176} or the path of a fastText model")
        labels_of(model)
        return model

    @field_validator("languages", mode="before")
    @classmethod
    def _listed(cls, languages: Any) -> Any:
        if languages == "all" or (
            isinstance(languages, list) and languages and all(isinstance(x, str) for x in languages)
        ):
            return languages
        if isinstance(languages, list) and False in languages:
            raise ValueError('Norwegian is written "no", in quotes: YAML reads a bare no as false')
        raise ValueError("give all, or a list of languages such as [en, de]")

    @field_validator("languages")
    @classmethod
    def _known(cls, languages: Literal["all"] | list[str], info: ValidationInfo) -> Literal["all"] | list[str]:
        model = info.data.get("model")
        problem = missing(languages, labels_of(model), model) if languages != "all" and model else None
        if problem:
            raise ValueError(problem)
        return languages


def labels_of(model: str) -> frozenset[str]:
    """The labels that a model may give. ValueError where the file is no fastText classifier."""
    if model == LID_176:
        return LID_176_LANGUAGES
    facts = Path(model).stat()
    return _labels(model, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _labels(path: str, size: int, modified: int) -> frozenset[str]:
    """Kept as long as size and time of the file stay: GlotLID's takes a second."""
    try:
        return frozenset(label.removeprefix(PREFIX) for label in fasttext_file.labels(Path(path)))
    except OSError as error:
        raise ValueError(f"cannot read it: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"no fastText classifier: {error}") from error


POLICY_PHRASES = (
    "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies",
)  # fmt: skip
"""C4's: "javascript", then datatrove's `POLICY_SUBSTRINGS`."""


class LinesConfig(Strict):
    """Edits line by line, before the signals that measure the edited text and the rules on these. Defaults: FineWeb's."""

    citations: bool = True
    """Strip `[12]`, `[]`, `[edit]` and `[citation needed]`."""
    longest_word: int | None = Field(default=1000, ge=1)
    """Drop a line with a longer word (characters)."""
    fewest_words: int = Field(default=3, ge=0)
    """Drop a line of fewer words, and with any number above 0 empty ones."""
    terminal: bool = False
    """Drop a line that does not end in a terminal mark, as C4 does and FineWeb does not."""
    phrases: list[str] = Field(default_factory=lambda: list(POLICY_PHRASES))
    """Drop a line with any of these; ASCII letters match in either case."""

    @field_validator("phrases")
    @classmethod
    def _not_empty(cls, phrases: list[str]) -> list[str]:
        if any(not phrase.strip() for phrase in phrases):
            raise ValueError("an empty phrase is in every line")
        return phrases


class RepeatedLinesConfig(Strict):
    """CCNet's paragraph deduplication: lines that stand elsewhere in the snapshot too are removed, before all other edits.

    Compared after lower-casing, digits as 0, without punctuation and accents (Wenzek et al. 2020, section 3.1), among all
    documents that come in, whatever the rules then say of them.
    """

    keep: Literal["first", "none"] = "first"
    """`first`: the line stays in one document, that whose id has the smallest hash; `none`: it goes everywhere, as in CCNet."""
    documents: int = Field(default=2, ge=2)
    """A line is repeated if so many documents of the snapshot hold it."""
    least_chars: int = Field(default=1, ge=1)
    """Shorter lines (characters after normalisation) are never repeated."""
    memory_mb: int = Field(default=1024, ge=64, le=1 << 20, json_schema_extra={"output": False})
    """Memory of one task that compares lines, in MiB: decides into how many parts the work is cut, never what is removed.
    Some thousand make a snapshot of tens of thousands of shards quicker."""


Masks = bool | list[str]
"""False: left as they are; true: the usual masks; a list: masks of one's own, one chosen by the address's hash."""


class PiiConfig(Strict):
    """What is masked in the documents that are kept; the signals `pii_…` count in any case, rules on them drop by count."""

    emails: Masks = False
    """E-mail addresses. true: FineWeb's two example addresses."""
    ips: Masks = False
    """Public IPv4 and IPv6 addresses. true: FineWeb's six IPv4 addresses, and for IPv6 six of the prefix 2001:db8::/32."""
    phones: Masks = False
    """Telephone numbers. true: ten, `+1-555-0100` and the like, which belong to nobody."""
    ibans: Masks = False
    """International bank account numbers. true: one whose check digits are wrong."""

    @field_validator("*", mode="before")
    @classmethod
    def _listed(cls, masks: Any) -> Any:
        if isinstance(masks, bool) or (isinstance(masks, list) and masks and all(isinstance(x, str) for x in masks)):
            return masks
        raise ValueError('give true, false, or a list of masks such as ["|||EMAIL_ADDRESS|||"]')

    @field_validator("*")
    @classmethod
    def _no_address(cls, masks: Masks) -> Masks:
        for mask in masks if isinstance(masks, list) else ():
            if not mask:
                raise ValueError("an empty mask would join what stands on both sides of it")
            if ("@" in mask or any(sign.isdigit() for sign in mask)) and _is_found(mask):
                raise ValueError(f"{mask!r} is an address itself, and would be masked again")
        return masks


def _is_found(mask: str) -> bool:
    """Only asked of masks that look like it: the finders load Numba."""
    from curate.stages.filter import pii
    from curate.stages.text import segment

    return len(pii.find(segment([f"Tel. {mask}"]))) > 0


def _code(label: str, language: LanguageConfig | None) -> str:
    """A language's canonical code. ValueError for one that the model does not give."""
    if language is None:
        raise ValueError(f"no page would be asked for {label!r}: filter.language is null, so no language is measured")
    code, labels = canonical(label) or label, labels_of(language.model)
    if code not in {canonical(name) for name in labels}:
        raise ValueError(f"{language.model} knows no language {label!r}{near(label, labels)}")
    return code


def _error(message: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{problem}", {"problem": message})


URL_SIGNALS = {
    "url_blocklisted": "blocklists",
    "url_banned_words": "banned_words",
    "url_soft_words": "soft_words",
    "url_banned_substrings": "banned_substrings",
    "rps_doc_ut1_blacklist": "blocklists",
}
"""Signals that are 0 for every page unless `filter.urls` has the list."""


class FilterConfig(Strict):
    """Defaults measure everything and drop nothing: the rules are the recipe's."""

    counting: Literal["paper", "datatrove"] = "paper"
    """How words, lines and sentences are counted: as the papers say, or as datatrove's code does (docs/filters.md)."""
    signals: Literal["all"] | list[str] = "all"
    """Which signals are measured and stored; those that a rule asks for always are."""
    language: LanguageConfig | None = Field(default_factory=LanguageConfig)
    """Asked before the rules. null: no language is measured."""
    urls: UrlLists | None = None
    """Lists that the signals `url_…` count by; rules on them decide. null: none. `extract.admission` drops before parsing."""
    repeated_lines: RepeatedLinesConfig | None = None
    """null: lines are not compared across documents."""
    lines: LinesConfig | None = None
    """null: the text stays as extracted, and signals of the edited text measure that."""
    stop_words: dict[str, list[str]] = Field(default_factory=dict)
    """Stop words by language, in place of those that come with curate; null: none."""
    rules: Rules = Field(default_factory=dict)
    """Signal: {min: …, max: …} or {is: …}, in the order in which they are asked; null switches a rule off."""
    rules_by_language: dict[str, Overlay] = Field(default_factory=dict)
    """Rules of one language, laid over `rules`: {de: {mean_word_length: {max: 12}}}; null switches off: a bound, a rule, or all
    that the recipe below says of a language, or of any."""
    pii: PiiConfig = Field(default_factory=PiiConfig)

    @property
    def wanted(self) -> list[Signal]:
        """The signals that are measured, in the order in which they are registered."""
        if self.signals == "all":
            return list(registered().values())
        rules = (self.rules, *self.rules_by_language.values())
        asked = {*self.signals, *(name for own in rules for name, rule in own.items() if rule is not None)}
        return [signal for name, signal in registered().items() if name in asked]

    @field_validator("signals")
    @classmethod
    def _registered(cls, names: Literal["all"] | list[str]) -> Literal["all"] | list[str]:
        for name in names if names != "all" else ():
            if name not in registered():
                raise ValueError(unknown(name))
        return names

    @field_validator("stop_words", "rules_by_language", mode="before")
    @classmethod
    def _by_code(cls, value: Any, info: ValidationInfo) -> Any:
        """Keys as canonical codes, without those of null; ValueError for a language that the model does not give, or that
        is named twice."""
        if value is None:
            return {}
        given = {key: inner for key, inner in value.items() if inner is not None} if isinstance(value, dict) else None
        if not given or "language" not in info.data:  # what is wrong there is said of `language` itself
            return value if given is None else given
        found: dict[str, Any] = {}
        for key, inner in given.items():
            if key is False:
                raise ValueError('Norwegian is written "no", in quotes: YAML reads a bare no as false')
            if info.field_name == "stop_words" and canonical(str(key)) == "en":
                code = "en"  # pages in a language without a list are asked for these too
            else:
                code = _code(str(key), info.data["language"])
            if code in found:
                raise ValueError(f"{key!r} is the language {code!r}, which is there already")
            found[code] = inner
        return found

    @field_validator("rules_by_language")
    @classmethod
    def _sensible_together(cls, overlays: dict[str, Overlay], info: ValidationInfo) -> dict[str, Overlay]:
        errors: list[InitErrorDetails] = []
        for code, own in overlays.items():
            merged = laid_over(info.data.get("rules", {}), own)
            try:
                sensible({name: rule for name, rule in merged.items() if name in own})
            except ValidationError as error:
                errors += [
                    InitErrorDetails(type=_error(item["msg"]), loc=(code, *item["loc"]), input=None)
                    for item in error.errors()
                ]
        if errors:
            raise ValidationError.from_exception_data("rules_by_language", errors)
        return overlays

    @model_validator(mode="after")
    def _lists_there(self) -> Self:
        """ValidationError for a rule that could never drop, or never keep, for want of the list that its signal counts by."""
        errors: list[InitErrorDetails] = []
        above: list[tuple[tuple[str, ...], Overlay]] = [(("rules",), self.rules)]
        above += [(("rules_by_language", code), own) for code, own in self.rules_by_language.items()]
        for path, own in above:
            for name, rule in own.items():
                key = URL_SIGNALS.get(name)
                if rule is not None and key and not getattr(self.urls, key, None):
                    said = f"every page has 0 without a list: give filter.urls.{key}, or null in place of the rule"
                    errors.append(InitErrorDetails(type=_error(said), loc=(*path, name), input=None))
        for code, words in self.stop_words.items():
            rule = laid_over(self.rules, self.rules_by_language.get(code, {})).get("stop_word_count")
            if rule is not None and (rule.min or 0) > len(set(words)):
                said = (
                    f"{len(set(words))} different words, and stop_word_count asks for at least {rule.min:g}: no page could "
                    f"pass (rules_by_language: {{{code}: {{stop_word_count: null}}}} switches the rule off)"
                )
                errors.append(InitErrorDetails(type=_error(said), loc=("stop_words", code), input=None))
        if errors:
            raise ValidationError.from_exception_data("filter", errors)
        return self
