"""An index of a dictionary's features: what is kept equals the codes, one by one, and everything that works for neurons works for them."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from core.autointerp.reading import read_again
from core.bases import shelf
from core.bases.dictionary import Dictionary
from core.bases.info import BasisInfo, Prepare
from core.corpus.slice import Slice
from core.errors import AtlasError
from core.index import codes, reader
from core.index.reader import contexts_of
from core.runs.operations import ModelOperations
from core.runs.progress import Cancelled
from core.store.cache import Cache
from core.store.catalog import find_unit, load_index
from core.store.features import load_feature
from core.store.units import load_unit
from core.subject.load import load_subject
from core.subject.subject import Subject
from core.units import Site, UnitName
from core.workspace import Workspace, write_json
from tests.models import make_tiny_model
from tests.slow_index import slow_unit
from tests.unit.test_index_run import Quiet, do_run

SITE = Site("resid", 0)
UNITS = 24
BLOCK = 4


class World:
    """A workspace with a tiny model, a sparse dictionary on its shelf, and a complete index of its features."""

    def __init__(self, folder: Path) -> None:
        make_tiny_model(folder / "tiny-llama", n_layers=2)
        rng = random.Random(0)
        words = ["the", "cat", "and", "a", "dog", "of", "house", "on", "it", "is", "in", "re", "water", "no", "one"]
        texts = [{"text": " ".join(rng.choices(words, k=rng.randint(3, 60)))} for _ in range(60)]
        (folder / "text.jsonl").write_text("\n".join(json.dumps(text) for text in texts), "utf8")
        corpus = {"source": str(folder / "text.jsonl"), "contexts": 90, "length": 16}
        self.workspace = Workspace.open(folder / "ws")
        self.subject: Subject = load_subject(self.workspace, str(folder / "tiny-llama"))
        self.dictionary = make_dictionary(self.subject)
        self.dictionary.save(self.workspace)
        self.params: dict[str, Any] = {
            "model": str(folder / "tiny-llama"),
            "corpus": corpus,
            "sites": "resid.0",
            "basis": "planted",
            "block": BLOCK,
        }
        do_run(self.workspace, "features", self.params)
        self.index = load_index(self.workspace, "features")
        self.piece = Slice.load(self.workspace, self.index.slice["id"])
        self.values = self._values()

    def _values(self) -> list[np.ndarray]:
        """The codes of every context, in the run's blocks, so that they are the same to the last bit: [tokens, units]."""
        found: list[np.ndarray] = []
        for start in range(0, len(self.piece), BLOCK):
            ranks = range(start, min(start + BLOCK, len(self.piece)))
            width = int(self.piece.lengths[ranks].max())
            stream = self.subject.capture(torch.from_numpy(self.piece.tokens[ranks, :width].astype(np.int64)), [SITE])[SITE]
            codes = self.dictionary.encode(stream).numpy()
            found.extend(codes[i, : self.piece.lengths[rank]] for i, rank in enumerate(ranks))
        return found

    def unit(self, number: int) -> UnitName:
        return UnitName(self.index.slug, SITE, "planted", number)


def make_dictionary(subject: Subject) -> Dictionary:
    """Random directions with a bias that leaves about one in ten active; unit 3 never is."""
    torch.manual_seed(3)
    width = subject.info.widths["resid"]
    encoder = torch.nn.functional.normalize(torch.randn(UNITS, width), dim=1)
    stream = subject.capture(torch.arange(5, 60)[None], [SITE])[SITE][0]
    before = (stream - stream.mean(-1, keepdim=True)) @ encoder.T
    bias = -before.quantile(0.9, dim=0)
    bias[3] = -1e6
    info = BasisInfo(
        "planted", subject.info.slug, SITE, "sae", "relu", width, UNITS, subject.info.weights_hash, tied=True, prepare=Prepare("per_token")
    )
    return Dictionary(info, {"encoder": encoder, "bias": bias})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("basis"))


def test_features_are_kept_as_the_slow_index_of_their_codes_keeps_them(world: World) -> None:
    records = pq.read_table(world.index.part(SITE, "records")).to_pylist()
    for unit in (0, 3, 11, UNITS - 1):
        values = [row[:, unit] for row in world.values]
        expected = slow_unit(values, contexts_of(world.piece), str(SITE), "planted", unit, UNITS)
        for row in (row for row in records if row["unit"] == unit):
            assert list(zip(row["contexts"], row["positions"], row["values"], strict=True)) == expected.bands[row["band"]], unit


