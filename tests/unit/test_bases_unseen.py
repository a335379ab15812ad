"""What is held out from a dictionary stays held out however the text is cut, and where that cannot be told it is not measured."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.bases import measure_run
from core.bases.held_out import split
from core.bases.info import BasisInfo
from core.bases.measure_request import MeasureRequest
from core.bases.measure_run import run_measure
from core.bases.unseen import unseen
from core.corpus.build import build_slice
from core.corpus.slice import Slice
from core.corpus.spec import CorpusSpec
from core.errors import AtlasError
from core.subject.info import subject_folder
from core.subject.subject import Subject
from core.subject.tokenizer import SubjectTokenizer
from core.units import Site
from core.vocab import Vocab
from core.workspace import Workspace
from tests.job_text import write_text
from tests.models import load_tiny_model


class Text:
    """Slices of one text, cut by a tiny model's tokenizer, and dictionaries that say that they were made from one of them."""

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace.open(folder / "ws")
        self.subject: Subject = load_tiny_model(folder, "llama", 2)
        self.spec = CorpusSpec(str(write_text(folder / "text.jsonl", documents=120)), contexts=400, length=16)

    def cut(self, **changes: Any) -> tuple[Slice, CorpusSpec]:
        vocab = Vocab.load(subject_folder(self.workspace, self.subject.info.slug) / "vocab.parquet")
        spec = replace(self.spec, **changes)
        return build_slice(self.workspace, spec, SubjectTokenizer(self.subject, vocab)), spec

    def made_from(self, piece: Slice, spec: CorpusSpec) -> BasisInfo:
        recipe = {"corpus": spec.to_json(), "slice": piece.id}
        card = self.subject.info
        return BasisInfo(
            name="a", subject=card.slug, site=Site("resid", 0), family="sae", rule="relu", d_in=32, units=8, tied=True, recipe=recipe
        )

    def documents(self, piece: Slice, ranks: Any) -> set[str]:
        import pyarrow.parquet as pq

        ids = pq.read_table(piece.folder / "documents.parquet").column("id").to_pylist()
        return {ids[number] for number in piece.documents[ranks]}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Text:
    return Text(tmp_path_factory.mktemp("unseen"))


def test_the_text_of_the_training_is_split_as_it_was(text: Text) -> None:
    piece, spec = text.cut()
    assert np.array_equal(unseen(text.workspace, piece, spec, [text.made_from(piece, spec)]), split(piece)[1])


@pytest.mark.parametrize("changes", [{"length": 24}, {"length": 8}, {"bos": True}, {"stride": 8}, {"length": 24, "contexts": 3000}])
def test_cut_otherwise_nothing_of_what_was_read_is_measured_on(text: Text, changes: dict[str, Any]) -> None:
    trained, spec = text.cut()
    piece, other = text.cut(**changes)
    found = unseen(text.workspace, piece, other, [text.made_from(trained, spec)])
    assert len(found) > 0
    read = text.documents(trained, split(trained)[0])
    assert not read & text.documents(piece, found)
    if "stride" not in changes:
        assert read & text.documents(piece, split(piece)[1]), "the plain split would have measured on what was read"
        assert text.documents(trained, split(trained)[1]) & text.documents(piece, np.arange(len(piece))) <= text.documents(piece, found)


def test_more_text_cut_alike_keeps_its_split(text: Text) -> None:
    trained, spec = text.cut(contexts=200)
    piece, other = text.cut(contexts=400)
    assert np.array_equal(unseen(text.workspace, piece, other, [text.made_from(trained, spec)]), split(piece)[1])


def test_another_text_and_a_dictionary_of_unknown_making_are_measured_on_the_split(text: Text) -> None:
    trained, spec = text.cut()
    piece, other = text.cut(length=24)
    elsewhere = text.made_from(trained, replace(spec, source="/somewhere/else.jsonl"))
    foreign = replace(elsewhere, recipe={"brought": "saelens"})
    assert np.array_equal(unseen(text.workspace, piece, other, [elsewhere, foreign]), split(piece)[1])


