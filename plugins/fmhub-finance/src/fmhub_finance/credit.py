"""The Statlog German credit data: 1,000 applications of about 1973 to 1975, 300 of which went bad."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = ("good", "bad")
SLICES = ("sex", "age group")
"""By which scores are shown; neither is read as such, though the marital status and the age are."""
NAMES = {
    "status_of_existing_checking_account": "checking account", "duration_in_month": "months", "credit_history": "credit history",
    "purpose": "purpose", "credit_amount": "amount in DM", "savings_account_and_bonds": "savings",
    "present_employment_since": "employed for",
    "installment_rate_in_percentage_of_disposable_income": "instalment, % of income", "personal_status_and_sex": "personal status",
    "other_debtors_or_guarantors": "other debtors", "present_residence_since": "years of residence", "property": "property",
    "age_in_years": "age", "other_installment_plans": "other instalments", "housing": "housing",
    "number_of_existing_credits_at_this_bank": "credits here", "job": "job",
    "number_of_people_being_liable_to_provide_maintenance_for": "dependants", "telephone": "telephone", "foreign_worker": "foreign worker",
    "creditability": "outcome",
}  # fmt: skip


def applications() -> pa.Table:
    """20 columns under short names, `outcome` (good or bad), and the slices."""
    import importlib.resources

    from fmhub import data

    place = importlib.resources.files("fmhub_finance").joinpath("data/germancredit.csv.gz")
    with importlib.resources.as_file(place) as path:
        from fmhub.data.read import read

        table = read(data.csv(str(path)))[""]
    return with_slices(table.rename_columns([NAMES[name] for name in table.column_names]))


def with_slices(table: pa.Table) -> pa.Table:
    """The table with `sex` and `age group` beside it."""
    import pyarrow as pa

    sex = [status.split(" ")[0] for status in table["personal status"].to_pylist()]
    age = ["25 or younger" if age <= 25 else "over 25" for age in table["age"].to_pylist()]
    return table.append_column("sex", pa.array(sex)).append_column("age group", pa.array(age))
