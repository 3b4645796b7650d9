"""Little pages of made-up sites, each with its main text: to train and to measure on."""

from __future__ import annotations

import random

WORDS = (
    "harbour pilot wind ship tide captain storm lantern rope anchor sail mast crew island lighthouse signal chart river bridge "
    "market village road winter summer morning evening letter window table garden"
).split()
NAVIGATION = ["Home", "News", "Sport", "Weather", "About us", "Contact", "Subscribe", "Sign in", "Help", "Shop"]
FOOTERS = ["Copyright 2026 All rights reserved", "Privacy policy", "Terms of use", "Follow us", "Imprint"]


def small_page(number: int) -> tuple[bytes, str]:
    """A page and its main text: a heading and paragraphs. Pages whose numbers agree modulo ten are built alike."""
    site = number % 10
    look, draw = random.Random(site), random.Random(number)

    def sentence() -> str:
        words = " ".join(draw.choices(WORDS, k=draw.randint(8, 14)))
        return f"The {words}, and it was the {draw.choice(WORDS)} of a {draw.choice(WORDS)}."

    heading = f"{draw.choice(WORDS).title()} and {draw.choice(WORDS)} number {number}"
    paragraphs = [" ".join(sentence() for _ in range(draw.randint(2, 4))) for _ in range(draw.randint(3, 6))]
    body = look.choice(["article", "div class=content", "main", "div id=post-body class=entry", "section class=story"])
    menu = "".join(f"<li><a href=/{name[:2]}>{name}</a>" for name in look.sample(NAVIGATION, 6))
    menu = look.choice(
        ["<nav><ul>{}</ul></nav>", "<div class=menu><ul>{}</ul></div>", "<header><ul>{}</ul></header>"]
    ).format(menu)
    related = "".join(
        f"<div class=teaser><h4><a href=/{at}>{draw.choice(WORDS).title()} of the {draw.choice(WORDS)}</a></h4></div>"
        for at in range(5)
    )
    foot = "".join(f"<p>{line}</p>" for line in look.sample(FOOTERS, 3))
    foot = look.choice(["<footer>{}</footer>", "<div class=footer>{}</div>"]).format(foot)
    text = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    source = (
        f"<!doctype html><html><head><title>{heading} | Site {site}</title></head><body>{menu}<{body}><h1>{heading}</h1>{text}"
        f"</{body.split()[0]}><aside class=related>{related}</aside>{foot}</body></html>"
    )
    return source.encode(), "\n\n".join([heading, *paragraphs])
