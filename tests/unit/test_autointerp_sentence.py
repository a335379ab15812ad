"""Sentences: what is said is what is read, whatever the words are made of, and never longer than there is room for."""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.autointerp.corpus_counts import SliceCounts
from core.autointerp.explanation import Text
from core.autointerp.pattern import Pattern
from core.autointerp.sentence import LIMIT, STEPS, Words, is_inside, read, room, room_of, say, shares_stars, speak
from core.autointerp.simulators import simulate_sentence
from core.autointerp.wording import put_into_words
from core.store.texts import load_slice, load_vocab
from core.workspace import Workspace
from tests.synthetic import write_synthetic_index

HOSTILE = st.text(alphabet=st.one_of(st.characters(), st.sampled_from("*\\\n\t\r …;,.␣\u200bẞİ")), min_size=1, max_size=8)
PIECES = st.one_of(
    HOSTILE, st.sampled_from([" not", "not", " strongly", " all", "**", "\\*", " *", "\\", "weakly on *a*", " (3)", ")", "\u2028", " \n"])
)
STEP = st.integers(-STEPS, STEPS)


@given(st.dictionaries(st.lists(PIECES, min_size=1, max_size=3).map(speak), STEP, max_size=6))
@settings(max_examples=300)
def test_what_is_said_is_read_word_for_word_and_number_for_number(said: dict[str, int]) -> None:
    assert read(say(list(said.items()))).values == said


@given(st.lists(PIECES, min_size=1, max_size=3), STEP)
@settings(max_examples=300)
def test_a_word_that_was_said_is_found_again_in_the_tokens_it_was_made_of(gram: list[str], step: int) -> None:
    assert read(say([(speak(gram), step)])).predict(gram)[-1] == step


@given(st.text(max_size=80))
def test_any_sentence_of_a_person_can_be_read(sentence: str) -> None:
    words = read(sentence)
    assert all(-10 <= value <= 10 for value in words.values.values())
    assert len(words.predict([" a", "b", "\n"])) == 3


@given(st.dictionaries(st.lists(PIECES, min_size=1, max_size=2).map(speak), STEP, min_size=1, max_size=12))
def test_a_sentence_takes_the_room_that_is_counted_for_its_words_and_numbers(said: dict[str, int]) -> None:
    stars = len({step for word, step in said.items() if shares_stars(word)})
    assert len(say(said.items())) == room(set(said.values())) + sum(map(room_of, said)) + 2 * stars


def test_words_share_a_pair_of_stars_and_what_ends_in_a_mark_has_its_own() -> None:
    said = [("fight", 10), ("?", 10), ("not all", 10), ("…ing", 3), ("oh, well", 3), ("the", -4), ("of", -10)]
    sentence = say(said)
    assert sentence == r"Fires on *fight, not all*, *?* (10), *…ing, oh\, well* (3); below usual on *the* (−4), *of* (−10)."
    assert read(sentence).values == dict(said)
    assert say([("of", -10)]) == "Fires below usual on *of* (−10)."


@pytest.mark.parametrize(
    ("sentence", "values"),
    [
        ("fires on *fight*, *combat*, *battle*; strongest after *the*", {"fight": 10, "combat": 10, "battle": 10, "the": 10}),
        (
            "Fires strongly on *, and*, *), she*; clearly on *a*; not on *,*, *…ing,*.",
            {", and": 10, "), she": 10, "a": 6, ",": 0, "…ing,": 0},
        ),
        ("Strongly on *1,000*, *{\\\\*; weakly on *\\**", {"1,000": 10, "{\\": 10, "*": 3}),
        ("Fires strongly on *fight*, weakly on *war*, *x* (-2), *y* (42); *z* (7)", {"fight": 10, "war": -2, "x": -2, "y": 3, "z": 7}),
        ("Fires on *a*; *b*, *c* (5)", {"a": 10, "b": 5, "c": 5}),
        ("*x* (–4), *y*  (+3), *z* (42), *v* (2), *w* (9999999999)", {"x": -4, "y": 3, "z": 10, "v": 2, "w": 10}),
        ("*Fight, combat*, far  below usual on *Not,  all, *, ſtrongly *x*", {"fight": 10, "combat": 10, "not": -10, "all": -10, "x": 10}),
    ],
)
def test_sentences_of_people_and_of_before_are_read(sentence: str, values: dict[str, float]) -> None:
    assert read(sentence).values == {word: pytest.approx(value) for word, value in values.items()}


