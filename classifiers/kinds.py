"""Training by kind: one call for all of them.

    model = fit("fasttext", examples, {"dim": 64}, name="topic", version="1")
    model.save("topic.bin")

A kind's settings are one typed class (`settings_class`); `curate classifier train` and the recipes of shipped models name
nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curate.classifiers.model import Classifier, Examples, Settings, read_settings
from curate.pipeline.errors import UsageError, nearest

KINDS = ("embedding", "fasttext", "linear")
"""What can be trained."""


def settings_class(kind: str) -> type[Settings]:
    """The settings of a kind, with defaults and meaning of each; UsageError for a kind that there is not."""
    if kind == "linear":
        from curate.classifiers import linear

        return linear.LinearSettings
    if kind == "fasttext":
        from curate.classifiers import fasttext_train

        return fasttext_train.FastTextSettings
    if kind == "embedding":
        from curate.classifiers import embedding

        return embedding.EmbeddingSettings
    raise UsageError(f"no kind of classifier named {kind!r}{nearest(kind, KINDS)}")


def settings(kind: str, given: Mapping[str, Any] | None = None) -> Settings:
    """The kind's settings with the given ones in place of the defaults; UsageError names a wrong key and the nearest."""
    try:
        return read_settings(settings_class(kind), given or {})
    except ValueError as error:
        raise UsageError(f"{kind}: {error}") from None


def fit(
    kind: str, examples: Examples, given: Mapping[str, Any] | None = None, *, name: str, version: str
) -> Classifier:
    """Trains a classifier of that kind; the same examples and settings give the same bytes.

    With labels it names one of them, or gives the probability of the label that `positive` names; with targets it gives a
    number between the least and the greatest of them. UsageError for a wrong setting, CurateError for examples that
    nothing can be learned from or a package that is missing.
    """
    chosen = settings(kind, given)
    if kind == "linear":
        from curate.classifiers import linear

        assert isinstance(chosen, linear.LinearSettings)
        return linear.fit(examples, chosen, name=name, version=version)
    if kind == "fasttext":
        from curate.classifiers import fasttext_train

        assert isinstance(chosen, fasttext_train.FastTextSettings)
        return fasttext_train.fit(examples, chosen, name=name, version=version)
    from curate.classifiers import embedding

    assert isinstance(chosen, embedding.EmbeddingSettings)
    return embedding.fit(examples, chosen, name=name, version=version)
