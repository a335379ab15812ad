"""The token view's data: what is packed is what was given, nothing invisible is left, and text is readable over every colour."""

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.ui import theme
from core.ui.tokens import Band, Heading, Row, View, digits, pack, piece_text
from core.vocab import Vocab

PIECES = [b"<|end|>", b" the", b"</script>", b"\n\n", "\u202e".encode(), "\u200d".encode(), b"\xf0\x9f", b"\x00", "é".encode()]
VOCAB = Vocab(PIECES, [True] + [False] * (len(PIECES) - 1))


def row(activations: list[float], tokens: list[int]) -> Row:
    return Row(np.array(tokens, np.int32), np.array(activations, np.float32), 0, activations[0], "here", ("a",))


def packed(rows: list[Row], low: float = -1.0, high: float = 2.0) -> dict[str, Any]:
    bands = [Band("Top", "kept", rows[:1]), Band("Rest", "", rows[1:])]
    return json.loads(pack(bands, VOCAB, key="k", low=low, high=high, heading=Heading("Title", csv=("x",))))


def unpacked(body: dict[str, Any]) -> list[tuple[list[int], list[float | None]]]:
    """What the browser reads: token numbers and activations, None where nothing was computed."""
    index = np.frombuffer(base64.b64decode(body["index"]), "<u2")
    numbers = np.frombuffer(base64.b64decode(body["activations"]), "<i2")
    found, at = [], 0
    for each in body["rows"]:
        here = slice(at, at + each["n"])
        values = [None if v == -32768 else float(v) * each["scale"] for v in numbers[here].tolist()]
        found.append(([body["ids"][i] for i in index[here]], values))
        at += each["n"]
    return found


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, len(PIECES) - 1), st.one_of(st.just(np.nan), st.floats(-1e4, 1e4, width=32))), min_size=1, max_size=8
        ),
        min_size=1,
        max_size=4,
    )
)
@example([[(0, 1.1754943508222875e-38)]])  # its step is too small for 32 bits
def test_tokens_and_activations_come_back_as_they_were(texts: list[list[tuple[int, float]]]) -> None:
    rows = [row([a if i or not np.isnan(a) else 0.0 for i, (_, a) in enumerate(text)], [t for t, _ in text]) for text in texts]
    for given_row, (tokens, values) in zip(rows, unpacked(packed(rows)), strict=True):
        assert tokens == given_row.tokens.tolist()
        largest = np.nanmax(np.abs(given_row.activations))
        for value, exact in zip(values, given_row.activations.tolist(), strict=True):
            assert (value is None) == bool(np.isnan(exact))
            assert value is None or abs(value - exact) <= largest / 32767 * 0.51 + 1e-12


def test_exactly_zero_stays_exactly_zero() -> None:
    (_, values), *_ = unpacked(packed([row([0.0, 5.0, np.nan], [1, 1, 0])]))
    assert values[0] == 0
    assert values[2] is None


def test_limits_are_symmetric_for_signed_units_and_start_at_zero_for_others() -> None:
    assert packed([row([1.0], [1])], low=-3, high=2)["limit"] == 3
    assert packed([row([1.0], [1])], low=0.5, high=2)["low"] == 0


def test_undefined_limits_do_not_break_the_data() -> None:
    body = packed([row([0.0], [1])], low=float("nan"), high=float("nan"))
    assert (body["low"], body["high"], body["limit"]) == (0, 0, 0)


def test_no_piece_hides_or_reorders_text() -> None:
    body = packed([row([1.0] * len(PIECES), list(range(len(PIECES))))])
    assert body["pieces"] == ["<|end|>", " the", "</script>", "\n\n", "⟨U+202E⟩", "⟨U+200D⟩", "⟨f0 9f⟩", "⟨U+0000⟩", "é"]


def test_the_exact_bytes_are_kept_for_copying_and_special_tokens_stand_for_no_text() -> None:
    body = packed([row([1.0] * len(PIECES), list(range(len(PIECES))))])
    exact = b"".join(
        bytes.fromhex(body["raw"][str(place)]) if str(place) in body["raw"] else piece.encode()
        for place, piece in enumerate(body["pieces"])
    )
    assert exact == b"".join(PIECES[1:])


