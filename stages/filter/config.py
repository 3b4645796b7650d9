"""The recipe's section `filter`: what is measured, which lines go, which rules a document must pass, what is masked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from curate.pipeline.config import Strict
from curate.pipeline.errors import nearest
from curate.stages.filter.rules import Rule, Rules

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
    """Labels of the model that are kept, such as `[en, de]`, or `all`."""
    threshold: float = Field(default=0.0, ge=0, le=1)
    """The least score (the model's probability of the label) that is kept."""

    @field_validator("model")
    @classmethod
    def _there(cls, model: str) -> str:
        if model != LID_176 and not Path(model).is_file():
            raise ValueError(f"no such file; give {LID_176} or the path of a fastText model")
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
        if languages != "all" and info.data.get("model") == LID_176:
            for language in languages:
                if language not in LID_176_LANGUAGES:
                    raise ValueError(
                        f"{LID_176} knows no language {language!r}{nearest(language, set(LID_176_LANGUAGES))}"
                    )
        return languages


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


class PiiConfig(Strict):
    """What is masked in the documents that are kept; the signals `pii_emails` and `pii_ips` count in any case."""

    emails: bool = False
    """Replace e-mail addresses by one of two example addresses."""
    ips: bool = False
    """Replace public IPv4 addresses by one of six fixed ones."""


class FilterConfig(Strict):
    """Defaults measure everything and drop nothing: the rules are the recipe's."""

    language: LanguageConfig | None = Field(default_factory=LanguageConfig)
    """Asked before the rules. null: no language is measured."""
    lines: LinesConfig | None = None
    """null: the text stays as extracted, and signals of the edited text measure that."""
    rules: Rules = Field(default_factory=dict)
    """Signal: {min: …, max: …} or {is: …}, in the order in which they are asked; null switches a rule off."""
    pii: PiiConfig = Field(default_factory=PiiConfig)

    @property
    def active(self) -> dict[str, Rule]:
        """The rules that are not switched off."""
        return {name: rule for name, rule in self.rules.items() if rule is not None}
