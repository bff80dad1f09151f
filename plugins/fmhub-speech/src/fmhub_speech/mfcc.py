"""A support vector machine on mel-frequency cepstra: what speech recognisers stood on before networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmhub.errors import DataError
from fmhub.evaluation.baselines.simple import label_names

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from fmhub.task import Setting

SETTINGS = {"feature_size": 40, "sampling_rate": 16000, "hop_length": 160, "n_fft": 400}


@dataclass(frozen=True)
class MfccSvm:
    """Mean and deviation, over a sound of at most `seconds`, of 20 cepstra (Davis & Mermelstein 1980) and of their change; RBF kernel."""

    seconds: float = 2.0
    grid: Sequence[float] = (0.3, 1.0, 3.0, 10.0, 30.0)
    """Values of C, the best of which on validation is kept."""
    name: str = "mfcc-svm"

    def fit(self, setting: Setting) -> FittedMfccSvm:
        """Raises `DataError` for one label only."""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        target, truth = ([str(value) for value in rows["target"].to_pylist()] for rows in (setting.train, setting.validation))
        if len(set(target)) < 2:
            raise DataError("The training part holds one label only: a classifier needs two.")
        seen, held = cepstra(setting.train, self.seconds), cepstra(setting.validation, self.seconds)
        models = [make_pipeline(StandardScaler(), SVC(C=c, random_state=setting.seed)).fit(seen, target) for c in self.grid]
        best = max(models, key=lambda model: sum(model.predict(held) == truth))
        return FittedMfccSvm(self.seconds, best, label_names(setting))


@dataclass
class FittedMfccSvm:
    """The machine's margins through a softmax: an order of the labels, hardly a probability; one that training lacked gets 0."""

    seconds: float
    model: Any
    labels: list[str]

    def predict(self, rows: pa.Table) -> dict[str, Any]:
        """`prediction`: labels; `scores`: (rows, labels)."""
        import numpy as np

        margins = self.model.decision_function(cepstra(rows, self.seconds))
        margins = margins if margins.ndim == 2 else np.stack([-margins, margins], axis=1)
        likely = np.exp(margins - margins.max(1, keepdims=True))
        scores = np.zeros((len(rows), len(self.labels)))
        scores[:, [self.labels.index(label) for label in self.model.classes_]] = likely / likely.sum(1, keepdims=True)
        return {"prediction": [self.labels[place] for place in scores.argmax(1)], "scores": scores.tolist()}


def cepstra(rows: pa.Table, seconds: float) -> np.ndarray:
    """(rows, 80) float32."""
    import numpy as np
    import torch
    from scipy.fft import dct

    from fmhub.stems import sounds, spectrogram

    column = "audio" if "audio" in rows.column_names else "path"
    names, found = [f"Row {name}" for name in rows.column("id").to_pylist()], []
    for sound in sounds.decode(rows.column(column).to_pylist(), names, SETTINGS["sampling_rate"]):
        wave = torch.from_numpy(sound[: round(seconds * SETTINGS["sampling_rate"])].astype(np.float32) / 32767)
        wave = torch.nn.functional.pad(wave, (0, max(0, 4 * SETTINGS["n_fft"] - len(wave))))
        logs = dct(spectrogram.log_mel(wave[None], SETTINGS)[0].numpy(), axis=0, norm="ortho")[:20]
        change = np.diff(logs, axis=1)
        found.append(np.concatenate([logs.mean(1), logs.std(1), change.std(1), np.abs(change).mean(1)]))
    return np.stack(found).astype(np.float32)
