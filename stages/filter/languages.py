"""Names of languages, the same whichever model gave them, and the stop words that come with curate.

A language's canonical name is its ISO 639-1 code, else its ISO 639-3 code: `de` for `deu_Latn` (GlotLID, NLLB), `ger`, `de-AT`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from curate.pipeline.errors import nearest

DATA = Path(__file__).with_name("languages.json")

PREFIX = "__label__"

LISTED = 200
"""So many names an error lists."""

_PAIRS = """
aar:aa abk:ab afr:af aka:ak amh:am ara:ar arg:an asm:as ava:av ave:ae aym:ay aze:az bak:ba bam:bm bel:be ben:bn
    bis:bi bod:bo bos:bs bre:br bul:bg cat:ca ces:cs cha:ch che:ce chu:cu chv:cv cor:kw cos:co cre:cr cym:cy dan:da
    deu:de div:dv dzo:dz ell:el eng:en epo:eo est:et eus:eu ewe:ee fao:fo fas:fa fij:fj fin:fi fra:fr fry:fy ful:ff
    gla:gd gle:ga glg:gl glv:gv grn:gn guj:gu hat:ht hau:ha hbs:sh heb:he her:hz hin:hi hmo:ho hrv:hr hun:hu hye:hy
    ibo:ig ido:io iii:ii iku:iu ile:ie ina:ia ind:id ipk:ik isl:is ita:it jav:jv jpn:ja kal:kl kan:kn kas:ks kat:ka
    kau:kr kaz:kk khm:km kik:ki kin:rw kir:ky kom:kv kon:kg kor:ko kua:kj kur:ku lao:lo lat:la lav:lv lim:li lin:ln
    lit:lt ltz:lb lub:lu lug:lg mah:mh mal:ml mar:mr mkd:mk mlg:mg mlt:mt mon:mn mri:mi msa:ms mya:my nau:na nav:nv
    nbl:nr nde:nd ndo:ng nep:ne nld:nl nno:nn nob:no nor:no nya:ny oci:oc oji:oj ori:or orm:om oss:os pan:pa pli:pi
    pol:pl por:pt pus:ps que:qu roh:rm ron:ro run:rn rus:ru sag:sg san:sa sin:si slk:sk slv:sl sme:se smo:sm sna:sn
    snd:sd som:so sot:st spa:es sqi:sq srd:sc srp:sr ssw:ss sun:su swa:sw swe:sv tah:ty tam:ta tat:tt tel:te tgk:tg
    tgl:tl tha:th tir:ti ton:to tsn:tn tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz ven:ve vie:vi vol:vo
    wln:wa wol:wo xho:xh yid:yi yor:yo zha:za zho:zh zul:zu
"""
_MEMBERS = """
als:sq arb:ar ayr:ay azj:az cmn:zh ekk:et fuv:ff gaz:om gug:gn khk:mn kmr:ku lvs:lv npi:ne ory:or pbt:ps pes:fa plt:mg
    quy:qu swh:sw uzn:uz ydd:yi zlm:ms zsm:ms
"""
_FORMER = """
alb:sq arm:hy baq:eu bur:my chi:zh cze:cs dut:nl fil:tl fre:fr geo:ka ger:de gre:el ice:is in:id iw:he ji:yi jw:jv mac:mk
    mao:mi may:ms mo:ro mol:ro nb:no per:fa rum:ro scc:sr scr:hr slo:sk tib:bo wel:cy
"""


def _table(pairs: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in pairs.split())


CODES = _table(_PAIRS)
"""ISO 639-3 code: ISO 639-1 code, all that there are; `nob` is `no`, as models write it."""
MEMBERS = _table(_MEMBERS)
"""The variety that stands for a macro-language in GlotLID and NLLB: the macro-language (Standard Arabic: ar, Mandarin: zh)."""
FORMER = _table(_FORMER)
"""ISO 639-2/B codes, withdrawn ones, `nb`, and Filipino, which lid.176 calls `tl`."""

ROMANISED = frozenset(
    """
    am ar as be bg bn bo dv dz el fa gu he hi hy ja ka kk km kn ko ks ky lo mk ml mn mr my ne or pa ps ru sa sd si ta te tg th
    ti ug uk ur yi zh
    """.split()
)
"""Written in another script than Latin: their labels with `Latn` name a transcription, which is kept apart (`hi_Latn`)."""

_CODE = re.compile(r"([A-Za-z]{2,3})(?:[-_](?:([A-Za-z]{4})|[A-Za-z0-9]{2,3}))*")


@functools.lru_cache(maxsize=4096)
def canonical(label: str | None) -> str | None:
    """The language's canonical name: `de` for `deu_Latn` and `de-AT`, `zh` for `cmn_Hani`, `hi_Latn` for `hin_Latn`.

    A label that is no code stays as it is; None gives None. `als` alone is lid.176's Alemannic, `als_Latn` GlotLID's Albanian.
    """
    if label is None:
        return None
    plain = label.removeprefix(PREFIX)
    match = _CODE.fullmatch(plain)
    if match is None:
        return plain
    code, script = match[1].lower(), (match[2] or "").title()
    if code == "als" and not script:
        return code
    name = CODES.get(code) or MEMBERS.get(code) or FORMER.get(code) or code
    return f"{name}_Latn" if script == "Latn" and name in ROMANISED else name


def is_wanted(label: str | None, wanted: Collection[str]) -> bool:
    """Whether a document of this label is in one of the wanted languages.

    A wanted name means every label with the same canonical name; one with a script or a country (`zho_Hant`) that label alone.
    """
    return label is not None and (label in wanted or canonical(label) in _names(frozenset(wanted)))


@functools.lru_cache(maxsize=64)
def _names(wanted: frozenset[str]) -> frozenset[str | None]:
    return frozenset(canonical(name) for name in wanted if not _is_exact(name))


def _is_exact(name: str) -> bool:
    return "_" in name or "-" in name


def missing(wanted: Iterable[str], labels: Collection[str], model: str) -> str | None:
    """What is wrong where no label of a model means one of the wanted names, with the nearest that there is; else None."""
    names = {canonical(label) or "" for label in labels}
    for name in wanted:
        if name not in labels and (_is_exact(name) or canonical(name) not in names):
            return f"{model} knows no language {name!r}{near(name, labels)}"
    return None


def near(name: str, known: Collection[str]) -> str:
    """The same language by another name, else the nearest name; all of them only where they are few (not GlotLID's)."""
    same = sorted(other for other in known if canonical(other) == canonical(name))
    if same:
        return f"; did you mean {same[0]!r}?"
    if name.isalpha() and len(name) > 3:  # the nearest code to `german` is Romansh's
        return "; give its code, such as de or deu"
    near = nearest(name, set(known))
    return near if len(known) <= LISTED or near.startswith("; did you mean") else ""


@functools.cache
def shipped() -> Mapping[str, tuple[str, ...]]:
    """The stop words in `languages.json`, by canonical name; the file says where they are from."""
    with DATA.open(encoding="utf-8") as stream:
        return {language: tuple(words.split()) for language, words in json.load(stream)["stop_words"].items()}


def stop_words(language: str | None, own: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Stop words of a language: the recipe's list, else that of curate, else English's (the recipe's, or Gopher's eight)."""
    name = canonical(language)
    for given, words in own.items():
        if given == language or canonical(given) == name:
            return tuple(words)
    return shipped().get(name or "") or stop_words("en", own)
