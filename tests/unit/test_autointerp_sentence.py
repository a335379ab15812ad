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
from core.autointerp.sentence import LEVELS, LIMIT, Words, is_inside, level_of, read, room_of, say, speak
from core.autointerp.simulators import simulate_sentence
from core.autointerp.wording import put_into_words
from core.store.texts import load_slice, load_vocab
from core.workspace import Workspace
from tests.synthetic import write_synthetic_index

HOSTILE = st.text(alphabet=st.one_of(st.characters(), st.sampled_from("*\\\n\t\r …;,.␣\u200bẞİ")), min_size=1, max_size=8)
PIECES = st.one_of(
    HOSTILE, st.sampled_from([" not", "not", " strongly", " all", "**", "\\*", " *", "\\", "weakly on *a*", "\u2028", " \n"])
)
SHARES = st.sampled_from([share for _, share, _ in LEVELS])


@given(st.dictionaries(st.lists(PIECES, min_size=1, max_size=3).map(speak), SHARES, max_size=6))
@settings(max_examples=300)
def test_what_is_said_is_read_word_for_word_and_level_for_level(said: dict[str, float]) -> None:
    assert read(say(list(said.items()))).values == {word: pytest.approx(10 * share) for word, share in said.items()}


@given(st.lists(PIECES, min_size=1, max_size=3), SHARES)
@settings(max_examples=300)
def test_a_word_that_was_said_is_found_again_in_the_tokens_it_was_made_of(gram: list[str], share: float) -> None:
    found = read(say([(speak(gram), share)])).predict(gram)
    assert found[-1] == pytest.approx(10 * share)


@given(st.lists(st.tuples(PIECES.map(lambda piece: speak([piece])), st.floats(-2, 2)), max_size=6, unique_by=lambda said: said[0]))
def test_a_share_is_said_as_the_level_it_belongs_to(said: list[tuple[str, float]]) -> None:
    found = read(say(said)).values
    for word, share in said:
        assert found[word] == pytest.approx(10 * level_of(share))
        assert abs(level_of(share) - share) <= 0.23 or abs(share) > 1


@given(st.text(max_size=80))
def test_any_sentence_of_a_person_can_be_read(sentence: str) -> None:
    words = read(sentence)
    assert all(-10 <= value <= 10 for value in words.values.values())
    assert len(words.predict([" a", "b", "\n"])) == 3


@given(st.dictionaries(st.lists(PIECES, min_size=1, max_size=2).map(speak), SHARES, max_size=12))
def test_a_word_takes_no_more_room_than_was_counted(said: dict[str, float]) -> None:
    rules = list(said.items())
    for at in range(1, len(rules)):
        grown = len(say(rules[: at + 1])) - len(say(rules[:at]))
        name = next(name for name, share, _ in LEVELS if share == rules[at][1])
        assert grown <= room_of(rules[at][0]) + len(f"{name} on ") + 2


def test_words_share_a_pair_of_stars_and_what_ends_in_a_mark_has_its_own() -> None:
    said = [("fight", 1.0), ("?", 1.0), ("not all", 1.0), ("…ing", 0.3), ("oh, well", 0.3), ("the", -0.3), ("of", -1.0)]
    sentence = say(said)
    assert sentence == (
        r"Fires strongly on *fight, not all*, *?*; weakly on *…ing, oh\, well*; below usual on *the*; far below usual on *of*."
    )
    assert read(sentence).values == {word: pytest.approx(10 * share) for word, share in said}


@pytest.mark.parametrize(
    ("sentence", "values"),
    [
        ("fires on *fight*, *combat*, *battle*; strongest after *the*", {"fight": 10, "combat": 10, "battle": 10, "the": 10}),
        (
            "Fires strongly on *, and*, *), she*; clearly on *a*; not on *,*, *…ing,*.",
            {", and": 10, "), she": 10, "a": 6, ",": 0, "…ing,": 0},
        ),
        ("Strongly on *1,000*, *{\\\\*; weakly on *\\**", {"1,000": 10, "{\\": 10, "*": 3}),
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
