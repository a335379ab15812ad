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
from core.autointerp.pattern import FADES, Pattern
from core.autointerp.sentence import LASTS, LIMIT, STEPS, Stretch, Words, is_inside, read, room_of, say, speak
from core.autointerp.simulators import simulate_sentence
from core.autointerp.stretches import stretches
from core.autointerp.wording import put_into_words
from core.store.texts import load_slice, load_vocab
from core.workspace import Workspace
from tests.synthetic import write_synthetic_index

HOSTILE = st.text(alphabet=st.one_of(st.characters(), st.sampled_from("*\\\n\t\r /…;,.␣\u200bẞİ")), min_size=1, max_size=8)
PIECES = st.one_of(
    HOSTILE,
    st.sampled_from(
        [" not", "not", " strongly", " all", "**", "\\*", " *", "\\", "weakly on *a*", " (3)", " 3", "a/b", "/", ")", "\u2028", " \n"]
    ),
)
STEP = st.integers(-STEPS, STEPS)
SIDES = st.sampled_from([1, -1])


@st.composite
def said_stretches(draw: st.DrawFn) -> list[Stretch]:
    words = draw(st.lists(st.lists(PIECES, min_size=1, max_size=3).map(speak), max_size=8, unique=True))
    found: list[Stretch] = []
    while words:
        count, side = draw(st.integers(1, len(words))), draw(SIDES)
        first, last = side * draw(st.integers(0, STEPS)), side * draw(st.integers(0, STEPS))
        found.append(Stretch(words[:count], first, last if count > 1 else first))
        words = words[count:]
    return found


def meant(said: list[Stretch]) -> dict[str, float]:
    values = [np.linspace(one.first, one.last, len(one.words)).tolist() for one in said]
    return {word: value for one, of_words in zip(said, values, strict=True) for word, value in zip(one.words, of_words, strict=True)}


@given(said_stretches())
@settings(max_examples=300)
def test_what_is_said_is_read_word_for_word_and_number_for_number(said: list[Stretch]) -> None:
    assert read(say(said)).values == meant(said)


@given(st.lists(PIECES, min_size=1, max_size=3), STEP)
@settings(max_examples=300)
def test_a_word_that_was_said_is_found_again_in_the_tokens_it_was_made_of(gram: list[str], step: int) -> None:
    assert read(say([Stretch([speak(gram)], step, step)])).said(gram)[-1] == step


@given(st.text(max_size=80))
def test_any_sentence_of_a_person_can_be_read(sentence: str) -> None:
    words = read(sentence)
    assert all(-10 <= value <= 10 for value in words.values.values())
    assert len(words.predict([" a", "b", "\n"])) == 3


@given(said_stretches())
def test_a_word_takes_the_room_that_is_counted_for_it(said: list[Stretch]) -> None:
    unsaid = [Stretch([""] * len(one.words), one.first, one.last) for one in said]
    assert len(say(said)) - len(say(unsaid)) == sum(room_of(word) - 1 for one in said for word in one.words)


def test_words_stand_in_stretches_between_two_numbers_and_what_is_below_usual_comes_last() -> None:
    said = [
        Stretch(["the", "of", "and/or"], -2, -4), Stretch(["fight", "?", "not all"], 10, 6), Stretch(["…ing"], 3, 3),
        Stretch(["oh, well", "*"], 0, 0), Stretch(["a"], -10, -10),
    ]  # fmt: skip
    sentence = say(said)
    assert sentence == r"Fires on *fight/?/not all* 10–6, *…ing* 3, *oh\, well/\** 0; below usual on *the/of/and\/or* 2–4, *a* 10."
    assert read(sentence).values == meant(said)
    assert say([Stretch(["of"], -10, -10)]) == "Fires below usual on *of* 10."


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
        (
            r"Fires on *fight, not all*, *?* (10), *…ing, oh\, well* (3); below usual on *the* (−4), *and/or* (−10).",
            {"fight": 10, "not all": 10, "?": 10, "…ing": 3, "oh, well": 3, "the": -4, "and/or": -10},
        ),
        (
            "*and/or*, weakly *a/b*; *c/d* (5), *e/f* 11, *g/h* 5 times, *i* 3.5",
            {"and/or": 10, "a/b": 3, "c/d": 5, "e": 3, "f": 3, "g/h": 3, "i": 3},
        ),
        (
            "*a*, *b/c, d* 7-4; below usual on *x/y* 1–3, *z* −5, *v* +2",
            {"a": 7, "b": 6, "c": 5, "d": 4, "x": -1, "y": -3, "z": -5, "v": 2},
        ),
        (
            "*may* 3 and *can* 2, (*do* 1) *go*  8! *in* 4—2: *a/b* 6 (rarely)",
            {"may": 3, "can": 2, "do": 1, "go": 10, "in": 4, "a": 6, "b": 6},
        ),
        ("- *may* 3\n- *can* 2\n- *do* 1", {"may": 3, "can": 2, "do": 1}),
        ("*/* 5, *a//b* 4", {"/": 5, "a": 4, "b": 4}),
        ("*Fight, combat*, far  below usual on *Not,  all, *, ſtrongly *x*", {"fight": 10, "combat": 10, "not": -10, "all": -10, "x": 10}),
    ],
)
def test_sentences_of_people_and_of_before_are_read(sentence: str, values: dict[str, float]) -> None:
    assert read(sentence).values == {word: pytest.approx(value) for word, value in values.items()}


