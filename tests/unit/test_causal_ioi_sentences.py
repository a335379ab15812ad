"""Sentences about an indirect object: what is drawn, what is checked, and what a run over them may be asked for."""

from typing import Any

import pytest

from core.causal.ioi_request import IoiRequest
from core.causal.ioi_sentences import (
    NAMES,
    ORDERS,
    PLACES,
    TEMPLATES,
    Pair,
    Wording,
    draw,
    encode_pairs,
    order_of,
    single_tokens,
    usable_names,
)
from core.errors import AtlasError
from core.units import Site


def words(texts: list[str]) -> list[list[int]]:
    """A tokenizer of whole words with the space before them; what is written in capitals falls into letters."""
    pieces = [
        [piece for word in text.split(" ") for piece in (list(word) if word.isupper() and len(word) > 1 else [word])] for text in texts
    ]
    return [[sum(ord(c) * 257**place for place, c in enumerate(piece)) for piece in text] for text in pieces]


def encoded(pairs: list[Pair]) -> list[Any]:
    return encode_pairs(pairs, single_tokens(NAMES, words), words)


def test_frames_of_both_orders_are_our_own_and_enough() -> None:
    counted = {order: sum(order_of(template) == order for template in TEMPLATES) for order in ORDERS}
    assert min(counted.values()) >= 8
    assert len(set(TEMPLATES)) == len(TEMPLATES)


def test_pairs_differ_in_the_indirect_object_alone_and_end_before_the_answer() -> None:
    pairs = draw(Wording(), NAMES, 60, 3)
    assert len({pair.base for pair in pairs}) == 60
    assert [pair.order for pair in pairs] == ["ABBA", "BABA"] * 30
    for pair in pairs:
        assert len({pair.io, pair.s, pair.other}) == 3
        assert pair.base.replace(pair.io, pair.other) == pair.counterfactual
        assert pair.base.split().count(pair.io) + pair.base.split().count(f"{pair.io},") == 1
        first, second = sorted((pair.io, pair.s), key=pair.base.index)
        assert (first, second) == ((pair.io, pair.s) if pair.order == "ABBA" else (pair.s, pair.io))
        assert not pair.base.endswith((pair.io, pair.s))
        assert "{" not in pair.base


def test_the_same_seed_draws_the_same_sentences_and_another_seed_others() -> None:
    assert draw(Wording(), NAMES, 20, 1) == draw(Wording(), NAMES, 20, 1)
    assert draw(Wording(), NAMES, 20, 1) != draw(Wording(), NAMES, 20, 2)


def test_encoded_pairs_have_one_length_and_say_where_they_begin_to_differ() -> None:
    templates = ("Yesterday {IO} saw {S} there and {S} gave a {OBJECT} to", "Yesterday {S} saw {IO} there and {S} gave a {OBJECT} to")
    pairs = draw(Wording(templates=templates), NAMES, 10, 0)
    for one in encode_pairs(pairs, single_tokens(NAMES, words), words, [7]):
        assert one.base[0] == one.counterfactual[0] == 7
        differ = [place for place, (a, b) in enumerate(zip(one.base, one.counterfactual, strict=True)) if a != b]
        assert differ == [one.first]
        assert one.base[one.first] == one.io
        assert one.counterfactual[one.first] == one.other
        assert one.base.count(one.s) == 2
        assert one.io not in one.counterfactual


def test_our_own_names_that_are_no_single_tokens_are_dropped_and_told_a_persons_are_refused() -> None:
    def two_for_mary(texts: list[str]) -> list[list[int]]:
        return words([text.replace("Mary", "Ma ry") for text in texts])

    tokens, dropped = usable_names(Wording(), two_for_mary)
    assert dropped == ["Mary"]
    assert len(tokens) == len(NAMES) - 1
    with pytest.raises(AtlasError, match="“Mary” is not a single token"):
        usable_names(Wording(names=("Mary", "Tom", "Ben", "Sam")), two_for_mary)


def test_names_that_share_a_token_are_not_used() -> None:
    assert set(single_tokens(["Tom", "Ben", "tom"], lambda texts: words([text.lower() for text in texts]))) == {"Ben"}


def test_sentences_of_unequal_length_are_refused_in_one_sentence() -> None:
    pair = Pair("ABBA", "", "See Tom and Ben when Ben gave it to", "See SAM and Ben when Ben gave it to", "Tom", "Ben", "SAM")
    with pytest.raises(AtlasError, match="has 9 tokens and its counterfactual 11"):
        encode_pairs([pair], {"Tom": 1, "Ben": 2, "SAM": 3}, words)


