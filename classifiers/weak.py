"""What the format and the topic of a web page say of its worth: weak supervision for the models `quality` and `edu`.

Nobody graded pages for these models. A format (one of WebOrganizer's 24, arXiv 2502.10341: what kind of page it is) and a
topic are known of each training page; the grades below say what we take them to mean.
"""

from __future__ import annotations

from collections.abc import Mapping

QUALITY: Mapping[str, float] = {
    **dict.fromkeys(
        ("Academic Writing", "Docs.", "FAQ", "Knowledge Article", "Nonfiction Writing", "Q&A", "Tutorial"), 1.0
    ),
    **dict.fromkeys(
        ("Audio Transcript", "Creative Writing", "Listicle", "News Article", "Personal Blog", "User Review"), 0.5
    ),
    **dict.fromkeys(
        ("About (Org.)", "About (Pers.)", "Comment Section", "Content Listing", "Legal", "News (Org.)", "Product Page",
         "Spam / Ads", "Structured Data", "Support", "Truncated"), 0.0,
    ),
}  # fmt: skip
"""Reference and explanation, other prose, and the rest of the web."""

TEACHES: Mapping[str, float] = {
    "Knowledge Article": 1.0, "Academic Writing": 0.8, "Tutorial": 0.8, "Nonfiction Writing": 0.7, "Q&A": 0.6, "FAQ": 0.5,
    "Docs.": 0.5, "Audio Transcript": 0.35, "Listicle": 0.35, "News Article": 0.3, "Creative Writing": 0.25,
    "Personal Blog": 0.25, "Support": 0.2, "Structured Data": 0.15, "About (Org.)": 0.15, "News (Org.)": 0.15,
    "Comment Section": 0.15, "User Review": 0.1, "About (Pers.)": 0.1, "Legal": 0.1, "Content Listing": 0.1,
    "Truncated": 0.05, "Product Page": 0.05, "Spam / Ads": 0.0,
}  # fmt: skip
"""How much pages of a format teach."""

TAUGHT: Mapping[str, float] = {
    "science_math_and_technology": 1.0, "history_and_geography": 1.0, "health": 0.8, "education_and_jobs": 0.7,
    "software_development": 0.7, "literature": 0.7, "religion": 0.6, "industrial": 0.6, "art_and_design": 0.55,
    "crime_and_law": 0.5, "politics": 0.5, "finance_and_business": 0.5, "home_and_hobbies": 0.5,
    "electronics_and_hardware": 0.5, "transportation": 0.5, "software": 0.5, "food_and_dining": 0.45,
    "travel_and_tourism": 0.4, "sports_and_fitness": 0.35, "social_life": 0.35, "games": 0.3, "entertainment": 0.3,
    "fashion_and_beauty": 0.25, "adult_content": 0.0,
}  # fmt: skip
"""How much a topic is what schools teach."""

WEB_TOKENS: Mapping[str, float] = {
    "Personal Blog": 22.91, "Product Page": 11.55, "News Article": 9.03, "Comment Section": 8.3, "Content Listing": 7.89,
    "Nonfiction Writing": 6.63, "Knowledge Article": 3.58, "Tutorial": 3.54, "News (Org.)": 3.39, "Listicle": 3.09,
    "Academic Writing": 2.7, "Audio Transcript": 2.52, "Spam / Ads": 2.22, "Structured Data": 2.16,
    "Creative Writing": 1.87, "User Review": 1.86, "About (Org.)": 1.67, "About (Pers.)": 1.09, "Truncated": 0.89,
    "Q&A": 0.8, "Support": 0.78, "Legal": 0.58, "Docs.": 0.58, "FAQ": 0.35,
}  # fmt: skip
"""Percent of the tokens of a filtered, deduplicated Common Crawl in each format (weborganizer.allen.ai, statistics.json)."""

FINEWEB_EDU = {2.0: 0.36, 3.0: 0.087}
"""Share of FineWeb's tokens that FineWeb-Edu keeps from a rounded score on: 5.4T and 1.3T of 15T (arXiv 2406.17557)."""
