"""Signals of source files, by AlgebraicStack's rules (Azerbayev et al. 2023, arXiv 2310.10631, and EleutherAI/math-lm).

A plugin: a recipe with `plugins: [curate.stages.filter.code]` measures them, others do not. A file's language follows from the
end of its name, which stands in the column `url` (`input.url: path`).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from curate.stages.filter.registry import signal
from curate.stages.text.segment import Float32Array, Int32Array, Int64Array, Segmented

SOURCE = "AlgebraicStack (Azerbayev et al. 2023) and EleutherAI/math-lm, proof-pile-v2/source_code"
MOST_BYTES = 1_048_575
MOST_DIGITS = 0.5

Check = Callable[[bytes, str], bool]


@dataclass(frozen=True)
class Language:
    """What a file of a language must be. `begins`: how it must not begin, white space left out; `any_of`: strings of which it
    must hold one, if any are given; `none_of`: of which it must hold none; `check`: what else, of its bytes and name."""

    ends: tuple[str, ...]
    most_bytes: float = MOST_BYTES
    most_digits: float = MOST_DIGITS
    begins: tuple[bytes, ...] = ()
    any_of: tuple[bytes, ...] = ()
    none_of: tuple[bytes, ...] = ()
    check: Check | None = None


def _imports(*packages: str) -> tuple[bytes, ...]:
    return tuple(f"{word} {package}".encode() for package in packages for word in ("import", "from"))


def _includes(*headers: str) -> tuple[bytes, ...]:
    return tuple(f"#include <{header}".encode() for header in headers)


_REFERENCE_DESIGN = re.compile(rb"Requirement\s{1,100}\{\s{1,100}Identifier")
_OTHER_SCRIPTS = re.compile("[\u0370-\u18aa\u3000-\U0001047f]")
"""Greek to Mongolian, and from CJK punctuation on: a TeX file with any of these is not English."""
_LARGE_JULIA = 100_000


def _julia(data: bytes, name: str) -> bool:
    """A large file is generated, or made of numbers, unless a tenth of its lines are tests and few of its characters digits."""
    if len(data) < _LARGE_JULIA:
        return True
    return data.count(b"@test") >= 0.1 * (data.count(b"\n") + 1) and _density(data) <= MOST_DIGITS


def _tex(data: bytes, name: str) -> bool:
    return "latex/" not in name and _OTHER_SCRIPTS.search(data.decode("utf-8", "replace").replace("\ufffd", "")) is None


def _ends_as_c(data: bytes) -> bool:
    """The rule's ` main\\(.*\\{$`, which looks at the last line alone: as a pattern its time is quadratic in that line."""
    line = data.removesuffix(b"\n").rpartition(b"\n")[2]
    return line.endswith(b"{") and b" main(" in line


_SECTIONS = ("chapter", "section", "subsection", "subsubsection")
LANGUAGES: dict[str, Language] = {
    "agda": Language((".agda", ".lagda")),
    "c": Language((".c", ".h"), any_of=_includes(
        "fftw.h>", "fftw3.h>", "rfftw.h>", "gsl", "cblas.h>", "blas.h>", "lapacke.h>", "nlopt.h>", "petsc.h>",
    )),
    "c++": Language((".cpp", ".cc", ".cxx", ".hpp", ".hh", ".hxx"), most_digits=0.1, any_of=_includes(
        "adept_arrays.h>", "adept.h>", "alglib", "boost", "armadillo", "blitz", "Eigen", "deal.II", "dlib", "NTL", "mtl",
    )),
    "coq": Language(
        (".v",),  # Verilog's too
        any_of=(b"Theorem", b"Proof", b"Qed", b"Inductive", b"Definition", b"Fixpoint"),
        none_of=(b"pragma", b"endmodule", b"posedge", b"negedge", b"wire", b"This file was automatically generated"),
    ),
    "gap": Language((".gap", ".g", ".gd", ".gi")),
    "idris": Language((".idr",)),
    "isabelle": Language((".thy",), any_of=(b"theorem ", b"lemma ")),
    "julia": Language((".jl",), most_bytes=math.inf, most_digits=math.inf, begins=(b"%", b"{", b"["), check=_julia),
    "lean": Language(
        (".lean",), any_of=(b"theorem ", b"lemma ", b"example "), check=lambda data, name: "_target/deps/" not in name
    ),
    "maple": Language((".mpl", ".maple"), most_bytes=100_000, begins=(b"<?xml",)),
    "matlab": Language(
        (".m",),  # Objective-C's too
        none_of=(b"#import", b"@interface", b"@implementation", b"@property", b"#include"),
        check=lambda data, name: not _ends_as_c(data),
    ),
    "python": Language((".py",), begins=(b"{",), any_of=_imports(
        "numpy", "scipy", "sympy", "sage", "numba", "numexpr", "theano", "statsmodels", "networkx", "mpmath", "astropy",
        "cvxpy", "jax",
    )),
    "r": Language(
        (".r",), begins=(b"<?xml", b"{"), none_of=(b"/* Resource fork",),
        check=lambda data, name: _REFERENCE_DESIGN.search(data) is None,
    ),
    "tex": Language(
        (".tex",), most_bytes=10_000_000,
        any_of=(
            *(f"\\{name}{star}{{".encode() for name in _SECTIONS for star in ("", "*")), b"\\paragraph{", b"\\subparagraph{",
        ),
        none_of=(b"gnuplot",), check=_tex,
    ),
}  # fmt: skip
"""By name; the lists of imports are the longer ones of the dataset's card where the code has fewer."""
_BY_END = {end: language for language in LANGUAGES.values() for end in language.ends}


