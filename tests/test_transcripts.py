"""Errors of transcripts: jiwer's counts on folded texts, and what folding folds."""

from __future__ import annotations

import unicodedata

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmhub.errors import DataError
from fmhub.evaluation import evaluate, metrics
from fmhub.evaluation.metrics.transcripts import FOLDING, english, exact, folded

TRUE = ["Press 1, please.", "the cat sat", "Le numéro à composer", "Ещё раз!", "l'operatore è già loggato"]
SAID = ["press one please", "the cat sat down", "le numero a compose", "еще рас", "loperatore e gia logato"]


def columns(true: list[str], said: list[str]) -> dict[str, np.ndarray]:
    return {
        "id": np.array([str(n) for n in range(len(true))], object),
        "target": np.array(true, object),
        "prediction": np.array(said, object),
    }


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("  Press 1,\n please. ", "press 1 please"),
        ("I'm sorry; it’s 3D!", "im sorry its 3d"),
        ("Café RÉSUMÉ naïve", "cafe resume naive"),
        ("Ещё Й", "еще и"),
        ("Straße", "strasse"),
        ("call-forward H.323", "call forward h 323"),
        ("ﬁnal ½", "final 1 2"),
        ("...", ""),
    ],
)
def test_folding(text: str, wanted: str) -> None:
    assert folded(text) == wanted and FOLDING == "fold-1"


@given(st.text(max_size=60))
def test_folding_twice_is_folding_once_and_case_and_composition_are_nothing(text: str) -> None:
    once = folded(text)
    assert folded(once) == once and "  " not in once and once == once.strip()
    assert folded(unicodedata.normalize("NFD", text)) == folded(unicodedata.normalize("NFC", text))


def test_rates_are_jiwers_over_all_texts_together() -> None:
    table = columns(TRUE, SAID)
    one, other = [folded(text) for text in TRUE], [folded(text) for text in SAID]
    assert metrics.get("wer").score(table) == pytest.approx(jiwer.wer(one, other), abs=1e-12)
    assert metrics.get("cer").score(table) == pytest.approx(jiwer.cer(one, other), abs=1e-12)
    assert metrics.get("wer_exact").score(table) == pytest.approx(jiwer.wer([exact(t) for t in TRUE], [exact(t) for t in SAID]), abs=1e-12)
    first = columns(TRUE[:2], SAID[:2])
    wanted = jiwer.wer([english(t) for t in TRUE[:2]], [english(t) for t in SAID[:2]])
    assert metrics.get("wer_english").score(first) == pytest.approx(wanted, abs=1e-12)


def test_numbers_as_digits_and_contractions_are_the_same_in_whispers_english() -> None:
    table = columns(["press one", "I am sorry, that's it"], ["Press 1.", "I'm sorry that is it"])
    assert metrics.get("wer_english").score(table) == 0 < metrics.get("wer").score(table)
    assert english("First... press two for the menu...") == "1st press 2 for the menu"


WORDS = st.lists(st.sampled_from("eins zwei drei vier".split()), max_size=6).map(" ".join)


@given(st.lists(st.tuples(WORDS.filter(bool), WORDS), min_size=1, max_size=8))
def test_any_texts_score_as_jiwer_scores_them(pairs: list[tuple[str, str]]) -> None:
    true, said = [list(side) for side in zip(*pairs, strict=True)]
    metric = metrics.get("wer")
    assert metric.score(columns(true, said)) == pytest.approx(jiwer.wer(true, said), abs=1e-12)
    assert metric.score(columns(true, true)) == 0
    assert metric.statistics is not None and metric.combine is not None
    rows = metric.statistics(columns(true, said), None)
    assert rows[:, 1].tolist() == [len(text.split()) for text in true]
    assert float(metric.combine(rows.sum(0))) == pytest.approx(metric.score(columns(true, said)))


def test_a_target_that_folds_to_nothing_counts_what_was_said() -> None:
    assert metrics.get("wer").statistics(columns(["...", "a"], ["one two", "a"]), None).tolist() == [[2, 0], [0, 1]]
    assert metrics.get("cer").score(columns(["..."], ["abc"])) == 3


def test_intervals_cover_the_value_and_what_is_no_text_is_refused() -> None:
    found = evaluate(columns(TRUE * 4, SAID * 4) | {"id": np.array([str(n) for n in range(20)], object)}, ["wer", "wer_exact"])
    assert found["wer"]["low"] < found["wer"]["value"] < found["wer"]["high"] and found["wer"]["n"] == 20
    assert found["wer_exact"]["value"] > found["wer"]["value"]
    with pytest.raises(DataError, match="must hold texts"):
        metrics.get("wer").score(columns(["a"], [3]))  # type: ignore[list-item]
    assert metrics.get("wer").score(columns(["a b"], [None])) == 1  # type: ignore[list-item]
