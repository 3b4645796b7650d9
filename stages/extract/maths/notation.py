"""Pieces of TeX: joined, grouped, fenced, accented."""

from __future__ import annotations

import re

from curate.stages.extract.maths import symbols

_CONTROL_WORD = re.compile(r"\\[A-Za-z]+\*?\Z")
_ATOM = re.compile(r"\\[A-Za-z]+|\\[^A-Za-z\s]|[^\\\s{}^_$&%#~]")
_LETTER = re.compile(_ATOM.pattern + r"|\\(?:math\w+|boldsymbol)\{(?:\w|\\[A-Za-z]+)\}")
_ONE_ARGUMENT = re.compile(
    r"\d+(?:\.\d+)?|\\(?:math\w+|boldsymbol|text|operatorname|hat|widehat|bar|overline|vec|dot|ddot|tilde|widetilde|underline|sqrt)\{[^{}]*\}"
)
_SAME_STYLE = re.compile(r"(\\(?:mathrm|mathbf|mathsf|mathtt|mathit))\{[A-Za-z0-9]+\}(?:\1\{[A-Za-z0-9]+\})+")
_BRACKET = re.compile(r"[()\[\]]")
_TALL = re.compile(r"\\(?:d?frac|sum|prod|int|oint|big[a-z]+|begin|sqrt|over|under|binom|genfrac)")
OPENING = {"(": "(", "[": "[", "{": "\\{", "⟨": "\\langle", "⌊": "\\lfloor", "⌈": "\\lceil", "|": "|", "‖": "\\|",
    "∥": "\\|",
            "〈": "\\langle", "∣": "|", "⟦": "\\llbracket"}  # fmt: skip
CLOSING = {")": ")", "]": "]", "}": "\\}", "⟩": "\\rangle", "⌋": "\\rfloor", "⌉": "\\rceil", "|": "|", "‖": "\\|",
    "∥": "\\|",
            "〉": "\\rangle", "∣": "|", "⟧": "\\rrbracket"}  # fmt: skip


def joined(parts: list[str]) -> str:
    """Parts of a formula in sequence, with a space where a control word would swallow the next letter."""
    out: list[str] = []
    for part in parts:
        if part and out and part[0].isalpha() and part[0].isascii() and _CONTROL_WORD.search(out[-1][-40:]):
            out.append(" ")
        if part:
            out.append(part)
    whole = "".join(out)
    return _SAME_STYLE.sub(_merged, whole) if whole.count("\\math") > 1 else whole


def _merged(found: re.Match[str]) -> str:
    """Letters one by one in an upright or bold alphabet are one word."""
    return f"{found[1]}{{{found[0].replace(found[1], '').replace('{', '').replace('}', '')}}}"


def grouped(tex: str) -> str:
    """A formula as one atom: in braces unless it is a letter, a digit or a command alone."""
    return tex if _ATOM.fullmatch(tex) or _ONE_ARGUMENT.fullmatch(tex) or _in_fences(tex) else "{" + tex + "}"


def _in_fences(tex: str) -> bool:
    """Whether one pair of round or square brackets holds all of a formula."""
    if not (tex.startswith(("(", "[", "\\left(", "\\left[")) and tex.endswith((")", "]"))):
        return False
    depth = 0
    for found in _BRACKET.finditer(tex):
        depth += 1 if found[0] in "([" else -1
        if depth == 0:
            return found.end() == len(tex)
    return False


def accented(base: str, accent: str) -> str | None:
    """A base with an accent above it, None if the character is no accent."""
    names = symbols.ACCENTS.get(accent)
    return None if names is None else f"\\{names[_LETTER.fullmatch(base) is None]}{{{base}}}"


def characters(words: str) -> str:
    """Characters of a formula as TeX, each by its command or alphabet."""
    parts: list[str] = []
    run, alphabet = "", ""
    for character in words:
        plain, style = (character, "") if character.isascii() else symbols.styled(character)
        if style != alphabet or not style:
            if run:
                parts.append(_alphabet(alphabet, run))
            run, alphabet = "", style
        if style:
            run += symbols.COMMANDS.get(plain, plain)
        elif plain == " ":
            parts.append("\\ ")
        else:
            parts.append(symbols.COMMANDS.get(plain, plain))
    if run:
        parts.append(_alphabet(alphabet, run))
    return joined(parts)


def _alphabet(style: str, tex: str) -> str:
    if style != "boldsymbol" and "\\" in tex:
        style = "boldsymbol" if style == "mathbf" else ""
    return f"\\{style}{{{tex}}}" if style else tex


def fenced(opening: str, inside: str, closing: str) -> str:
    left, right = OPENING.get(opening), CLOSING.get(closing)
    if left is None:
        left = symbols.COMMANDS.get(opening, opening) or "."
    if right is None:
        right = symbols.COMMANDS.get(closing, closing) or "."
    if _TALL.search(inside) or "." in (left, right):
        return joined(["\\left" + left, inside, "\\right" + right])
    return joined([left, inside, right])


def function(tex: str) -> bool:
    return tex.startswith("\\operatorname{") and tex.count("{") == 1


def limits(tex: str) -> str:
    return "\\operatorname*" + tex.removeprefix("\\operatorname") if function(tex) else tex


def paired(base: str, scripts: list[str]) -> str:
    out = base
    for number in range(0, len(scripts), 2):
        pair = zip("_^", scripts[number : number + 2], strict=False)
        out += ("{}" if number else "") + "".join(f"{mark}{{{each}}}" for mark, each in pair if each)
    return out
