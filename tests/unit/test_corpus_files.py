"""A person's own files become documents with ids and labels, and every bad file is refused in one sentence that names it."""

import csv
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.corpus.documents import Document
from core.corpus.sources import documents
from core.corpus.spec import CorpusSpec
from core.errors import AtlasError


def _read(path: Path | str, **choices: str) -> list[Document]:
    return list(documents(CorpusSpec(str(path), 8, field=choices.get("field"), split=choices.get("split", "train"))))


def _refusal(path: Path | str, **choices: str) -> str:
    with pytest.raises(AtlasError) as refused:
        _read(path, **choices)
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def test_every_kind_of_file_gives_its_texts(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "sub").mkdir(parents=True)
    (folder / "b.txt").write_bytes(b"\xef\xbb\xbfplain\r\ntext")
    (folder / "a.md").write_text("# title\n", "utf8")
    (folder / "sub" / "c.jsonl").write_text(
        '{"text": "one"}\n\n{"text": "two", "id": "second", "source": "letters"}\n{"text": null}', "utf8"
    )
    with (folder / "d.csv").open("w", newline="", encoding="utf8") as file:
        csv.writer(file).writerows([["id", "text"], ["7", 'with, comma\nand "line"'], ["8", "   "]])
    pq.write_table(pa.table({"text": ["row 0", "row 1"]}), folder / "e.parquet")
    (folder / "picture.png").write_bytes(b"\x89PNG\0")
    (folder / ".hidden.txt").write_text("hidden", "utf8")
    assert _read(folder) == [
        Document("a.md", "mine", "# title\n"),
        Document("b.txt", "mine", "plain\ntext"),
        Document("7", "mine", 'with, comma\nand "line"'),
        Document("e.parquet:1", "mine", "row 0"),
        Document("e.parquet:2", "mine", "row 1"),
        Document("sub/c.jsonl:1", "sub", "one"),
        Document("second", "letters", "two"),
    ]
    assert _read(folder / "b.txt") == [Document("b.txt", "b.txt", "plain\ntext")]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_the_text_column_can_be_named_and_the_columns_there_are_are_listed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    if suffix == "jsonl":
        path.write_text('{"body": "hello", "n": 1}\n', "utf8")
    elif suffix == "csv":
        path.write_text("body,n\nhello,1\n", "utf8")
    else:
        pq.write_table(pa.table({"body": ["hello"], "n": [1]}), path)
    assert [document.text for document in _read(path, field="body")] == ["hello"]
    refusal = _refusal(path)
    assert "no field “text”; it has “body”, “n”" in refusal
    assert str(path) in refusal


