"""Scores of every page: quality, mathematics, educational value, topic; quantiles of them, and bounds on both."""

from curate.stages.classify.config import ClassifyConfig
from curate.stages.classify.stage import STAGE

__all__ = ["STAGE", "ClassifyConfig"]