def test_the_longest_phrase_goes_first_and_counts_on_its_last_token() -> None:
    words = read("Fires strongly on *not all*; weakly on *all*; not on *not all day*.")
    assert words.predict([" all", " not", " all", " day", " all"]).tolist() == [3.0, 0.0, 10.0, 0.0, 3.0]


def test_a_word_of_several_tokens_counts_on_the_last() -> None:
    assert Words({"unbelievable": 10.0}).predict([" un", "believ", "able", " able"]).tolist() == [0.0, 0.0, 10.0, 0.0]


def test_a_mark_of_the_middle_of_a_word_counts_only_there() -> None:
    words = Words({"…s": 6.0, "…ing": 10.0, "ing": 3.0})
    assert words.predict([" cat", "s", " s", " sing", "ing", " ing", "'", "s"]).tolist() == [0, 6.0, 0, 0, 10.0, 3.0, 0, 0]
    assert is_inside("s", " cat")
    assert not is_inside(" s", " cat")


def test_of_two_levels_for_one_word_the_first_counts_and_words_before_any_level_are_strong() -> None:
    assert read("About *Fight*, weakly *fight* and *war*").values == {"fight": 10.0, "war": 3.0}


def test_a_sentence_without_words_fails_and_is_not_zero_everywhere() -> None:
    text = Text((1, 2), (" a", " b"))
    simulation = simulate_sentence("verbs of motion", text)
    assert "names no *word*" in simulation.failed
    assert np.isnan(simulation.values).all()
    assert not simulate_sentence("*b*", text).failed


@pytest.fixture(scope="module")
def slice_of(tmp_path_factory: pytest.TempPathFactory) -> tuple[SliceCounts, Any]:
    workspace = Workspace.open(tmp_path_factory.mktemp("sentence") / "ws")
    write_synthetic_index(workspace, hostile=True, n_layers=1)
    [identity] = [path.name for path in workspace.corpora.iterdir()]
    return SliceCounts(load_slice(workspace, identity), 1), load_vocab(workspace, "tiny")


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_pattern_is_never_put_into_more_words_than_there_is_room_for(slice_of: tuple[SliceCounts, Any], data: st.DataObject) -> None:
    counts, vocab = slice_of
    tokens = st.integers(0, vocab.size - 1)
    rules = data.draw(st.dictionaries(st.lists(tokens, min_size=1, max_size=3).map(tuple), st.floats(-5, 50), max_size=60))
    limit = data.draw(st.sampled_from([LIMIT, 120, 40]))
    sentence = put_into_words(Pattern(rules, {}, data.draw(st.floats(-1, 1))), counts, np.arange(5), vocab, limit)
    assert len(sentence) <= limit
    read(sentence)


def test_only_what_can_be_below_zero_is_said_to_be_below_usual(slice_of: tuple[SliceCounts, Any]) -> None:
    counts, vocab = slice_of
    often = [one for one, _ in Counter(counts.text.tokens.tolist()).most_common(40) if speak(vocab.pieces([one]))]
    signed = {(one,): 8.0 if place % 2 else -8.0 for place, one in enumerate(often)}
    silent = {ids: max(0.0, value) for ids, value in signed.items()}
    told = read(put_into_words(Pattern(signed, {}, 2.0), counts, np.arange(5), vocab)).values
    assert (min(told.values()), max(told.values())) == (-10, 10)
    assert min(read(put_into_words(Pattern(silent, {}, 2.0), counts, np.arange(5), vocab)).values.values()) >= 0


def test_a_phrase_is_said_beside_the_token_that_it_is_an_exception_to(slice_of: tuple[SliceCounts, Any]) -> None:
    counts, vocab = slice_of
    pairs = Counter(pairwise(counts.text.tokens.tolist()))
    first, last = next(pair for pair, times in pairs.most_common() if times >= 4 and counts.count(1, counts.codes_of([pair]))[0] >= 4)
    rules = {(last,): 10.0, (first, last): -10.0}
    told = read(put_into_words(Pattern(rules, {}, 0.0), counts, np.arange(40), vocab))
    assert told.predict(vocab.pieces([first, last]))[-1] < 0 < told.predict(vocab.pieces([last]))[-1]
