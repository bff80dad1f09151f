"""The task that looks for lesions in slices, and takes the user's own pictures, scans and MedMNIST files in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fmhub import Recipe, Task, data
from fmhub.errors import UsageError
from fmhub.evaluation import baselines
from fmhub.evaluation.metrics.lesions import sensitivity
from fmhub.recipe import Lora
from fmhub.task import Reads, Reference
from fmhub_medical import lesions, medmnist, patients, samples
from fmhub_medical.head import NOT_A_DEVICE, Findings
from fmhub_medical.pixels import PixelLogistic
from fmhub_medical.stem import Slices

if TYPE_CHECKING:
    from fmhub.task import DataSpec, Splits, StemSpec


@dataclass(frozen=True)
class Pictures:
    """The task's own tiles; in their place MedMNIST files, volumes with masks, folders by label, or tables of paths."""

    rows: DataSpec

    @property
    def split(self) -> object:
        """How the task's own tiles are split."""
        return getattr(self.rows, "split", None)

    def load(self) -> Splits:
        """Raises `DataError` naming the file that cannot be used."""
        return self.rows.load()

    def opened(self, reference: str, columns: Mapping[str, str], test: str | None, stem: StemSpec | None) -> DataSpec:
        """`medmnist:FILE`, a folder of `NAME_image` and `NAME_label` volumes, or what `fmhub.data.open` takes."""
        if reference.startswith("medmnist:"):
            if test or columns:
                raise UsageError("--test and --columns do not go with medmnist:FILE, which names its own parts and labels.")
            return data.rows(partial(medmnist.read, reference.removeprefix("medmnist:")), fields=("image",))
        if lesions.holds_masks(Path(reference)):
            if columns:
                raise UsageError("--columns does not go with volumes and masks: their names say which is which.")
            return data.rows(partial(lesions.own, reference, test), fields=("image",))
        if columns and patients.holds_dicom(Path(reference)):
            raise UsageError("--columns does not go with folders of DICOM: a folder's name is the label, a file says whose it is.")
        return patients.Whose(**vars(self.rows.opened(reference, columns, test, stem)))


def tasks() -> Iterator[Task]:
    """Lesions in CT and MR, by tile; each of the five volumes is tested once, by an adapter that saw no slice of it."""
    by_volume = data.KFold(k=len(lesions.VOLUMES), validation=0.02, always=True)  # the smallest volume watches, three teach
    yield Task(
        name="medical-imaging",
        title="Lesions in slices of CT and MR, or your own scans and MedMNIST files (research use, not a device)",
        summary="Which squares of 32 mm of a slice show a lesion, and how many lesions are found at few false alarms; each of five "
        f"volumes is tested by what was learnt from others. {NOT_A_DEVICE}.",
        data=Pictures(data.rows(lesions.slices, split=by_volume, fields=("image",))),
        backbone="dinov2-small",
        stem=Slices(size=56, shape="stretch", ground=(0, 0, 0)),
        head=Findings(labels=lesions.LABELS, reads=Reads("first")),
        metrics=("auc", sensitivity(1), sensitivity(4), "accuracy"),
        recipe=Recipe(epochs=2, lr=5e-4, batch=32, class_weights="balanced", patience=0, keep="last", lora=Lora(alpha=16, layers="last:2")),
        baselines=(baselines.Majority(), PixelLogistic(), baselines.FrozenLogistic()),
        references=(Reference("auc", 0.5, 0.7283),),
        family="medicine",
        licence="BSD-3-Clause",
        source="pyradiomics 3.0.1, data/{brain1,brain2,breast1,lung1,lung2}_{image,label}.nrrd",
        citation="J. J. M. van Griethuysen et al.: Computational radiomics system to decode the radiographic phenotype. "
        "Cancer Research 77, 2017.",
        group="volume (patient)",
        slices=("volume",),
        sample=data.rows(samples.discs, split=data.Random(), fields=("image",)),
    )
