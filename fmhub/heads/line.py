"""Linear models of plain numbers, where training begins: penalised, the penalty by cross-validation within the training rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Line = tuple[np.ndarray, np.ndarray]
"""Weights (outputs, numbers) and biases (outputs,)."""
PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 1.0)
FOLDS = 5


def logistic(numbers: np.ndarray, label: np.ndarray, classes: int) -> Line:
    """Of logits: the multinomial model of `label` (rows,) in 0 to classes - 1; a class without a row keeps weight 0 and a low bias."""
    from sklearn.linear_model import LogisticRegression

    seen, counts = np.unique(label, return_counts=True)
    penalty = _simplest(numbers, label) if counts.min() >= FOLDS else PENALTIES[0]
    model = LogisticRegression(C=penalty, max_iter=2000).fit(numbers, label)
    two = len(seen) == 2
    weight, bias = np.zeros((classes, numbers.shape[1])), np.full(classes, -5.0)
    weight[seen] = (-model.coef_[0] / 2, model.coef_[0] / 2) if two else model.coef_
    bias[seen] = (-model.intercept_[0] / 2, model.intercept_[0] / 2) if two else model.intercept_
    return weight, bias


def _simplest(numbers: np.ndarray, label: np.ndarray) -> float:
    """The strongest penalty whose log loss lies within one standard error of the best (Hastie et al. 2009, section 7.10)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    models = [LogisticRegression(C=penalty, max_iter=2000) for penalty in PENALTIES]
    scores = np.array([cross_val_score(model, numbers, label, cv=folds, scoring="neg_log_loss") for model in models])
    mean, error = scores.mean(1), scores.std(1, ddof=1) / np.sqrt(FOLDS)
    best = int(mean.argmax())
    return PENALTIES[int(np.flatnonzero(mean >= mean[best] - error[best])[0])]


def ridge(numbers: np.ndarray, value: np.ndarray) -> Line:
    """Of one value (rows,)."""
    from sklearn.linear_model import RidgeCV

    penalties: Sequence[float] = (0.1, 1, 10, 100, 1000)
    model = RidgeCV(penalties).fit(numbers, value)
    return model.coef_[None], np.array([model.intercept_])