def test_the_order_does_not_depend_on_how_the_folder_was_filled(tmp_path: Path) -> None:
    names = [f"{n:02d}-{letter}.txt" for n in range(6) for letter in "aBé"]
    for folder, seed in (("one", 1), ("two", 2)):
        (tmp_path / folder).mkdir()
        for name in random.Random(seed).sample(names, len(names)):
            (tmp_path / folder / name).write_text(f"text of {name}", "utf8")
    one, two = (_read(tmp_path / folder) for folder in ("one", "two"))
    assert [d.id for d in one] == [d.id for d in two] == sorted(names)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret", "utf8")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "far.txt").write_text("far", "utf8")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "near.txt").write_text("near", "utf8")
    (folder / "twin.txt").symlink_to("near.txt")
    (folder / "leak.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "gone.txt").symlink_to(tmp_path / "nothing.txt")
    (folder / "door").symlink_to(tmp_path / "outside")
    assert [document.id for document in _read(folder)] == ["near.txt", "twin.txt"]


def test_a_long_file_becomes_several_documents_cut_at_paragraphs(tmp_path: Path) -> None:
    paragraph = "word " * 200 + "\n\n"
    (tmp_path / "long.txt").write_text(paragraph * 700, "utf8")
    found = _read(tmp_path / "long.txt")
    assert [document.id for document in found] == ["long.txt", "long.txt#2", "long.txt#3"]
    assert "".join(document.text for document in found) == paragraph * 700
    assert all(document.text.endswith("\n\n") for document in found)


def test_a_file_that_is_not_text_is_refused_by_name(tmp_path: Path) -> None:
    for name, content in {
        "nul.txt": b"abc\0def",
        "latin.md": "café".encode("latin-1"),
        "utf16.csv": "text\nhello\n".encode("utf-16"),
        "program": bytes(range(256)),
        "late.jsonl": b'{"text": "fine"}\n\xff\n',
        "table.parquet.txt": b"PAR1\x15\x04\x15\x00",
    }.items():
        (tmp_path / name).write_bytes(content)
        refusal = _refusal(tmp_path / name)
        assert str(tmp_path / name) in refusal
        said = {"latin.md": "not UTF-8 text (", "late.jsonl": "not UTF-8 text (", "utf16.csv": "not UTF-8 text but UTF-16"}
        assert said.get(name, "is a binary file") in refusal


def test_a_damaged_line_is_refused_by_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n\n{"text": "cut', "utf8")
    assert f"{path}, line 3 is not JSON" in _refusal(path)
    path.write_text('"just a text"\n', "utf8")
    assert f"{path}, line 1 is not a JSON object" in _refusal(path)
    path.write_text('{"text": 5}\n', "utf8")
    assert "not text but int" in _refusal(path)
    path.write_text("[" * 100_000 + "\n", "utf8")
    assert "line 1 is not JSON" in _refusal(path)
    table = tmp_path / "a.csv"
    table.write_text("text,n\nfine,1\nbroken\n", "utf8")
    assert f"{table}, line 3 has 1 cells where the header has 2" in _refusal(table)
    table.write_text('text\n"open\n', "utf8")
    assert "is not valid CSV" in _refusal(table)


def test_half_a_surrogate_pair_in_json_does_not_reach_the_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a\ud800b"}), "utf8")
    assert [document.text.encode() for document in _read(tmp_path / "a.jsonl")] == [b"a?b"]


def test_a_truncated_or_damaged_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"some text number {n}" for n in range(5000)]
    pq.write_table(pa.table({"text": texts}), path, compression="zstd", use_dictionary=False)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert str(path) in _refusal(path)
    path.write_bytes(whole[:100] + bytes(400) + whole[500:])
    assert str(path) in _refusal(path)
    pq.write_table(pa.table({"text": [1, 2]}), path)
    assert "not text but int" in _refusal(path)


def test_a_field_of_text_that_has_none_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    for name in ("a.txt", "b.md", "c.log"):
        (tmp_path / name).write_text("text", "utf8")
        assert f"{tmp_path / name} is plain text, which has no fields: leave out the field “body”" in _refusal(
            tmp_path / name, field="body"
        )
    assert "has no fields" in _refusal(tmp_path, field="body")
    assert "The embedded text is plain text" in _refusal("embedded", field="body")
    (tmp_path / "d.jsonl").write_text('{"body": "a row"}', "utf8")
    assert [document.text for document in _read(tmp_path, field="body")] == ["text", "text", "a row"]


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    assert f"There is nothing at {tmp_path / 'no.txt'}" in _refusal(tmp_path / "no.txt")
    (tmp_path / "empty").mkdir()
    assert "holds no text to read" in _refusal(tmp_path / "empty")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text", "utf8")
    (tmp_path / "a.txt").chmod(0)
    assert f"{tmp_path / 'a.txt'} cannot be read" in _refusal(tmp_path)


def test_a_dataset_is_streamed_with_its_split_and_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "letters"
    folder.mkdir()
    pq.write_table(pa.table({"body": ["train 0"]}), folder / "train.parquet")
    pq.write_table(pa.table({"body": ["test 0", "test 1"]}), folder / "test.parquet")
    assert _read(f"hub:{folder}", split="test", field="body") == [
        Document(f"{folder}:test:0", "letters", "test 0"),
        Document(f"{folder}:test:1", "letters", "test 1"),
    ]
    assert "it has “body”" in _refusal(f"hub:{folder}", split="test")
    assert "could not be read" in _refusal(f"hub:{folder}", split="dev", field="body")


def test_a_name_that_is_neither_a_file_nor_a_reachable_dataset_is_refused() -> None:
    refusal = _refusal("no-such-owner/no-such-dataset")
    assert "“no-such-owner/no-such-dataset” is no file here" in refusal
