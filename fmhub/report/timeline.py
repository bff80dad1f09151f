"""Predictions beside what came, in the order of time: of runs whose examples' ids end in a date."""

from __future__ import annotations

import re

import numpy as np

from fmhub.report import svg
from fmhub.report.markup import Markup, tag
from fmhub.report.run import Run

DATE = re.compile(r"(\d{4})-(\d{2})-\d{2}$")
LEAST, MOST = 6, 150
"""Months below which there is no course to look at, and above which quarters are drawn."""


def timeline(run: Run) -> Markup | None:
    """The mean of every month (of a long time: every quarter), predicted and true; of two labels the second's share and probability."""
    found = [DATE.search(str(name)) for name in run.columns["id"]]
    if not all(found) or not ("numbers" in run.holds or ("scores" in run.holds and len(run.labels) == 2)):
        return None
    months = np.array([12 * int(one[1]) + int(one[2]) - 1 for one in found if one])
    step = 3 if len(set(months)) > MOST else 1
    periods = months // step
    if len(set(periods)) < LEAST:
        return None
    if "numbers" in run.holds:
        said, was, what = run.columns["prediction"].astype(float), run.columns["target"].astype(float), "value"
    else:
        said, was, what = run.columns["scores"][:, 1], (run.columns["target"] == run.labels[1]).astype(float), f"share {run.labels[1]}"
    order = sorted(set(periods.tolist()))
    series = {
        name: [((period + 0.5) * step / 12, float(values[periods == period].mean())) for period in order]
        for name, values in (("predicted", said), ("true", was))
    }
    span = "quarter" if step == 3 else "month"
    words = tag("p", f"The mean of every {span}: what was predicted, beside what came.")
    return tag("div", tag("div", svg.lines(series, "year", what), svg.legend(list(series)), words), class_="charts")