def test_a_name_glued_to_what_follows_is_refused() -> None:
    pair = Pair("ABBA", "", "See Tom, and Ben when Ben gave it to", "See Sam, and Ben when Ben gave it to", "Tom", "Ben", "Sam")
    with pytest.raises(AtlasError, match="are not tokens of their own"):
        encoded([pair])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"templates": ["{IO} met {S} and {S} spoke to"]}, "must follow a space"),
        ({"templates": ["Then {IO} left, and {S} spoke to"]}, "{IO} once and {S} twice"),
        ({"templates": ["Then it rained on"]}, "{IO} once and {S} twice"),
        ({"templates": ["Then {IO} and {S} met, and {S} spoke to {WHO}"]}, "nothing else"),
        ({"templates": ["Then {IO} and {S} met, and to{ {S} spoke"]}, "nothing else"),
        ({"templates": ["Then {S} met {S} and spoke to {IO}"]}, "end before the answer"),
        ({"templates": ["Then {IO} and {S} met" + " very" * 99 + ", and {S} spoke to"]}, "characters"),
        ({"templates": []}, "No template"),
        ({"names": ["Tom", "Ben"]}, "three names"),
        ({"names": ["Tom", "Ben", "{S}"]}, "braces"),
        ({"names": ["Tom", "Ben", 7]}, "“7” is not a name"),
        ({"names": "Tom"}, "must be a list"),
        ({"places": ["  "]}, "is not a place"),
        ({"objects": ["x" * 99]}, "99 characters"),
        ({"verbs": ["give"]}, "has no “verbs”"),
        (["Tom"], "damaged"),
    ],
)
def test_wording_that_makes_no_sentence_is_refused_in_one_sentence(given: Any, said: str) -> None:
    with pytest.raises(AtlasError, match=said.replace("{", r"\{").replace("}", r"\}")) as told:
        Wording.from_json(given)
    assert "\n" not in str(told.value)


def test_more_sentences_than_the_words_make_are_refused() -> None:
    few = Wording(templates=("Then {IO} and {S} met, and {S} spoke to",), names=("Tom", "Ben", "Sam"))
    with pytest.raises(AtlasError, match="only about 6"):
        draw(few, few.names, 50, 0)


NAN, HUGE = float("nan"), 10**12


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"decompositions": ["resid.9"]}, "not a decomposition"),
        ({"decompositions": ["mlp.9/neurons"]}, "residual stream"),
        ({"decompositions": ["resid.9/../x"]}, "not a decomposition"),
        ({"decompositions": ["resid.9/neurons", "resid.9/neurons"]}, "named twice"),
        ({"decompositions": [f"resid.{layer}/neurons" for layer in range(99)]}, "too many"),
        ({"decompositions": ["resid.9/neurons"], "orders": []}, "No order"),
        ({"orders": ["best"]}, "“best” is not an order"),
        ({"pairs": 0}, "number of pairs"),
        ({"pairs": HUGE}, "number of pairs"),
        ({"pairs": NAN}, "number of pairs"),
        ({"seeds": NAN}, "number of seeds"),
        ({"first_seed": -1}, "first seed"),
        ({"thresholds": HUGE}, "number of thresholds"),
        ({"lowest": NAN}, "lowest threshold"),
        ({"highest": float("inf")}, "highest threshold"),
        ({"lowest": 0.5, "highest": 0.1}, "below the highest"),
        ({"again": 0.5}, "spare a feature"),
        ({"again": NAN}, "spare a feature"),
        ({"model": "  "}, "No model"),
        ({"dtype": "int8"}, "number format"),
        ({"bos": "yes"}, "BOS"),
        ({"strength": 3}, "no parameter “strength”"),
        ({"wording": {"names": ["Tom"]}}, "three names"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_one_sentence(params: dict[str, Any], said: str) -> None:
    with pytest.raises(AtlasError, match=said) as told:
        IoiRequest.from_params(params)
    assert "\n" not in str(told.value)


def test_parameters_come_back_as_they_were_and_defaults_are_left_out() -> None:
    assert IoiRequest().to_params() == {"model": "smollm2-135m-instruct"}
    own = Wording(places=("moon", *PLACES))
    request = IoiRequest(decompositions=("resid.9/pca:linear",), orders=("single",), pairs=7, again=0, wording=own)
    assert IoiRequest.from_params(request.to_params()) == request
    assert request.to_params()["wording"] == {"places": ["moon", *PLACES]}


def test_pieces_are_one_for_each_seed_decomposition_and_order() -> None:
    request = IoiRequest(decompositions=("resid.9/neurons", "resid.3/a"), orders=("acdc", "gradient"), seeds=2, first_seed=5)
    pieces = request.pieces
    assert len(pieces) == len(set(pieces)) == 8
    assert [(str(one.site), one.order, one.seed) for one in pieces[:3]] == [
        ("resid.9", "gradient", 5),
        ("resid.9", "acdc", 5),
        ("resid.3", "gradient", 5),
    ]
    assert request.sites == [Site("resid", 3), Site("resid", 9)]