def test_several_dictionaries_are_measured_on_what_none_of_them_read(text: Text) -> None:
    one, two = text.cut(), text.cut(length=24, contexts=40)
    found = unseen(text.workspace, *one, [text.made_from(*one), text.made_from(*two)])
    assert len(found) > 0
    assert set(found) <= set(split(one[0])[1])
    assert not text.documents(two[0], split(two[0])[0]) & text.documents(one[0], found)


def test_parts_of_an_embedded_text_are_others_for_another_length_so_they_count_as_one(text: Text, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in Path(text.spec.source).read_text("utf8").splitlines()]
    path = tmp_path / "parts.jsonl"
    path.write_text("\n".join(json.dumps({**line, "id": f"set/{i // 2}#{i % 2 + 2}"}) for i, line in enumerate(lines)), "utf8")
    trained, spec = text.cut(source=str(path))
    piece, other = text.cut(source=str(path), length=24)
    found = unseen(text.workspace, piece, replace(other, source="embedded"), [text.made_from(trained, replace(spec, source="embedded"))])
    texts = {name.partition("#")[0] for name in text.documents(trained, split(trained)[0])}
    assert len(found) > 0
    assert not texts & {name.partition("#")[0] for name in text.documents(piece, found)}


def test_one_document_cut_otherwise_is_refused(text: Text, tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_text("the cat and a dog of house on it " * 200, "utf8")
    trained, spec = text.cut(source=str(path))
    assert len(unseen(text.workspace, trained, spec, [text.made_from(trained, spec)])) > 0
    piece, other = text.cut(source=str(path), length=24)
    with pytest.raises(AtlasError, match=r"Every document of this text was read to make llama/resid\.0/a, in contexts of 16 tokens"):
        unseen(text.workspace, piece, other, [text.made_from(trained, spec)])


def test_a_cut_that_is_gone_is_refused_rather_than_guessed(text: Text, tmp_path: Path) -> None:
    trained, spec = text.cut(length=12)
    piece, other = text.cut(length=24)
    moved = shutil.move(trained.folder, tmp_path / "away")
    with pytest.raises(AtlasError, match="is not here any more as it was cut then"):
        unseen(text.workspace, piece, other, [text.made_from(trained, spec)])
    shutil.move(moved, trained.folder)


def test_the_measuring_run_reads_and_counts_only_unseen_documents(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from core.bases.dictionary import Dictionary
    from core.bases.shelf import find_named

    trained, spec = text.cut()
    info = replace(text.made_from(trained, spec), weights_hash=text.subject.info.weights_hash)
    Dictionary(info, {"encoder": torch.randn(8, 32), "bias": torch.zeros(8)}).save(text.workspace)
    real, looked = measure_run.measure, list[Any]()

    def watching(subject: Any, dictionaries: Any, piece: Slice, ranks: Any, *rest: Any, **more: Any) -> Any:
        looked.append((piece, ranks, more["output_ranks"]))
        return real(subject, dictionaries, piece, ranks, *rest, **more)

    class Told:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
            pass

        def stage(self, name: str) -> None:
            pass

        def log(self, line: str) -> None:
            self.lines.append(line)

    monkeypatch.setattr(measure_run, "measure", watching)
    corpus = replace(spec, length=24).to_json()
    card = text.subject.info
    params = {"dictionaries": [info.key], "corpus": corpus, "model": card.name_or_path, "device": "cpu", "output_contexts": 4}
    folder = text.workspace.runs / "measure-1"
    folder.mkdir()
    told = Told()
    run_measure(text.workspace, folder, MeasureRequest.from_params(params).params(), told)
    ((piece, ranks, ahead),) = looked
    read = text.documents(trained, split(trained)[0])
    assert not read & (text.documents(piece, ranks) | text.documents(piece, ahead))
    said = find_named(text.workspace, info.key).info.metrics
    assert said["text"]["held_out_contexts"] == len(ranks)
    assert any("cut otherwise in training" in line for line in told.lines)
