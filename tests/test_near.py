"""Grouping: what is alike stays together, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fmhub.data.near import alike, bag, chained, copies, lines, pages, triples, words

TEXT = st.text(alphabet="abc .!A", max_size=30)


def test_case_punctuation_and_spacing_do_not_tell_texts_apart():
    assert words("Yay!! It's  GREAT") == words("yay it s great") == ["yay", "it", "s", "great"]
    assert pages(["Yay. 300 followers =D", "YAY! 300 followers", "boo"], ["a", "b", "c"]) == ["a", "a", "c"]


def test_one_changed_word_is_a_near_duplicate_and_another_sentence_is_not():
    first = "The camera takes very good pictures in low light and the battery lasts"
    second = "The camera takes really good pictures in low light and the battery lasts"
    assert pages([first, second, "The camera broke"], ["a", "b", "c"]) == ["a", "a", "c"]


def test_ties_chain_through_documents():
    texts = ["one two three four", "five six seven eight", "five six seven eight!", "nine ten"]
    assert pages(texts, ["d1", "d1", "d2", "d2"]) == ["d1"] * 4


def test_texts_without_words_are_not_all_one_group():
    assert pages(["!!!", "???", ""], ["a", "b", "c"]) == ["a", "b", "c"]


def test_a_turn_of_phrase_ties_no_texts():
    texts = [f"to unsubscribe click here {i} {i + 1000} {i + 2000} {i + 3000} {i + 4000} {i + 5000} {i + 6000}" for i in range(80)]
    assert copies(texts) == []


def test_sketches_are_bounded_and_the_same_in_every_process():
    assert len(triples(" ".join(str(i) for i in range(1000)))) == 64
    assert triples("a b c") == {0xC82E0DD0}


@given(st.lists(TEXT, max_size=12))
def test_groups_are_a_partition_that_order_does_not_change(texts):
    keys = [str(i) for i in range(len(texts))]
    forward = pages(texts, keys)
    backward = pages(texts[::-1], keys[::-1])[::-1]
    assert {(i, j) for i in range(len(texts)) for j in range(i) if forward[i] == forward[j]} == {
        (i, j) for i in range(len(texts)) for j in range(i) if backward[i] == backward[j]
    }
    assert all(forward[keys.index(name)] == name for name in forward)


def test_things_are_chained_to_the_first():
    assert chained(6, [(4, 2), (2, 5), (1, 3)]) == [0, 1, 2, 1, 2, 2]


def test_short_texts_are_near_by_their_words_or_an_equal_key():
    texts = ["Insert a row", "Inserts the rows", "Delete a row", "Insert rows: 10", "What?"]
    assert lines(texts) == [0, 0, 2, 3, 4]
    assert lines(texts, ["a", "b", "c", "d", "a"]) == [0, 0, 2, 3, 0]
    assert lines(texts, share=0.6) == [0, 0, 2, 0, 4]
    assert bag("The Rows, 1999!") == {"row", "0"} and bag("is it?") == {"is", "it"} and bag("!?") == {"!?"}


@given(st.lists(st.frozensets(st.sampled_from("abcdefg"), min_size=1), max_size=12), st.sampled_from([0.3, 0.5, 0.7, 0.8, 1.0]))
def test_every_pair_that_is_alike_is_found(bags, share):
    wanted = {(i, j) for i in range(len(bags)) for j in range(i) if len(bags[i] & bags[j]) >= share * len(bags[i] | bags[j])}
    assert set(alike(bags, share)) == wanted