def test_the_longest_phrase_goes_first_and_counts_on_its_last_token() -> None:
    words = read("Fires strongly on *not all*; weakly on *all*; not on *not all day*.")
    assert words.said([" all", " not", " all", " day", " all"]).tolist() == [3.0, 0.0, 10.0, 0.0, 3.0]


def test_a_word_of_several_tokens_counts_on_the_last() -> None:
    assert Words({"unbelievable": 10.0}).said([" un", "believ", "able", " able"]).tolist() == [0.0, 0.0, 10.0, 0.0]


def test_a_mark_of_the_middle_of_a_word_counts_only_there() -> None:
    words = Words({"…s": 6.0, "…ing": 10.0, "ing": 3.0})
    assert words.said([" cat", "s", " s", " sing", "ing", " ing", "'", "s"]).tolist() == [0, 6.0, 0, 0, 10.0, 3.0, 0, 0]
    assert is_inside("s", " cat")
    assert not is_inside(" s", " cat")


def test_what_is_expected_of_a_token_is_felt_on_those_after_it_and_never_past_the_steps() -> None:
    found = Words({"a": 10.0, "b": -4.0}).predict([" a", " b", " c", " a"])
    assert found.tolist() == pytest.approx([10.0, LASTS * 10 - 4, LASTS * (10 * FADES - 4), STEPS])


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, STEPS)), st.lists(st.sampled_from([" a", " b", " c", " d"]), min_size=1))
def test_a_sentence_that_says_nothing_below_usual_expects_nothing_below_zero(values: dict[str, int], pieces: list[str]) -> None:
    assert Words(values).predict(pieces).min() >= 0


def test_even_steps_are_one_stretch_and_a_bend_is_two() -> None:
    words, even = list("abcdefghijk"), np.ones(11)
    assert stretches(words, np.arange(10.0, -1, -1), even, 0.1) == [Stretch(words, 10, 0)]
    bent = np.array([10, 9, 8, 7, 6, 2, 2, 2, 2, 2, 2.0])
    assert stretches(words, bent, even, 0.1) == [Stretch(words[:5], 10, 6), Stretch(words[5:], 2, 2)]
    assert stretches(words, -bent[::-1], even, 0.1) == [Stretch(words[:6], -2, -2), Stretch(words[6:], -6, -10)]
    assert len(stretches(words, bent, even, 100.0)) == 1


@given(st.lists(st.floats(0, STEPS), min_size=1, max_size=12), st.floats(1e-9, 1), SIDES)
def test_stretches_say_every_word_in_its_order_with_whole_numbers_of_its_side(values: list[float], price: float, side: int) -> None:
    falling = np.sort(side * np.array(values))[::-1]
    words = [str(number) for number in range(len(values))]
    found = stretches(words, falling, np.linspace(0.1, 1, len(values)), price)
    assert [word for one in found for word in one.words] == words
    assert all(0 <= side * step <= STEPS for one in found for step in (one.first, one.last))


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
    assert told.said(vocab.pieces([first, last]))[-1] < 0 < told.said(vocab.pieces([last]))[-1]
