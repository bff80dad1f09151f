"""The canonical recipe that fmhub is measured against: peft + transformers' Trainer, dynamic padding. Called by versus_trainer.py."""

from __future__ import annotations

import csv
import json
import resource
import sys
import tempfile
from pathlib import Path


def main(options: dict) -> dict:
    import numpy as np
    import torch
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    with Path(options["rows"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["target"] for row in rows})
    tokenizer = AutoTokenizer.from_pretrained(options["backbone"])

    def part(name: str) -> list[dict]:
        chosen = [row for row in rows if row["split"] == name]
        encoded = tokenizer([row["text"] for row in chosen], truncation=True, max_length=256)
        return [
            {"input_ids": ids, "attention_mask": mask, "labels": labels.index(row["target"])}
            for ids, mask, row in zip(encoded["input_ids"], encoded["attention_mask"], chosen, strict=True)
        ]

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(options["backbone"], num_labels=len(labels))
    linear = ["query", "key", "value", "dense"]
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=options["rank"], lora_alpha=16, target_modules=linear, exclude_modules=r".*pooler.*",
        modules_to_save=["classifier", "pooler"],
    )  # fmt: skip
    model = get_peft_model(model, config)
    arguments = TrainingArguments(
        tempfile.mkdtemp(), num_train_epochs=options["epochs"], learning_rate=options["lr"], lr_scheduler_type="linear",
        per_device_train_batch_size=32, per_device_eval_batch_size=32, warmup_steps=0.06, eval_strategy="epoch", save_strategy="no",
        report_to=[], disable_tqdm=True, seed=0, use_cpu=not torch.cuda.is_available(), dataloader_pin_memory=False,
        bf16=options["bf16"],
    )  # fmt: skip
    collate = DataCollatorWithPadding(tokenizer)
    trainer = Trainer(model, arguments, train_dataset=part("train"), eval_dataset=part("validation"), data_collator=collate)
    train = trainer.train()
    test = part("test")
    found = trainer.predict(test).predictions.argmax(-1)
    right = found == np.array([row["labels"] for row in test])
    random = np.random.default_rng(0)
    low, high = np.quantile(right[random.integers(0, len(right), (1000, len(right)))].mean(1), (0.025, 0.975))
    return {
        "rate": train.metrics["train_samples_per_second"],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "value": float(right.mean()),
        "low": float(low),
        "high": float(high),
        "n": len(right),
    }


if __name__ == "__main__":
    shown = sys.stdout
    sys.stdout = sys.stderr  # the Trainer prints its log
    result = main(json.loads(sys.argv[1]))
    print(json.dumps(result), file=shown)
