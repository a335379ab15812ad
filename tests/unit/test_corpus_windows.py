"""Windows cover a document and never leave it; spreading takes what it may, evenly; what a person may ask for."""

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.corpus.documents import divided
from core.corpus.spec import CorpusSpec
from core.corpus.windows import MIN_TAIL, context_key, quota, taken, windows
from core.errors import AtlasError


@st.composite
def _cuts(draw: st.DrawFn) -> tuple[int, int, int]:
    body = draw(st.integers(2, 40))
    return draw(st.integers(0, 300)), body, draw(st.integers(1, body))


@given(_cuts())
def test_windows_stand_on_the_stride_inside_the_document_and_leave_out_only_a_short_tail(cut: tuple[int, int, int]) -> None:
    tokens, body, stride = cut
    spans = windows(tokens, body, stride)
    if tokens < 2:
        assert spans == []
        return
    assert [start for start, _ in spans] == [stride * place for place in range(len(spans))]
    assert all(0 <= start < end <= tokens and end - start <= body for start, end in spans)
    assert all(end - start == body for start, end in spans[:-1])
    if len(spans) > 1:
        assert spans[-1][1] - spans[-1][0] >= min(MIN_TAIL, body)
    covered = {token for start, end in spans for token in range(start, end)}
    assert covered == set(range(len(covered)))
    assert tokens - len(covered) < min(MIN_TAIL, body)


@given(_cuts())
def test_no_window_lies_inside_another(cut: tuple[int, int, int]) -> None:
    ends = [end for _, end in windows(*cut)]
    assert ends == sorted(set(ends))


@given(st.integers(0, 20_000))
def test_over_all_passes_every_window_is_taken_once(count: int) -> None:
    turns = [taken(count, turn) for turn in range(4)]
    assert sorted(place for turn in turns for place in turn) == list(range(count))
    assert [sum(map(len, turns[: turn + 1])) for turn in range(4)] == [min(count, quota(turn)) for turn in range(4)]


@given(st.integers(33, 20_000), st.integers(0, 5))
def test_a_long_document_is_spread_evenly_at_every_power_of_two(count: int, power: int) -> None:
    chosen = sorted(taken(count, 0)[: 1 << power])
    gaps = {after - before for before, after in pairwise([*chosen, count])}
    assert chosen[0] == 0
    assert max(gaps) - min(gaps) <= 1


def test_a_short_document_is_taken_in_order_and_the_quota_grows() -> None:
    assert taken(32, 0) == list(range(32))
    assert taken(64, 0)[:4] == [0, 32, 16, 48]
    assert [quota(turn) for turn in range(3)] == [32, 512, 8192]


def test_a_key_is_blake2b_of_little_endian_tokens() -> None:
    # Worked out by hand with `b2sum -l 64` over the bytes 01 00 00 00 ff 00 00 00.
    assert context_key(np.array([1, 255], dtype=np.int32)).to_bytes(8, "little").hex() == "48c14a57286f3acc"


@given(st.lists(st.text(st.sampled_from("ab. \n"), max_size=60), max_size=20))
def test_a_divided_text_is_the_same_text_with_numbered_parts(pieces: list[str]) -> None:
    parts = list(divided(iter(pieces), "book", "shelf", limit=20))
    whole = "".join(pieces)
    assert "".join("".join(part.text for part in parts).split()) == "".join(whole.split())
    assert all(len(part.text) <= 25 for part in parts)
    assert all(part.text in whole and part.text.strip() for part in parts)
    assert len({part.id for part in parts}) == len(parts)
    assert all(part.id.split("#")[0] == "book" for part in parts)


def test_a_text_is_divided_after_a_paragraph_when_there_is_one_near() -> None:
    text = "x" * 22 + "\n\n" + "y" * 30
    assert [part.text for part in divided(iter((text,)), "t", "s", limit=20)] == ["x" * 22 + "\n\n", "y" * 20, "y" * 10]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"length": 1}, "The context length must be a whole number from 2 to 4,096, not 1."),
        ({"length": 5000}, "from 2 to 4,096, not 5000"),
        ({"contexts": 0}, "number of contexts must be a whole number from 1 to 10,000,000, not 0"),
        ({"contexts": 10_000_001}, "not 10000001"),
        ({"contexts": True}, "not True"),
        ({"contexts": "12"}, "not 12"),
        ({"stride": 0}, "The stride must be a whole number from 1 to 64 (the context length), not 0."),
        ({"stride": 65}, "not 65"),
        ({"seed": -1}, "The seed"),
        ({"source": "  "}, "source is empty"),
        ({"source": "a\0b"}, "unprintable"),
        ({"field": ""}, "field is empty"),
        ({"bos": "yes"}, "BOS must be true"),
    ],
)
def test_a_senseless_choice_is_refused_in_one_sentence(change: dict[str, Any], said: str) -> None:
    with pytest.raises(AtlasError) as refused:
        CorpusSpec.from_json({"source": "embedded", "contexts": 8, **change})
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_choice_survives_json_and_unknown_entries_are_named() -> None:
    spec = CorpusSpec("hub:a/b:c", 7, 32, 16, True, "test", "main", "body", 3)
    assert CorpusSpec.from_json(spec.to_json()) == spec
    assert set(spec.to_json()) == {field.name for field in dataclasses.fields(CorpusSpec)}
    with pytest.raises(AtlasError, match="“lenght”"):
        CorpusSpec.from_json({"source": "embedded", "contexts": 1, "lenght": 3})
    with pytest.raises(AtlasError, match="no “contexts”"):
        CorpusSpec.from_json({"source": "embedded"})
    with pytest.raises(AtlasError, match="damaged"):
        CorpusSpec.from_json(["embedded"])