def language_of(name: str | None) -> Language | None:
    """The language of a file by the end of its name or URL, in either case; None for any other file."""
    path = name or ""
    if "://" in path:  # in a plain path `#` and `?` are letters: `C# course/solver.py`
        path = path.split("?", 1)[0].split("#", 1)[0]
    end = re.search(r"\.[A-Za-z0-9]{1,10}$", path)
    return _BY_END.get(end[0].lower()) if end else None


@signal("code_size_to_limit", unit="times the limit of its language", source=SOURCE)
def code_size_to_limit(texts: Segmented) -> Float32Array:
    """Bytes / the most that a file of its language may have: 1,048,575; Maple 100,000; TeX 10,000,000; Julia has no limit (0).

    0 for a file of no known language, which `code_gate` stops.
    """
    limits = np.array([math.inf if language is None else language.most_bytes for language in _languages(texts)])
    return (np.diff(texts.documents) / limits).astype(np.float32)


@signal("code_digits_to_limit", unit="times the limit of its language", source=SOURCE)
def code_digits_to_limit(texts: Segmented) -> Float32Array:
    """Digits / characters without (ASCII) white space, / the most that a file of its language may have: .5; C++ .1; Julia none.

    0 for empty text, and for a file of no known language.
    """
    limits = np.array([math.inf if language is None else language.most_digits for language in _languages(texts)])
    digits, spaces = _counts(texts, _is_digit()), _counts(texts, _is_space())
    return (digits / np.maximum(texts.chars - spaces, 1) / limits).astype(np.float32)


@signal("code_gate", unit="yes or no", source=SOURCE, kind="bool")
def code_gate(texts: Segmented) -> Int32Array:
    """1 for a file that is what its name says and has to do with mathematics, by rules of its language.

    Python, C and C++: an import or include of a scientific library. Coq, Isabelle, Lean: a theorem or its like, and neither
    Verilog nor a dependency. Matlab: no Objective-C, no C. TeX: a sectioning command, English by its letters, no gnuplot.
    Julia, Maple, R: no XML, JSON or resource fork, no large file of numbers. Agda, GAP, Idris: any. 0 for every other file.
    """
    names = _names(texts)
    passed = [
        language is not None and _passes(language, texts.bytes[low:high].tobytes(), name or "")
        for language, name, low, high in zip(
            _languages(texts), names, texts.documents[:-1].tolist(), texts.documents[1:].tolist(), strict=True
        )
    ]
    return np.array(passed, np.int32)


def _passes(language: Language, data: bytes, name: str) -> bool:
    if not data.strip() or data.lstrip().startswith(language.begins or (b"\0\0",)):
        return False
    if language.any_of and not any(needle in data for needle in language.any_of):
        return False
    if any(needle in data for needle in language.none_of):
        return False
    return language.check is None or language.check(data, name)


def _density(data: bytes) -> float:
    texts = Segmented([data.decode("utf-8", "replace")])
    digits, spaces = _counts(texts, _is_digit()), _counts(texts, _is_space())
    return float(digits[0] / max(1, texts.chars[0] - spaces[0]))


def _names(texts: Segmented) -> Sequence[str | None]:
    names: Sequence[str | None] | None = texts.known.get("url")
    return [None] * len(texts) if names is None else names


def _languages(texts: Segmented) -> list[Language | None]:
    return [language_of(name) for name in _names(texts)]


def _counts(texts: Segmented, wanted: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Int64Array:
    """How many bytes of each text are wanted ones."""
    sums = np.zeros(len(texts.bytes) + 1, np.int64)
    np.cumsum(wanted[texts.bytes], out=sums[1:])
    counts: Int64Array = sums[texts.documents[1:]] - sums[texts.documents[:-1]]
    return counts


@functools.cache
def _is_digit() -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.isin(np.arange(256), list(b"0123456789"))


@functools.cache
def _is_space() -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.isin(np.arange(256), list(b" \t\n\r\v\f"))
