"""Sentences: what is said is what is read, whatever the words are made of, and never longer than there is room for."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.autointerp.corpus_counts import SliceCounts
from core.autointerp.explanation import Text
from core.autointerp.pattern import Pattern
from core.autointerp.sentence import LEVELS, LIMIT, Words, is_inside, level_of, read, say, speak
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


@given(st.lists(st.tuples(PIECES.map(lambda piece: speak([piece])), st.floats(-1, 2)), max_size=6, unique_by=lambda said: said[0]))
def test_a_share_is_said_as_the_level_it_belongs_to(said: list[tuple[str, float]]) -> None:
    found = read(say(said)).values
    for word, share in said:
        assert found.get(word) == (pytest.approx(10 * level_of(share)) if share >= 0 else None)


@given(st.text(max_size=80))
def test_any_sentence_of_a_person_can_be_read(sentence: str) -> None:
    words = read(sentence)
    assert all(0 <= value <= 10 for value in words.values.values())
    assert len(words.predict([" a", "b", "\n"])) == 3


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
