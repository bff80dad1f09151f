"""The table stem: kinds, scales, categories, what is missing or was never seen, and what cannot be used, on a tiny backbone."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from fmhub import DataError, heads, stems
from fmhub.backbones.adapter import load_into, save, trainable
from fmhub.backbones.load import load
from fmhub.recipe import Lora, Recipe
from fmhub.task import Known, Reads, Setting
from fmhub.training.network import Network
from fmhub.training.plan import describe, spec_from

RECIPE = Recipe(dropout=0.0, lora=Lora(rank=2))


def rows(**columns):
    count = len(next(iter(columns.values())))
    return pa.table({"id": [f"r{row}" for row in range(count)], "target": ["ab"[row % 2] for row in range(count)], **columns})


@pytest.fixture
def people():
    ages = [float(20 + row) if row % 7 else None for row in range(40)]
    return rows(age=ages, job=[("baker", "miner", None)[row % 3] for row in range(40)], land=["here"] * 40, sex=["f", "m"] * 20)


def network(tiny, train, stem=None, *, restored=False):
    known = Known(train=train)
    stem, head = (stem or stems.Table()).fit(known), heads.Classification().fit(known, RECIPE)
    return Network(load(tiny, sha256="0" * 64), stem, head, RECIPE, None if restored else known)


def outputs(made, table):
    part = made.prepare(table, targets=False)
    with torch.no_grad():
        return made.outputs(part, np.arange(len(table)))


def test_kinds_scales_and_constants_are_learnt_from_the_training_rows(people):
    stem = stems.Table(skip=("sex",)).fit(Known(train=people))
    assert stem.fields == ("age", "job", "land") and stem.constant == ("land",)
    assert (
        stem.notes == ("the same in every training row, so not read: land",)
        and not stems.Table(fields=("age",)).fit(Known(train=people)).notes
    )
    assert [name for name, *_ in stem.numbers] == ["age"] and stem.categories == (("job", ("baker", "miner")),)
    design = stem.design(people)
    assert np.abs(design.mean(0)).max() < 1e-5
    deviations = design.std(0)
    assert np.all((np.abs(deviations - 1) < 1e-3) | (deviations == 0))


def test_what_is_missing_or_never_seen_has_a_place_of_its_own(tiny, people):
    made = network(tiny, people)
    asked = rows(age=[30.0, None, 30.0], job=["baker", "baker", "pilot"], land=["here"] * 3, sex=["f"] * 3)
    encoded = made.stem_spec.encode(asked, made.backbone, RECIPE)
    assert encoded.values["levels"][:, 0].tolist() == [2, 2, 1] and encoded.lengths.tolist() == [3, 3, 3]
    assert torch.isfinite(outputs(made, asked)).all()


def test_a_far_number_counts_no_more_than_four_deviations(people):
    stem = stems.Table().fit(Known(train=people))
    far = rows(age=[1e12, -1e12], job=["baker"] * 2, land=["here"] * 2, sex=["f"] * 2)
    assert np.abs(stem.design(far)).max() < 10


def test_one_token_a_column_and_a_line_past_the_backbone(tiny, people):
    made = network(tiny, people)
    part = made.prepare(people)
    batch = made.stem_spec.batch(part.encoded, np.arange(5), random=None, strength=0.0)
    assert made.stem(batch)["inputs_embeds"].shape == (5, 3, 32)
    assert made.head.wide is not None and made.head.wide.in_features == batch["wide"].shape[1] == made.stem.wide
    before = outputs(made, people)
    with torch.no_grad():
        made.head.wide.weight.fill_(0.1)
    assert not torch.allclose(before[:, 0], outputs(made, people)[:, 0])


def test_augmentation_hides_cells(tiny, people):
    made = network(tiny, people)
    part = made.prepare(people)
    batch = made.stem_spec.batch(part.encoded, np.arange(40), random=np.random.default_rng(0), strength=1.0)
    assert 0.2 < batch["hidden"].float().mean() < 0.4
    one = made.stem_spec.batch(part.encoded, np.arange(2), random=None, strength=0.0)
    other = made.stem_spec.batch(part.encoded, np.arange(2, 4), random=None, strength=0.0)
    one["hidden"][:], other["hidden"][:] = True, True
    assert torch.allclose(made.stem(one)["inputs_embeds"], made.stem(other)["inputs_embeds"])


def test_a_run_is_restored_from_its_plan_and_file(tiny, people, tmp_path):
    made = network(tiny, people)
    with torch.no_grad():
        for parameter in trainable(made).values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    from fmhub.backbones.adapter import kept

    save(tmp_path / "a.safetensors", kept(made), {})
    stored = describe(made.stem_spec)
    again = spec_from(stored, None)
    assert again == made.stem_spec
    head = dataclasses.replace(made.head_spec)
    other = Network(load(tiny, sha256="0" * 64), again, head, RECIPE, None)
    load_into(other, tmp_path / "a.safetensors")
    assert torch.equal(outputs(made, people), outputs(other, people))


def test_a_row_as_text_says_names_and_values_and_leaves_the_missing_out(tiny, people):
    stem = stems.Rows(skip=("sex",)).fit(Known(train=people))
    assert stem.texts(people.slice(0, 3)) == ["job: baker", "age: 21; job: miner", "age: 22"]
    made = network(tiny, people, stems.Rows())
    assert outputs(made, people).shape == (40, 2) and spec_from(describe(made.stem_spec), None) == made.stem_spec


def test_what_a_person_types_is_a_row(people):
    stem = stems.Table().fit(Known(train=people))
    assert stem.typed("age=30; job=baker") == {"age": 30.0, "job": "baker", "land": None, "sex": None}
    assert (
        stem.typed('{"age": 30}')["age"] == 30
        and stem.design(rows(**{name: [value] for name, value in stem.typed("age=30").items()})).any()
    )
    with pytest.raises(DataError, match=r"Unknown column 'agee'. Did you mean age\?"):
        stem.typed("agee=3")
    with pytest.raises(DataError, match="Column 'age' holds numbers, not 'thirty'"):
        stem.typed("age=thirty")
    with pytest.raises(DataError, match="typed as `column=value"):
        stem.typed("thirty")


def test_a_category_that_training_never_had_is_refused_where_it_was_typed(people):
    stem = stems.Table().fit(Known(train=people))
    with pytest.raises(DataError, match=r"Column 'job': training had no 'bakr'. Did you mean baker\? It had: baker; miner.") as caught:
        stem.typed("age=30; job=bakr")
    assert "\n" not in str(caught.value)
    assert stem.typed({"job": "pilot"})["job"] == "pilot", "of a table that somebody has, it gets the place of what was never seen"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"age": [str(row) for row in range(39)] + ["old"]}, "Row r39: column 'age' holds numbers, not 'old'."),
        ({"name": [f"person {row}" for row in range(40)]}, "Column 'name' holds 40 different texts in 40 rows: that is no category."),
        ({"land": ["here"] * 40}, "No column tells one training row from another"),
        ({"tags": [["a"]] * 39 + [["b"]]}, "Column 'tags' holds list"),
    ],
)
def test_columns_that_cannot_be_used_are_named_in_one_line(columns, message):
    with pytest.raises(DataError, match=message) as caught:
        stems.Table().fit(Known(train=rows(**columns)))
    assert "\n" not in str(caught.value)


def test_text_in_a_number_column_is_named_by_its_row(people):
    stem = stems.Table(fields=("age",)).fit(Known(train=people))
    with pytest.raises(DataError, match="Row r1: column 'age' holds numbers, not 'old'"):
        stem.design(rows(age=["30", "old"]))
    with pytest.raises(DataError, match="No column 'age'"):
        stem.design(rows(years=[3.0]))


def test_a_training_part_of_one_class_is_refused(people):
    one = people.set_column(1, "target", pa.array(["a"] * 40))
    with pytest.raises(DataError, match="one label only"):
        heads.Classification().fit(Known(train=one), RECIPE)
    from fmhub.evaluation import baselines

    with pytest.raises(DataError, match="one label only"):
        baselines.TableLinear().fit(Setting(train=one, validation=one, head=heads.Classification(labels=("a", "b"))))


def test_baselines_predict_in_the_heads_columns(people):
    from fmhub.evaluation import baselines

    head = heads.Classification(labels=("a", "b"), reads=Reads("mean"))
    for spec in (baselines.TableLinear(), baselines.TableBoosting()):
        found = spec.fit(Setting(train=people, validation=people, head=head)).predict(people.drop_columns(["target"]))
        assert set(found["prediction"]) <= {"a", "b"} and np.allclose(np.sum(found["scores"], axis=1), 1)
    numbers = people.set_column(1, "target", pa.array([float(row) for row in range(40)]))
    for spec in (baselines.TableLinear(), baselines.TableBoosting()):
        assert len(spec.fit(Setting(train=numbers, validation=numbers, head=heads.Regression())).predict(numbers)["prediction"]) == 40
