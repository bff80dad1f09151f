"""Heads, one file a kind: output layer, loss, decoding. Light specs; torch is imported by their methods."""

from fmhub.heads.choice import Choice
from fmhub.heads.classification import Classification
from fmhub.heads.continuation import Continuation
from fmhub.heads.detection import Detection, SetDetection
from fmhub.heads.multilabel import MultiLabel
from fmhub.heads.ranking import Ranking
from fmhub.heads.regression import Regression
from fmhub.heads.span import Span
from fmhub.heads.transcription import Transcription
from fmhub.heads.translation import Translation

__all__ = [
    "Choice",
    "Classification",
    "Continuation",
    "Detection",
    "MultiLabel",
    "Ranking",
    "Regression",
    "SetDetection",
    "Span",
    "Transcription",
    "Translation",
]
