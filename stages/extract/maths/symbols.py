"""Characters of mathematics and the TeX commands that print them (Unicode Technical Report 25; amsmath, amssymb)."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_GREEK = (
    "α alpha β beta γ gamma δ delta ϵ epsilon ε varepsilon ζ zeta η eta θ theta ϑ vartheta ι iota κ kappa ϰ varkappa "
    "λ lambda μ mu µ mu ν nu ξ xi π pi ϖ varpi ρ rho ϱ varrho σ sigma ς varsigma τ tau υ upsilon ϕ phi φ varphi χ chi "
    "ψ psi ω omega Γ Gamma Δ Delta ∆ Delta Θ Theta Λ Lambda Ξ Xi Π Pi Σ Sigma Υ Upsilon ϒ Upsilon Φ Phi Ψ Psi Ω Omega"
)
_LETTERS = (
    "ℏ hbar ħ hbar ℓ ell ℘ wp ℜ Re ℑ Im ℵ aleph ℶ beth ℷ gimel ı imath ȷ jmath 𝚤 imath 𝚥 jmath ∂ partial ∇ nabla ∞ infty "
    "∅ emptyset ⌀ varnothing ∀ forall ∃ exists ∄ nexists ¬ neg ⊤ top ⊥ bot ∠ angle ∡ measuredangle △ triangle ★ bigstar "
    "♯ sharp ♭ flat ♮ natural ♣ clubsuit ♦ diamondsuit ♢ diamondsuit ♥ heartsuit ♡ heartsuit ♠ spadesuit ⅁ Game Ⅎ Finv "
    "□ square ◻ square ■ blacksquare ◊ lozenge ✓ checkmark † dagger ‡ ddagger § S ¶ P © copyright £ pounds ð eth "
    "… ldots ⋯ cdots ⋮ vdots ⋱ ddots ⋰ iddots"
)
_LARGE = (
    "∑ sum ∏ prod ∐ coprod ∫ int ∬ iint ∭ iiint ⨌ iiiint ∮ oint ∯ oiint ∰ oiiint ⋀ bigwedge ⋁ bigvee ⋂ bigcap ⋃ bigcup "
    "⨀ bigodot ⨁ bigoplus ⨂ bigotimes ⨄ biguplus ⨆ bigsqcup"
)
_BINARY = (
    "± pm ∓ mp × times ÷ div ⋅ cdot · cdot ∗ ast ⋆ star ∘ circ • bullet ∙ bullet ∩ cap ∪ cup ⊎ uplus ⊓ sqcap ⊔ sqcup ∨ vee "
    "∧ wedge ∖ setminus ⧵ setminus ≀ wr ⋄ diamond ◇ Diamond ⊕ oplus ⊖ ominus ⊗ otimes ⊘ oslash ⊙ odot ◯ bigcirc ⊲ lhd ⊳ rhd "
    "⊴ unlhd ⊵ unrhd ⨿ amalg ⊞ boxplus ⊟ boxminus ⊠ boxtimes ⊡ boxdot ⋉ ltimes ⋊ rtimes ⊼ barwedge ⊻ veebar ∔ dotplus "
    "⋒ Cap ⋓ Cup ⋏ curlywedge ⋎ curlyvee ⊺ intercal ⊛ circledast ⊚ circledcirc ⊝ circleddash"
)
_RELATIONS = (
    "≤ leq ⩽ leqslant ≥ geq ⩾ geqslant ≠ neq ≪ ll ≫ gg ⋘ lll ⋙ ggg ≡ equiv ∼ sim ∽ backsim ≃ simeq ≈ approx ≊ approxeq ≅ cong "
    "≍ asymp ≐ doteq ≑ doteqdot ≔ coloneqq ≕ eqqcolon ∝ propto ∈ in ∉ notin ∋ ni ⊂ subset ⊃ supset ⊆ subseteq ⊇ supseteq "
    "⊄ not\\subset ⊅ not\\supset ⊈ nsubseteq ⊉ nsupseteq ⊊ subsetneq ⊋ supsetneq ⊏ sqsubset ⊐ sqsupset ⊑ sqsubseteq "
    "⊒ sqsupseteq ≺ prec ≻ succ ⪯ preceq ⪰ succeq ≼ preccurlyeq ≽ succcurlyeq ⊢ vdash ⊣ dashv ⊨ models ⊩ Vdash ⊬ nvdash "
    "⊭ nvDash ∣ mid ∤ nmid ∥ parallel ∦ nparallel ⟂ perp ⌣ smile ⌢ frown ⋈ bowtie ≬ between ⋔ pitchfork ≮ nless ≯ ngtr "
    "≰ nleq ≱ ngeq ≁ nsim ≇ ncong ≉ not\\approx ≢ not\\equiv ≲ lesssim ≳ gtrsim ≶ lessgtr ≷ gtrless ⋚ lesseqgtr ⋛ gtreqless "
    "≦ leqq ≧ geqq ≜ triangleq ≗ circeq ≏ bumpeq ≎ Bumpeq ∴ therefore ∵ because ⊸ multimap ∷ dblcolon"
)
_ARROWS = (
    "→ to ⟶ longrightarrow ← leftarrow ⟵ longleftarrow ↔ leftrightarrow ⟷ longleftrightarrow ⇒ Rightarrow ⟹ Longrightarrow "
    "⇐ Leftarrow ⟸ Longleftarrow ⇔ Leftrightarrow ⟺ iff ↦ mapsto ⟼ longmapsto ↩ hookleftarrow ↪ hookrightarrow ↑ uparrow "
    "↓ downarrow ↕ updownarrow ⇑ Uparrow ⇓ Downarrow ⇕ Updownarrow ↗ nearrow ↘ searrow ↙ swarrow ↖ nwarrow ⇀ rightharpoonup "
    "⇁ rightharpoondown ↼ leftharpoonup ↽ leftharpoondown ⇌ rightleftharpoons ⇋ leftrightharpoons ↠ twoheadrightarrow "
    "↞ twoheadleftarrow ↣ rightarrowtail ↢ leftarrowtail ⇝ rightsquigarrow ⇄ rightleftarrows ⇆ leftrightarrows "
    "⇉ rightrightarrows ⇇ leftleftarrows ↛ nrightarrow ↚ nleftarrow ⇏ nRightarrow ⇍ nLeftarrow "
    "⇎ nLeftrightarrow ↮ nleftrightarrow "
    "↾ upharpoonright ↝ leadsto ⊶ multimap ↶ curvearrowleft ↷ curvearrowright ↻ circlearrowright ↺ circlearrowleft"
)
_FENCES = (
    "⟨ langle 〈 langle 〈 langle ⟩ rangle 〉 rangle 〉 rangle ⌊ lfloor ⌋ rfloor ⌈ lceil ⌉ rceil ‖ | ⟦ llbracket ⟧ rrbracket "
    "⌜ ulcorner ⌝ urcorner ⌞ llcorner ⌟ lrcorner { { } } ⟮ lgroup ⟯ rgroup"
)
_PLAIN = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "—": "-", "∕": "/", "⁄": "/", "∶": ":", "ʹ": "'", "′": "'", "″": "''",
    "‴": "'''",
    "⁗": "''''", "’": "'", "‘": "`", "≔": ":=", "∗": "*", "⁎": "*", "〈": "\\langle", "〉": "\\rangle",
    "\\": "\\backslash", "~": "\\sim", "#": "\\#", "$": "\\$", "%": "\\%", "&": "\\&", "_": "\\_", "^": "\\wedge",
    "°": "^{\\circ}",
    "Å": "\\text{Å}", "⅓": "\\frac{1}{3}", "½": "\\frac{1}{2}", "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}",
    "\u2061": "", "\u2062": "", "\u2063": "", "\u2064": "", "\u200b": "", "\u200c": "", "\u200d": "", "\ufeff": "",
    "\u00ad": "",
    "\u2060": "", "\ufe0e": "", "\ufe0f": "",
    "\u0338": "\\not", "\u00a0": "\\ ", "\u2003": "\\quad", "\u2002": "\\enspace", "\u2009": "\\,", "\u200a": "\\,",
    "\u2005": "\\:", "\u2004": "\\;",
    "\u205f": "\\:", "\u202f": "\\,",
}  # fmt: skip


def words(text: str) -> list[str]:
    """The words of a line."""
    return text.split()


def _commands(*groups: str) -> dict[str, str]:
    found = {}
    for group in groups:
        pairs = group.split()
        found.update({character: "\\" + name for character, name in zip(pairs[::2], pairs[1::2], strict=True)})
    return found


COMMANDS: dict[str, str] = {**_commands(_GREEK, _LETTERS, _LARGE, _BINARY, _RELATIONS, _ARROWS, _FENCES), **_PLAIN}
"""A character that is not to be written as itself, and what prints it."""

LARGE = frozenset(_commands(_LARGE).values())
"""Operators whose limits stand above and below."""

FUNCTIONS = frozenset(
    words(
        "arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim liminf limsup ln log max min Pr "
        "sec sin sinh sup tan tanh"
    )
)
LIMITS = frozenset({*LARGE, *("\\" + name for name in words("det gcd inf lim liminf limsup max min Pr sup"))})
"""What takes `_` and `^` where MathML says under and over."""

ACCENTS: dict[str, tuple[str, str]] = {
    "^": ("hat", "widehat"), "ˆ": ("hat", "widehat"), "\u0302": ("hat", "widehat"), "ˇ": ("check", "widecheck"),
    "\u030c": ("check", "widecheck"), "~": ("tilde", "widetilde"), "˜": ("tilde", "widetilde"),
    "∼": ("tilde", "widetilde"),
    "\u0303": ("tilde", "widetilde"), "¯": ("bar", "overline"), "‾": ("bar", "overline"), "\u0304": ("bar", "overline"),
    "\u0305": ("bar", "overline"), "―": ("bar", "overline"), "_": ("bar", "overline"), "-": ("bar", "overline"),
    "−": ("bar", "overline"), "–": ("bar", "overline"), "—": ("bar", "overline"), "ˉ": ("bar", "overline"),
    "→": ("vec", "overrightarrow"), "⟶": ("vec", "overrightarrow"), "\u20d7": ("vec", "overrightarrow"),
    "⇀": ("vec", "overrightarrow"), "←": ("overleftarrow", "overleftarrow"),
    "\u20d6": ("overleftarrow", "overleftarrow"), "↔": ("overleftrightarrow", "overleftrightarrow"),
    "\u20e1": ("overleftrightarrow", "overleftrightarrow"), "˙": ("dot", "dot"), ".": ("dot", "dot"),
    "\u0307": ("dot", "dot"),
    "¨": ("ddot", "ddot"), "..": ("ddot", "ddot"), "\u0308": ("ddot", "ddot"), "⃛": ("dddot", "dddot"),
    "...": ("dddot", "dddot"),
    "\u20dc": ("ddddot", "ddddot"), "´": ("acute", "acute"), "\u0301": ("acute", "acute"), "`": ("grave", "grave"),
    "\u0300": ("grave", "grave"), "˘": ("breve", "breve"), "\u0306": ("breve", "breve"), "˚": ("mathring", "mathring"),
    "\u030a": ("mathring", "mathring"), "⏞": ("overbrace", "overbrace"), "︷": ("overbrace", "overbrace"),
    "⏜": ("overparen", "overparen"), "⎴": ("overbracket", "overbracket"),
}  # fmt: skip
"""A character above a base: the command for one letter, and for more."""

UNDER_ACCENTS: dict[str, str] = {
    "_": "underline", "¯": "underline", "‾": "underline", "\u0332": "underline", "-": "underline",
    "−": "underline", "⏟": "underbrace", "︸": "underbrace", "⏝": "underparen", "⎵": "underbracket",
    "→": "underrightarrow", "←": "underleftarrow", "↔": "underleftrightarrow", "―": "underline", "–": "underline",
    "ˍ": "underline",
}  # fmt: skip

VARIANTS = {
    "bold": "mathbf", "italic": "mathit", "bold-italic": "boldsymbol", "double-struck": "mathbb", "script": "mathcal",
    "bold-script": "mathcal", "fraktur": "mathfrak", "bold-fraktur": "mathfrak", "sans-serif": "mathsf",
    "bold-sans-serif": "mathsf", "sans-serif-italic": "mathsf", "sans-serif-bold-italic": "mathsf",
    "monospace": "mathtt",
    "normal": "mathrm", "-tex-calligraphic": "mathcal", "-tex-bold-calligraphic": "mathcal", "-tex-mathit": "mathit",
}  # fmt: skip
"""MathML's mathvariant and TeX's alphabet."""

_STYLES = (
    ("DOUBLE-STRUCK", "mathbb"), ("MONOSPACE", "mathtt"), ("SANS-SERIF", "mathsf"), ("FRAKTUR", "mathfrak"),
    ("BLACK-LETTER", "mathfrak"), ("SCRIPT", "mathcal"), ("BOLD ITALIC", "boldsymbol"), ("BOLD", "mathbf"), ("ITALIC", ""),
)  # fmt: skip


@lru_cache(maxsize=4096)
def styled(character: str) -> tuple[str, str]:
    """A letter of the mathematical alphabets as (plain letter, TeX alphabet): `𝔸` gives `A`, `mathbb`; any other is itself."""
    code = ord(character)
    if not (0x1D400 <= code <= 0x1D7FF or 0x2102 <= code <= 0x214B) or character in COMMANDS:
        return character, ""
    plain, name = unicodedata.normalize("NFKC", character), unicodedata.name(character, "")
    if len(plain) != 1 or plain == character or not (plain.isalnum() or plain in COMMANDS):
        return character, ""
    return plain, next((style for word, style in _STYLES if word in name), "")


_ESCAPES = {
    "\\": "\\backslash ", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "_": "\\_", "%": "\\%",
    "~": "\\sim ", "^": "\\wedge ",
}  # fmt: skip
_TEXT_ESCAPES = {
    **_ESCAPES,
    "\\": "\\textbackslash ",
    "~": "\\textasciitilde ",
    "^": "\\textasciicircum ",
    "\u00a0": " ",
}


def text(sentence: str) -> str:
    """Words as TeX's `\\text{…}`, special characters escaped."""
    return "\\text{" + "".join(_TEXT_ESCAPES.get(c, "" if c in _INVISIBLE else c) for c in sentence) + "}"


_INVISIBLE = frozenset(c for c, command in _PLAIN.items() if not command)