def test_every_code_is_kept_once_in_the_order_of_the_text(world: World) -> None:
    path = world.index.codes(SITE)
    assert path is not None
    for row in pq.read_table(path).to_pylist():
        expected = [(r, t, v[t, row["unit"]]) for r, v in enumerate(world.values) for t in np.flatnonzero(v[:, row["unit"]])]
        assert list(zip(row["contexts"], row["positions"], strict=True)) == [(r, t) for r, t, _ in expected]
        assert row["values"] == [value for *_, value in expected]


def test_coactivation_is_counted_exactly_and_ordered_by_the_jaccard_index(world: World) -> None:
    active = np.concatenate(world.values) != 0
    together = active.T.astype(int) @ active
    path = world.index.codes(SITE)
    assert path is not None
    for row in pq.read_table(path).to_pylist():
        unit = row["unit"]
        assert row["coactive_counts"] == [together[unit, other] for other in row["coactive"]]
        union = active[:, unit].sum() + active.sum(axis=0) - together[unit]
        jaccard = np.where(union > 0, together[unit] / np.maximum(union, 1), 0)
        jaccard[unit] = 0
        assert np.allclose(jaccard[row["coactive"]], np.sort(jaccard)[::-1][: len(row["coactive"])])
        assert len(row["coactive"]) == min(codes.COACTIVE, int((jaccard > 0).sum()))


def test_a_cut_off_index_goes_on_to_the_same_codes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stops(Quiet):
        def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
            if unit == "contexts" and 30 < done < total and not message:
                raise Cancelled

    from core.index.indexer import run_index

    folder = world.workspace.runs / "cut"
    folder.mkdir()
    with pytest.raises(Cancelled):
        run_index(world.workspace, folder, {**world.params, "publish_seconds": 0}, Stops())
    monkeypatch.setattr(codes, "_ENTRIES", 40)  # several passes over the segments
    do_run(world.workspace, "cut", world.params)
    cut, whole = load_index(world.workspace, "cut").codes(SITE), world.index.codes(SITE)
    assert cut is not None
    assert whole is not None
    assert pq.read_table(cut).equals(pq.read_table(whole))
    assert not list((folder / "codes").glob("0-*"))


def test_lost_codes_are_made_again_by_reading_again(world: World) -> None:
    do_run(world.workspace, "repaired", world.params)
    path = load_index(world.workspace, "repaired").codes(SITE)
    assert path is not None
    whole = pq.read_table(path)
    path.write_bytes(path.read_bytes()[:-40])
    progress = do_run(world.workspace, "repaired", world.params)
    assert "share 0 is read again: its codes are gone" in progress.lines
    assert pq.read_table(path).equals(whole)
    progress = do_run(world.workspace, "repaired", world.params)
    assert "share 0 is read again: its codes are gone" not in progress.lines


def test_a_part_is_written_when_many_codes_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST_HELD", 30)
    progress = do_run(world.workspace, "bounded", {**world.params, "publish_seconds": 1000})
    assert sum(line.startswith("published") for line in progress.lines) > 3


def test_too_many_codes_are_not_kept_and_not_looked_for_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "MAX_CODES", 10)
    do_run(world.workspace, "dense", world.params)
    assert load_index(world.workspace, "dense").codes(SITE) is None
    feature = load_feature(world.workspace, load_unit(world.workspace, world.unit(5), "dense"))
    assert feature is not None
    assert not feature.complete
    progress = do_run(world.workspace, "dense", world.params)
    assert "share 0 is read again: its codes are gone" not in progress.lines


def test_an_index_does_not_go_on_with_another_dictionary_of_the_same_name(world: World) -> None:
    kept = shelf.find(world.workspace, world.index.slug, SITE, "planted")
    try:
        Dictionary(kept.info, {**world.dictionary.tensors, "bias": world.dictionary.bias - 1}).save(world.workspace)
        with pytest.raises(AtlasError, match="another one than was indexed"):
            do_run(world.workspace, "features", world.params)
    finally:
        world.dictionary.save(world.workspace)


