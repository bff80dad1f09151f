"""Classical methods that a task declares, one file a kind. Light specs; scikit-learn is imported by their `fit`.

Every baseline is fitted on the training rows that the adapter saw, tuned on the same validation rows, and predicts in
the same columns.
"""

from fmhub.evaluation.baselines.items import Ease, ItemKNN, Popularity, WindowedMarkov
from fmhub.evaluation.baselines.ngrams import NGram
from fmhub.evaluation.baselines.probe import FrozenLogistic
from fmhub.evaluation.baselines.series import Har, Label, Momentum, Persistence, SeriesBoosting
from fmhub.evaluation.baselines.simple import Majority, Mean
from fmhub.evaluation.baselines.tabular import TableBoosting, TableLinear
from fmhub.evaluation.baselines.tfidf import TfidfLogistic, TfidfRidge
from fmhub.evaluation.baselines.untrained import FrozenHead, Untrained

__all__ = [
    "Ease", "FrozenHead", "FrozenLogistic", "Har", "ItemKNN", "Label", "Majority", "Mean", "Momentum", "NGram", "Persistence", "Popularity",
    "SeriesBoosting", "TableBoosting", "TableLinear", "TfidfLogistic", "TfidfRidge", "Untrained", "WindowedMarkov",
]  # fmt: skip
