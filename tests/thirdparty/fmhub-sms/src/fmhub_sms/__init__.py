"""Spam filtering on text messages."""

from fmhub import Task, data, heads, hookimpl


@hookimpl
def fmhub_tasks():
    yield Task(
        name="sms-spam",
        title="SMS spam filtering",
        data=data.csv("sms.csv", package=__name__, text="message", label="label"),
        backbone="minilm-l6",
        head=heads.Classification(labels=["ham", "spam"]),
        metrics=["f1_macro", "accuracy"],
    )
