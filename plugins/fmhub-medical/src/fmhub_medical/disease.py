"""The tasks that tell disease from a table of findings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fmhub import Recipe, Task, data, stems
from fmhub.evaluation import baselines
from fmhub.evaluation.metrics.decisions import cost
from fmhub.recipe import Lora
from fmhub.task import Reads, Reference
from fmhub_medical import findings, samples
from fmhub_medical.head import NOT_A_DEVICE, Outcome

RESEARCH = "research use, not a device"
AGE = "age group"
"""A column that scores are shown by and that is not read; the age itself is."""


def tasks() -> Iterator[Task]:
    """Three sets of patients, each in ten folds in every run, and one of them also as text."""
    yield Task(
        name="breast-cancer",
        title=f"Is a breast mass malignant? (Wisconsin, 30 measures of cell nuclei; {RESEARCH})",
        summary=f"From sizes and shapes of cell nuclei in a fine-needle aspirate. {NOT_A_DEVICE}.",
        licence="CC BY 4.0",
        source="scikit-learn, sklearn.datasets.load_breast_cancer (UCI Breast Cancer Wisconsin Diagnostic)",
        citation="W. Wolberg, O. Mangasarian, N. Street, W. Street: Breast Cancer Wisconsin (Diagnostic), UCI, 1993. doi:10.24432/C5DW2B",
        references=(Reference("auc", 0.5, 0.9952),),
        **_parts(findings.breast_cancer, "benign", "malignant", 10),
    )
    heart: dict[str, Any] = {
        "summary": f"Whether angiography found a narrowing above 50 %, from what was known before it. {NOT_A_DEVICE}.",
        "licence": "CC BY 4.0 at UCI; fetched, not shipped",
        "source": "orange3 3.40.0, Orange/datasets/heart_disease.tab (UCI Heart Disease, Cleveland)",
        "citation": "R. Detrano et al.: International application of a new probability algorithm for the diagnosis of coronary artery "
        "disease. American Journal of Cardiology 64, 1989.",
        "slices": ("gender", AGE),
        **_parts(findings.heart_disease, "open", "narrowed", 5),
    }
    yield Task(
        name="heart-disease",
        title=f"Is a coronary artery narrowed? (Cleveland, 13 findings; {RESEARCH})",
        references=(Reference("auc", 0.5, 0.9095),),
        **heart,
    )
    as_text = {"stem": stems.Rows(skip=(AGE,)), "recipe": replace(heart["recipe"], epochs=3, lora=Lora(layers="head"))}
    yield Task(
        name="heart-disease-text",
        title=f"Is a coronary artery narrowed? (the same people, each read as one text; {RESEARCH})",
        references=(Reference("auc", 0.5, 0.9098),),
        **{**heart, **as_text},
    )
    yield Task(
        name="flchain",
        title=f"Does a person die during follow-up? (free light chains in serum, 7,874 people; {RESEARCH})",
        summary=f"From age, sex, creatinine and free light chains of residents of Olmsted County over 50. {NOT_A_DEVICE}.",
        licence="given with R's survival package (LGPL-2 or later); fetched, not shipped",
        source="scikit-survival 0.28.0, sksurv/datasets/data/flchain.arff",
        citation="A. Dispenzieri et al.: Use of nonclonal serum immunoglobulin free light chains to predict overall survival in the "
        "general population. Mayo Clinic Proceedings 87, 2012.",
        slices=("sex", AGE),
        references=(Reference("auc", 0.5, 0.8430),),
        **_parts(findings.flchain, "alive", "dead", 3, batch=64),
    )


def _parts(rows: Any, absent: str, present: str, worse: float, **recipe: Any) -> dict[str, Any]:
    """What the tasks have in common; `worse` says how much more it costs to miss a case than to raise a false alarm."""
    stem = stems.Table(skip=(AGE,))
    return {
        "data": data.rows(rows, split=data.KFold(k=10, validation=0.05, always=True), label="outcome"),
        "stem": stem,
        "head": Outcome(labels=(absent, present), reads=Reads("mean", layers=(-5,))),
        "metrics": ("auc", cost(worse), "brier", "log_loss", "ece"),
        "recipe": Recipe(
            **{
                "epochs": 1,
                "lr": 3e-4,
                "batch": 32,
                "dropout": 0.3,
                "weight_decay": 0.1,
                "patience": 0,
                "keep": "last",
                "lora": Lora(rank=4),
                **recipe,
            }
        ),
        "baselines": (baselines.Majority(), baselines.TableLinear(stem), baselines.TableBoosting(stem)),
        "family": "medicine",
        "sample": data.rows(samples.patients(absent, present), label="outcome"),
    }
