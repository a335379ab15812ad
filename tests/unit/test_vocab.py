"""Tokens stand for exact bytes, and people never see mojibake."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram
from tokenizers.pre_tokenizers import Metaspace
from transformers import PreTrainedTokenizerFast

from core.errors import AtlasError
from core.subject.tokens import hash_tokenizer, make_vocab
from core.vocab import Vocab
from tests.models import make_tiny_tokenizer

BYTES = Vocab([bytes([value]) for value in range(256)], [False] * 256)
"""One token a byte."""


def one(piece: bytes) -> Vocab:
    return Vocab([piece], [False])


@given(st.text())
def test_whole_text_is_decoded_as_it_is(text: str) -> None:
    assert BYTES.decode(text.encode()) == text


@given(st.text(min_size=1), st.data())
def test_a_character_cut_at_either_end_is_dropped(text: str, data: st.DataObject) -> None:
    raw = text.encode()
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, len(raw)))
    cut = BYTES.decode(raw[start:end])
    whole = [character for character, at in _offsets(text) if start <= at and at + len(character.encode()) <= end]
    assert cut == "".join(whole)


def _offsets(text: str) -> list[tuple[str, int]]:
    return [(character, len(text[:index].encode())) for index, character in enumerate(text)]


@given(st.binary())
def test_bytes_that_are_not_text_are_spelt_out(raw: bytes) -> None:
    assert "\ufffd" not in BYTES.decode(raw.replace("\ufffd".encode(), b""))


def test_broken_bytes_inside_a_text_are_shown_there() -> None:
    assert BYTES.decode(b"a\xe2\x80b") == "a⟨e2 80⟩b"
    assert BYTES.decode(b"\x80\x99a\xe2") == "a"


@pytest.mark.parametrize(
    ("piece", "shown", "label"),
    [
        (b" the", " the", "␣the"),
        (b"\n\n", "\n\n", "↵↵"),
        (b"\t", "\t", "⇥"),
        (b"\xe2\x80", "⟨e2 80⟩", "⟨e2 80⟩"),
        (b" \xf0\x9f", " ⟨f0 9f⟩", "␣⟨f0 9f⟩"),
        ("\ufffd".encode(), "\ufffd", "\ufffd"),
        ("\u200b".encode(), "\u200b", "⟨U+200B⟩"),
        ("\u202e".encode(), "\u202e", "⟨U+202E⟩"),
        ("\u0301".encode(), "\u0301", "◌\u0301"),
        (b"<script>", "<script>", "<script>"),
        ("漢".encode(), "漢", "漢"),
        (b"", "⟨token 0⟩", "⟨token 0⟩"),
    ],
)
def test_how_one_token_is_shown(piece: bytes, shown: str, label: str) -> None:
    assert one(piece).pieces([0]) == [shown]
    assert one(piece).label(0) == label


@pytest.mark.parametrize("token", [-1, 256])
def test_a_token_out_of_range_is_refused(token: int) -> None:
    for ask in (BYTES.bytes_of, BYTES.is_special, BYTES.label, lambda token: BYTES.decode([token]), lambda token: BYTES.pieces([token])):
        with pytest.raises(AtlasError, match="tokens 0 to 255"):
            ask(token)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    vocab = Vocab([b"a", b"", b"\xff", b"<s>"], [False, False, False, True])
    vocab.save(tmp_path / "vocab.parquet")
    again = Vocab.load(tmp_path / "vocab.parquet")
    assert [again.bytes_of(token) for token in range(again.size)] == [b"a", b"", b"\xff", b"<s>"]
    assert [again.is_special(token) for token in range(again.size)] == [False, False, False, True]
    assert list(tmp_path.iterdir()) == [tmp_path / "vocab.parquet"]  # no temporary file is left


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "vocab.parquet"
    with pytest.raises(AtlasError, match="is missing"):
        Vocab.load(path)
    BYTES.save(path)
    whole = path.read_bytes()
    for content in (b"", b"rubbish", whole[: len(whole) // 2], whole[:40] + bytes(60) + whole[100:]):
        path.write_bytes(content)
        with pytest.raises(AtlasError, match="is damaged"):
            Vocab.load(path)
    for table in ({"token": [1, 0], "bytes": [b"a", b"b"], "special": [False, False]}, {"token": [0]}):
        pq.write_table(pa.table(table), path)
        with pytest.raises(AtlasError, match="is damaged"):
            Vocab.load(path)


@given(text=st.text())
def test_a_byte_level_tokenizer_gives_exact_bytes(tiny: tuple[PreTrainedTokenizerFast, Vocab], text: str) -> None:
    tokenizer, vocab = tiny
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert b"".join(vocab.bytes_of(token) for token in ids) == text.encode()
    assert vocab.decode(ids) == text


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreTrainedTokenizerFast, Vocab]:
    tokenizer = make_tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return tokenizer, make_vocab(tokenizer, 300)


def test_special_tokens_stand_for_their_text_and_unused_numbers_for_nothing(tiny: tuple[PreTrainedTokenizerFast, Vocab]) -> None:
    _, vocab = tiny
    assert vocab.size == 300
    assert (vocab.bytes_of(1), vocab.is_special(1), vocab.is_special(2)) == (b"<|endoftext|>", True, False)
    assert vocab.bytes_of(299) == b""
    assert vocab.decode([1, 299]) == "<|endoftext|>"


def test_added_tokens_of_a_byte_level_tokenizer_are_literal(tmp_path: Path) -> None:
    tokenizer = make_tiny_tokenizer(tmp_path)
    tokenizer.add_tokens(["    ", "né", "<｜end▁of▁turn｜>"])
    vocab = make_vocab(tokenizer, 290)
    assert [vocab.bytes_of(token) for token in (290, 291, 292)] == [b"    ", "né".encode(), "<｜end▁of▁turn｜>".encode()]


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Words with `▁` for a space, and a token for each byte, as Llama 2 and Gemma have them."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁the", "▁", "cat", "▁▁", "漢"]
    backend = Tokenizer(BPE(vocab={word: index for index, word in enumerate(words)}, merges=[], byte_fallback=True, unk_token="<unk>"))
    backend.pre_tokenizer = Metaspace(prepend_scheme="never")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    tokenizer.add_tokens(["▁▁▁▁"])
    return tokenizer


def test_sentencepiece_spellings_become_bytes() -> None:
    tokenizer = sentencepiece_like()
    vocab = make_vocab(tokenizer, 300)
    names = ["<s>", "▁the", "▁", "cat", "<0x0A>", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "漢", "▁▁▁▁"]
    ids = [tokenizer.get_vocab()[name] for name in names]
    assert [vocab.bytes_of(token) for token in ids[:5]] == [b"<s>", b" the", b" ", b"cat", b"\n"]
    assert vocab.decode(ids[1:]) == " the cat\n🙂漢    "
    assert vocab.is_special(ids[0])


def test_unigram_tokenizers_are_read_too() -> None:
    backend = Tokenizer(Unigram([("<unk>", 0.0), ("▁a", -1.0), ("b", -2.0)], unk_id=0))
    assert make_vocab(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"), 3).decode([1, 2]) == " ab"


def test_the_hash_tells_tokenizers_apart_that_only_split_differently(tmp_path: Path) -> None:
    tokenizer = make_tiny_tokenizer(tmp_path / "one")
    same = make_tiny_tokenizer(tmp_path / "two")
    first = hash_tokenizer(tokenizer, make_vocab(tokenizer, 290))
    assert hash_tokenizer(same, make_vocab(same, 290)) == first
    same.backend_tokenizer.pre_tokenizer = Metaspace()  # type: ignore[assignment]
    assert hash_tokenizer(same, make_vocab(tokenizer, 290)) != first