def test_joiners_inside_emoji_stay() -> None:
    assert piece_text("👩\u200d💻") == "👩\u200d💻"
    assert piece_text("a\u2066b") == "a⟨U+2066⟩b"


def test_every_kind_of_space_stays_a_space() -> None:
    assert piece_text("a\u00a0b\u3000c") == "a\u00a0b\u3000c"


def test_a_long_band_shows_its_first_rows_or_an_even_spread() -> None:
    rows = [row([1.0], [1])] * 20
    assert Band("", "", rows, first=5).initial() == [0, 1, 2, 3, 4]
    assert Band("", "", rows, first=5, spread=True).initial() == [2, 6, 10, 14, 18]
    assert Band("", "", rows[:3], first=5, spread=True).initial() == [0, 1, 2]


@pytest.mark.parametrize(("limit", "expected"), [(0, 2), (24.4, 2), (2.4, 3), (0.05, 5), (1e-9, 6), (5000, 0), (float("nan"), 2)])
def test_numbers_have_about_four_significant_digits(limit: float, expected: int) -> None:
    assert digits(limit) == expected


def test_the_view_reads_the_address_and_names_each_wrong_value() -> None:
    view, wrong = View.read({"window": "all", "scale": "colossal", "curve": "log", "unit": "x"})
    assert view == View("all", "unit", "log")
    assert wrong == ["“colossal” is not a scale: use unit or text."]
    assert view.query() == {"window": "all", "curve": "log"}


def _luminance(colour: np.ndarray) -> float:
    """Relative luminance of WCAG 2.1 of an sRGB colour with components in [0, 1]."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _contrast(one: np.ndarray, other: np.ndarray) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _rgb(text: str) -> np.ndarray:
    return np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)]) / 255


@pytest.mark.parametrize("name", ["LIGHT", "DARK"])
@pytest.mark.parametrize("mark", ["mark", "negative_mark"])
def test_text_is_readable_over_every_mix_of_a_highlight(name: str, mark: str) -> None:
    colours = getattr(theme, name)
    text, ground, full = _rgb(colours.text), _rgb(colours.background), _rgb(getattr(colours, mark))
    for share in np.linspace(0, 1, 101):
        assert _contrast(text, share * full + (1 - share) * ground) >= 4.5, f"{share:.0%}"
    assert _contrast(ground, full) >= 1.3, "the strongest highlight can hardly be seen"


@pytest.mark.parametrize("name", ["LIGHT", "DARK"])
def test_small_muted_text_is_readable(name: str) -> None:
    colours = getattr(theme, name)
    for ground in (colours.background, colours.surface):
        assert _contrast(_rgb(colours.muted), _rgb(ground)) >= 4.5


@pytest.mark.parametrize("name", ["LIGHT", "DARK"])
@pytest.mark.parametrize("line", ["raised", "lowered"])
def test_the_underline_of_an_effect_is_seen_on_the_page(name: str, line: str) -> None:
    colours = getattr(theme, name)
    assert _contrast(_rgb(getattr(colours, line)), _rgb(colours.background)) >= 3


def test_an_effect_travels_with_its_row_and_the_largest_of_all_rows_is_the_scale() -> None:
    effect = np.array([np.nan, -0.5, 0.25], np.float32)
    plain = row([1.0, 2.0, 0.0], [1, 2, 3])
    body = packed([plain, replace(plain, effect=effect)])
    assert body["most"] == pytest.approx(0.5)
    assert "effect" not in body["rows"][0]
    numbers = np.frombuffer(base64.b64decode(body["rows"][1]["effect"]), "<i2")
    assert numbers[0] == -32768
    np.testing.assert_allclose(numbers[1:] * body["rows"][1]["effectScale"], effect[1:], rtol=1e-3)
    assert packed([plain])["most"] is None


def test_a_row_may_be_of_another_unit_with_a_scale_of_its_own() -> None:
    own = replace(row([0.5, 0.25], [1, 2]), label="B 17", limit=120.0)
    first, second = packed([row([1.0], [1]), own])["rows"]
    assert not {"label", "limit", "digits"} & first.keys()
    assert (second["label"], second["limit"], second["digits"]) == ("B 17", 120.0, digits(120.0))