def test_a_manifest_that_names_a_file_elsewhere_is_damaged(world: World) -> None:
    do_run(world.workspace, "strange", world.params)
    path = world.workspace.runs / "strange" / "manifest.json"
    document = json.loads(path.read_text("utf8"))
    document["codes"]["resid.0"]["path"] = "../../registry.sqlite"
    write_json(path, document)
    with pytest.raises(AtlasError, match="is damaged"):
        load_index(world.workspace, "strange")
    (world.workspace.path / "registry.sqlite").touch()
    do_run(world.workspace, "strange", world.params)
    assert (world.workspace.path / "registry.sqlite").exists()


def test_a_feature_is_shown_with_its_weights_and_every_token_it_fires_on(world: World) -> None:
    assert find_unit(world.workspace, world.unit(5)).basis == "planted"
    view = load_unit(world.workspace, world.unit(5), "features")
    feature = load_feature(world.workspace, view)
    assert feature is not None
    assert feature.bias == pytest.approx(float(world.dictionary.bias[5]), abs=1e-6)
    assert feature.encoder_decoder_cosine == pytest.approx(1, abs=1e-6)
    tokens = Counter(int(world.piece.tokens[r, t]) for r, v in enumerate(world.values) for t in np.flatnonzero(v[:, 5]))
    assert Counter(feature.tokens.tolist()) == tokens
    assert len(feature.values) == view.stats["nonzero"]
    dead = load_feature(world.workspace, load_unit(world.workspace, world.unit(3)))
    assert dead is not None
    assert len(dead.values) == 0
    assert dead.coactive == []


def test_a_text_is_read_through_the_dictionary(world: World) -> None:
    operations = ModelOperations(world.workspace)
    answer = operations("unit_on_text", {"unit": str(world.unit(2)), "text": "the cat and the dog"}, lambda _: None)
    tokens = torch.tensor([world.subject.encode(["the cat and the dog"])[0]])
    expected = world.dictionary.encode(world.subject.capture(tokens, [SITE])[SITE][0])[:, 2]
    np.testing.assert_allclose(answer["activations"], expected.numpy(), atol=2e-5)
    tried = operations("try_text", {"subject": world.index.slug, "run": "features", "text": "the cat and the dog"}, lambda _: None)
    assert all(each["unit"] < UNITS for token in tried["strongest"] for each in token)


def test_the_cache_takes_features_in(world: World) -> None:
    cache = Cache.open(world.workspace)
    try:
        assert cache.ingest() == []
        with cache.cursor() as cursor:
            assert cursor.execute("SELECT count(*) FROM units WHERE run = 'features'").fetchall() == [(UNITS,)]
    finally:
        cache.close()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"basis": "nowhere"}, "has no dictionary “nowhere” at resid.0: there is planted."),
        ({"sites": "resid.1"}, "has no dictionary “planted” at resid.1."),
        ({"basis": "../x"}, "is not the name of a basis"),
        ({"basis": 7}, "is not the name of a basis"),
    ],
)
def test_a_wrong_basis_is_one_sentence(world: World, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AtlasError) as refused:
        do_run(world.workspace, "wrong", {**world.params, **change})
    assert sentence in str(refused.value)


def test_features_are_read_again_from_the_inputs_that_were_kept(world: World) -> None:
    do_run(world.workspace, "kept", world.params | {"keep_inputs": True})
    index = load_index(world.workspace, "kept")
    units = [UnitName(index.slug, SITE, "planted", unit) for unit in (3, 0, 11)]
    reading = read_again(world.workspace, index, units, index.tokens_kept, lambda *_: None)
    assert reading.recipe["from_inputs"] == len(world.piece)
    for unit in units:
        expected = np.concatenate([codes[world.piece.first :, unit.index] for codes in world.values])
        found = reading.of(unit)
        assert found is not None
        np.testing.assert_allclose(found, expected, atol=0.03 * float(np.abs(expected).max()))


def test_another_dictionary_of_the_same_name_is_not_taken_for_the_indexed_one(world: World) -> None:
    kept = shelf.find(world.workspace, world.index.slug, SITE, "planted")
    other = Dictionary(kept.info, {**world.dictionary.tensors, "bias": world.dictionary.bias - 1})
    try:
        other.save(world.workspace)
        with pytest.raises(AtlasError, match="another one than was indexed"):
            ModelOperations(world.workspace)("unit_on_text", {"unit": str(world.unit(2)), "text": "the cat"}, lambda _: None)
    finally:
        world.dictionary.save(world.workspace)
