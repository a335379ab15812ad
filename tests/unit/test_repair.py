"""Repair of byte-level tokens: exact for any text that was written so, and nothing else is touched."""

import itertools
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.findings.exchange.repair import BYTES, repair, repaired, shown

WRITTEN = {bytes_of: character for character, bytes_of in BYTES.items() if len(bytes_of) == 1 and character not in " \n\t"}
REPLACED = {"âĢĶ": "—", "âĢĵ": "–", "âĢľ": "“", "âĢĿ": "”", "âĢĺ": "‘", "âĢĻ": "’", "Ġ": " ", "Ċ": "\n", "ĉ": "\t"}
"""What SAEDashboard puts in the place of such characters."""


def as_characters(content: bytes) -> str:
    return "".join(WRITTEN[bytes([byte])] for byte in content)


def cut(text: str, at: list[int]) -> list[str]:
    ends = sorted({0, len(text), *(place % (len(text) + 1) for place in at)})
    return [text[low:high] for low, high in itertools.pairwise(ends)]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (" cafÃ©", " café"),
        (" ÐŁÑĢÐ¸Ð²ÐµÑĤ", " Привет"),
        ("æĹ¥æľ¬", "日本"),
        ("ðŁĻĤ", "🙂"),
        ("âĢ¦", "…"),
        ("Ġthe", " the"),
        ("Ċ", "\n"),
        ("She saidâĢ¦ “no”—ever’s", "She said… “no”—ever’s"),
    ],
)
def test_the_known_examples_are_repaired_exactly(wrong: str, right: str) -> None:
    assert repair([wrong]) == [right]


@pytest.mark.parametrize(
    "text",
    [
        "café",
        " naïve é",
        "Ünïcödé",
        "日本",
        "▁the",
        "plain words",
        "é",
        "",
        "Привет",
        "—",
        "“quoted”",
        "\u00a0Â",
        "mogą być",
        "první věc",
        "dağ",
        "ġdid",
    ],
)
def test_genuine_text_survives(text: str) -> None:
    assert repair([text, " and more"]) == [text, " and more"]
    assert repaired([text]) is None


def test_all_256_bytes_have_a_character_of_their_own() -> None:
    assert sorted(WRITTEN) == [bytes([byte]) for byte in range(256)]
    assert WRITTEN[b" "] == "Ġ"
    assert WRITTEN[b"\n"] == "Ċ"
    assert WRITTEN[b"\x00"] == "Ā"
    assert WRITTEN[b"\xad"] == "Ń"


def test_a_character_of_several_tokens_stands_in_the_last() -> None:
    assert repair(["Ġæ", "Ĺ", "¥", "æľ¬"]) == [" ·", "·", "日", "本"]
    assert repaired(["Ġæ", "Ĺ", "¥", "æľ¬"]) == [b" \xe6", b"\x97", b"\xa5", "本".encode()]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n")), st.lists(st.integers(0, 400), max_size=8))
@example("Windows\r\n", [])
@example("日\x00\x7f", [1])
def test_any_text_written_as_bytes_is_repaired_exactly(text: str, at: list[int]) -> None:
    tokens = cut(as_characters(text.encode()), at)
    pieces = repaired(tokens)
    if pieces is None:  # it says the same already
        assert "".join(tokens) == text
        return
    assert b"".join(pieces).decode() == text
    assert len(pieces) == len(tokens)
    told = shown(pieces)
    assert len(told) == len(tokens)
    assert "".join(one[:-1] if split else one for one, split in zip(told, _split(pieces), strict=True)) == text


def _split(pieces: list[bytes]) -> list[bool]:
    """After which pieces a character is unfinished."""
    found: list[bool] = []
    joined = b""
    for piece in pieces:
        joined += piece
        found.append(len(joined.decode("utf8", "ignore").encode()) != len(joined))
    return found


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u200b") | st.sampled_from("\t\n")),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_what_sae_dashboard_replaced_is_repaired_too(text: str, at: list[int]) -> None:
    tokens = cut(as_characters(text.encode()), at)
    for before, after in REPLACED.items():
        tokens = [token.replace(before, after) for token in tokens]
    pieces = repaired(tokens)
    assert (b"".join(pieces).decode() if pieces is not None else "".join(tokens)) == text


@given(st.lists(st.text(st.characters())))
def test_nothing_raises_and_the_number_of_tokens_stays(tokens: list[str]) -> None:
    assert len(repair(tokens)) == len(tokens)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x17F), min_size=1))
def test_latin_text_changes_only_where_it_is_utf8_by_chance(text: str) -> None:
    """A letter above ASCII, alone between letters of ASCII, is never valid as bytes."""
    text = "".join(f"a{character}a" for character in unicodedata.normalize("NFC", text) if character > "\x7f" and character not in "ĊĠ")
    assert repair([text]) == [text]
