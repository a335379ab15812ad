"""A slice is the same everywhere, holds every context once with its origin, and is found again; bad text leaves nothing behind."""

import errno
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.corpus.build import build_slice
from core.corpus.slice import CONTEXTS_SCHEMA, DOCUMENTS_SCHEMA, Slice
from core.corpus.spec import CorpusSpec
from core.corpus.windows import context_key
from core.errors import AtlasError
from core.workspace import Workspace
from tests.byte_tokenizer import BOS, ByteTokenizer

TEXTS = {
    "a/first.txt": "The river follows the narrow valley. " * 5 + "Über 漢字 🌊!",
    "a/same.txt": "The river follows the narrow valley. " * 5 + "Über 漢字 🌊!",
    "b/short.txt": "hello",
    "b/one.txt": "x",
    "c.txt": "In winter the captain counted silver letters by the light of a lamp, and remembered.",
}


def _fill(folder: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf8")
    return folder


def _build(workspace: Workspace, folder: Path, tokenizer: ByteTokenizer | None = None, **choices: Any) -> Slice:
    spec = CorpusSpec.from_json({"source": str(folder), "contexts": 1000, "length": 16, **choices})
    return build_slice(workspace, spec, tokenizer or ByteTokenizer())


def _names(made: Slice) -> list[str]:
    """The document of each context, in rank order."""
    ids = pq.read_table(made.folder / "documents.parquet").column("id").to_pylist()
    return [ids[number] for number in made.documents]


def _left(workspace: Workspace) -> list[str]:
    return [path.name for place in (workspace.corpora, workspace.scratch) for path in place.iterdir() if path.name != ".recipes"]


def test_the_same_text_gives_the_same_slice_on_another_machine(tmp_path: Path) -> None:
    one = _build(Workspace.open(tmp_path / "w1"), _fill(tmp_path / "here" / "texts", TEXTS))
    two = _build(Workspace.open(tmp_path / "w2"), _fill(tmp_path / "there" / "texts", dict(reversed(TEXTS.items()))))
    assert one.info["hash"] == two.info["hash"]
    assert one.id == two.id == one.info["hash"][:12]
    assert np.array_equal(one.tokens, two.tokens)
    for name in ("contexts.parquet", "documents.parquet"):
        assert pq.read_table(one.folder / name).equals(pq.read_table(two.folder / name))


@pytest.mark.parametrize(
    "choices",
    [{"length": 17}, {"stride": 8}, {"bos": True}, {"contexts": 3}],
    ids=str,
)
def test_another_cut_is_another_slice(workspace: Workspace, tmp_path: Path, choices: dict[str, Any]) -> None:
    folder = _fill(tmp_path / "texts", TEXTS)
    assert _build(workspace, folder).info["hash"] != _build(workspace, folder, **choices).info["hash"]


def test_another_text_id_or_label_is_another_slice(workspace: Workspace, tmp_path: Path) -> None:
    hashes = {
        _build(workspace, _fill(tmp_path / str(number) / "texts", {name: text})).info["hash"]
        for number, (name, text) in enumerate([("a/t.txt", "hello"), ("a/t.txt", "hallo"), ("a/u.txt", "hello"), ("b/t.txt", "hello")])
    }
    assert len(hashes) == 4


def test_the_files_follow_the_contract_and_load_back(workspace: Workspace, tmp_path: Path) -> None:
    made = _build(workspace, _fill(tmp_path / "texts", TEXTS), bos=True)
    contexts = pq.read_table(made.folder / "contexts.parquet")
    assert contexts.schema.equals(CONTEXTS_SCHEMA)
    assert pq.read_table(made.folder / "documents.parquet").schema.equals(DOCUMENTS_SCHEMA)
    info = json.loads((made.folder / "slice.json").read_text("utf8"))
    assert set(info) == {
        *("id", "hash", "spec", "contexts", "tokens", "documents", "length", "stride", "bos", "tokenizer_hash", "sources"),
    }
    assert (info["contexts"], info["documents"], info["stride"], info["bos"]) == (len(made), 3, 15, True)
    assert info["tokens"] == int((made.lengths - 1).sum())
    assert info["sources"] == {"a": 14, "b": 1, "texts": 6}
    loaded = Slice.load(workspace, made.id)
    tokenizer = ByteTokenizer()
    assert loaded.first == 1
    assert loaded.tokens.dtype == np.int32
    assert loaded.tokens.shape == (len(made), 16)
    rows = contexts.to_pylist()
    documents = [(row["id"], row["source"]) for row in pq.read_table(made.folder / "documents.parquet").to_pylist()]
    for rank, row in enumerate(rows):
        tokens = loaded.tokens[rank, : loaded.lengths[rank]]
        assert row["rank"] == rank
        assert row["tokens"] == tokens.tolist()
        assert tokens[0] == BOS
        assert not loaded.tokens[rank, len(tokens) :].any()
        assert row["key"] == loaded.keys[rank] == context_key(tokens)
        assert row["text"] == tokenizer.decode(tokens[1:].tolist())
        name, label = documents[row["document"]]
        whole = tokenizer.encode([TEXTS[name]])[0]
        start = int(loaded.starts[rank])
        assert tokens[1:].tolist() == whole[start : start + 15]
        assert label == (name.split("/")[0] if "/" in name else "texts")


def test_without_a_bos_every_position_counts(workspace: Workspace, tmp_path: Path) -> None:
    folder = _fill(tmp_path / "texts", TEXTS)
    plain = _build(workspace, folder)
    assert plain.first == 0
    assert BOS not in plain.tokens
    assert plain.info["tokens"] == int(plain.lengths.sum())
    by_itself = _build(workspace, folder, ByteTokenizer(adds_bos=True))
    assert by_itself.first == 1
    assert _build(workspace, folder, ByteTokenizer(adds_bos=True), bos=False).first == 0


def test_equal_contexts_come_once(workspace: Workspace, tmp_path: Path) -> None:
    made = _build(workspace, _fill(tmp_path / "texts", {"a.txt": "abcdefgh" * 40, "b.txt": "abcdefgh" * 3, "c.txt": "abcdefgh" * 3 + "!"}))
    rows = [tuple(tokens[:length].tolist()) for tokens, length in zip(made.tokens, made.lengths, strict=True)]
    assert len(set(rows)) == len(rows) == 3
    assert _names(made) == ["a.txt", "b.txt", "c.txt"]
    assert [made.lengths[rank] for rank in range(3)] == [16, 8, 9]


def test_one_long_file_does_not_fill_the_slice(workspace: Workspace, tmp_path: Path) -> None:
    long = "".join(f"{n:08d}" for n in range(2000))
    folder = _fill(tmp_path / "texts", {"long.txt": long, "next.txt": "A quiet garden."})
    made = _build(workspace, folder, contexts=33)
    assert _names(made) == ["long.txt"] * 32 + ["next.txt"]
    assert sorted(made.starts[:32].tolist()) == [1000 * place // 32 * 16 for place in range(32)]


def test_with_too_little_text_the_long_file_gives_everything_it_has(workspace: Workspace, tmp_path: Path) -> None:
    long = "".join(f"{n:08d}" for n in range(2000))
    folder = _fill(tmp_path / "texts", {"long.txt": long, "next.txt": "A quiet garden."})
    made = _build(workspace, folder, contexts=5000)
    assert len(made) == 1001
    assert made.info["documents"] == 2
    assert sorted(made.starts[made.documents == 0].tolist()) == list(range(0, 16000, 16))
    partly = _build(workspace, folder, contexts=200)
    assert len(partly) == 200
    assert np.histogram(partly.starts[partly.documents == 0], bins=4, range=(0, 16_000))[0].min() >= 45


def test_a_second_call_does_not_tokenise_until_the_text_changes(workspace: Workspace, tmp_path: Path) -> None:
    folder = _fill(tmp_path / "texts", TEXTS)
    tokenizer = ByteTokenizer()
    first = _build(workspace, folder, tokenizer)
    calls = tokenizer.calls
    assert _build(workspace, folder, tokenizer).id == first.id
    assert tokenizer.calls == calls
    (folder / "c.txt").write_text("Another text altogether.", "utf8")
    assert _build(workspace, folder, tokenizer).id != first.id
    assert tokenizer.calls > calls


def test_a_deleted_or_damaged_slice_is_made_again(workspace: Workspace, tmp_path: Path) -> None:
    folder = _fill(tmp_path / "texts", TEXTS)
    made = _build(workspace, folder)
    rows = pq.read_table(made.folder / "contexts.parquet")
    shutil.rmtree(made.folder)
    assert pq.read_table(_build(workspace, folder).folder / "contexts.parquet").equals(rows)
    (made.folder / "contexts.parquet").write_bytes(b"PAR1 nothing")
    assert pq.read_table(_build(workspace, folder).folder / "contexts.parquet").equals(rows)
    shutil.rmtree(workspace.corpora / ".recipes")
    before = (made.folder / "contexts.parquet").stat().st_mtime_ns
    _build(workspace, folder)
    assert (made.folder / "contexts.parquet").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["slice.json", "contexts.parquet", "documents.parquet"])
def test_a_truncated_file_is_said_and_not_guessed_around(workspace: Workspace, tmp_path: Path, name: str) -> None:
    made = _build(workspace, _fill(tmp_path / "texts", TEXTS))
    content = (made.folder / name).read_bytes()
    (made.folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(AtlasError, match="is damaged: delete that folder"):
        Slice.load(workspace, made.id)


def test_a_flipped_bit_in_the_tokens_is_noticed(workspace: Workspace, tmp_path: Path) -> None:
    made = _build(workspace, _fill(tmp_path / "texts", TEXTS))
    path = made.folder / "contexts.parquet"
    content = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(3)
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(AtlasError, match="damaged"):
        Slice.load(workspace, made.id)


def test_a_slice_that_is_not_there_or_not_a_name_is_refused(workspace: Workspace) -> None:
    with pytest.raises(AtlasError, match="There is no text slice 0123"):
        Slice.load(workspace, "0123")
    with pytest.raises(AtlasError, match="not the name of a slice"):
        Slice.load(workspace, "../../etc")


@pytest.mark.parametrize(
    ("texts", "choices", "said"),
    [
        ({"a.txt": ""}, {}, "is empty"),
        ({"a.txt": " \n\t\n"}, {}, "is empty"),
        ({"a.txt": "x", "b.txt": "y"}, {}, "No document of .* has 2 tokens or more"),
        ({"a.txt": "some text"}, {"length": 129}, r"A context of 129 tokens is longer than this model can read \(128\)"),
        ({"a.txt": "some text"}, {"length": 2, "bos": True}, "choose a length of at least 3"),
        ({"a.txt": "some text\0"}, {}, "is a binary file"),
    ],
)
def test_text_that_gives_nothing_is_refused_and_leaves_nothing(
    workspace: Workspace, tmp_path: Path, texts: dict[str, str], choices: dict[str, Any], said: str
) -> None:
    folder = _fill(tmp_path / "texts", texts)
    with pytest.raises(AtlasError, match=said):
        _build(workspace, folder, **choices)
    assert _left(workspace) == []


def test_a_bos_the_tokenizer_lacks_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="no BOS token"):
        _build(workspace, _fill(tmp_path / "texts", TEXTS), ByteTokenizer(bos_token_id=None), bos=True)


def test_one_token_documents_are_left_out_and_shorter_ones_than_a_window_kept(workspace: Workspace, tmp_path: Path) -> None:
    made = _build(workspace, _fill(tmp_path / "texts", {"a.txt": "x", "b.txt": "yz", "c.txt": "z"}))
    assert _names(made) == ["b.txt"]
    assert made.lengths.tolist() == [2]


def test_a_full_disk_is_said_and_leaves_nothing(workspace: Workspace, tmp_path: Path) -> None:
    class Full(ByteTokenizer):
        def decode(self, tokens: Sequence[int]) -> str:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(AtlasError, match="The disk is full"):
        _build(workspace, _fill(tmp_path / "texts", TEXTS), Full())
    assert _left(workspace) == []


def test_texts_are_read_across_row_groups_and_progress_ends_at_the_count(workspace: Workspace, tmp_path: Path) -> None:
    texts = {f"{n:04d}.txt": f"document number {n} says so" for n in range(1300)}
    told: list[tuple[int, int, str]] = []
    spec = CorpusSpec(str(_fill(tmp_path / "texts", texts)), 2000, 64)
    made = build_slice(workspace, spec, ByteTokenizer(), lambda done, total, doing: told.append((done, total, doing)))
    assert pq.read_metadata(made.folder / "contexts.parquet").num_row_groups == 2
    assert pq.read_table(made.folder / "contexts.parquet").column("text").to_pylist() == list(texts.values())
    assert told[0] == (0, 2000, "reading the text")
    assert told[-1][:2] == (1300, 1300)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
