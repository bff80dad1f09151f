"""Three sets of patients as tables: one row a person, the findings under readable names, and `outcome`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fmhub.artifacts import Artifact, File, Wheel

if TYPE_CHECKING:
    import pyarrow as pa

HEART = Artifact(
    name="heart-disease",
    files=(File("heart_disease.tab", "954e44e3d93a97682b5466c7ea166e16f376f8dd93deef5855f511734e4d6224"),),
    sources=(Wheel("orange3==3.40.0", path="Orange/datasets/", tags="cp311-cp311-manylinux_2_28_x86_64"),),
)
FLCHAIN = Artifact(
    name="flchain",
    files=(File("flchain.arff", "bf2600ec437dd19071f73bdad82de681780457d1141ec36ed551b0026e6e5773"),),
    sources=(Wheel("scikit-survival==0.28.0", path="sksurv/datasets/data/", tags="cp311-cp311-manylinux_2_28_x86_64"),),
)
READ = {"age": "age", "sex": "sex", "sample.yr": "year of the sample", "kappa": "kappa light chain", "lambda": "lambda light chain",
        "flc.grp": "light chain group", "creatinine": "creatinine", "mgus": "monoclonal gammopathy"}  # fmt: skip


def breast_cancer() -> pa.Table:
    """569 masses, 37 % malignant; the 30 measures that scikit-learn brings."""
    import pyarrow as pa
    from sklearn.datasets import load_breast_cancer

    found: Any = load_breast_cancer()
    columns = {str(name): found.data[:, place] for place, name in enumerate(found.feature_names)}
    return pa.table({**columns, "outcome": [str(found.target_names[label]) for label in found.target]})


def heart_disease() -> pa.Table:
    """303 people of Cleveland, 46 % with a narrowed artery; 6 values are missing."""
    from fmhub.artifacts import fetch

    lines = (fetch(HEART) / "heart_disease.tab").read_text(encoding="utf-8").splitlines()
    names = lines[0].split("\t")
    rows = (dict(zip(names, line.split("\t"), strict=True)) for line in lines[3:] if line)  # two lines say the columns' types
    return _table(rows, "diameter narrowing", {"0": "open", "1": "narrowed"})


def flchain() -> pa.Table:
    """7,874 people over 50, 28 % of whom died within up to 14 years; creatinine is missing in 17 %."""
    from fmhub.artifacts import fetch

    head, _, body = (fetch(FLCHAIN) / "flchain.arff").read_text(encoding="utf-8").partition("@data")
    names = [line.split(" ")[1] for line in head.splitlines() if line.startswith("@attribute")]
    rows = (dict(zip(names, line.split(","), strict=True)) for line in body.split("\n") if line.strip())
    kept = ({**{told: row[name] for name, told in READ.items()}, "death": row["death"]} for row in rows)
    return _table(kept, "death", {"alive": "alive", "dead": "dead"})


def _table(rows: Iterator[dict[str, str]], outcome: str, labels: dict[str, str]) -> pa.Table:
    """Numbers where a column holds nothing else, `?` as missing, the outcome by its label, and the age in bands."""
    import pyarrow as pa

    found = [{name: None if value in ("?", "") else value for name, value in row.items()} for row in rows]
    columns = {name: _column([row[name] for row in found]) for name in found[0] if name != outcome}
    ages = ["under 50" if age < 50 else "50 to 64" if age < 65 else "65 and over" for age in columns["age"]]
    return pa.table({**columns, "age group": ages, "outcome": [labels[str(row[outcome])] for row in found]})


def _column(values: list[str | None]) -> list[Any]:
    try:
        return [None if value is None else float(value) for value in values]
    except ValueError:
        return list(values)
