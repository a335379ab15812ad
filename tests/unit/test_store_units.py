"""A unit read from Parquet is what was measured, and every way its files can fail is one sentence."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from core.errors import AtlasError
from core.index.bands import QUANTILES
from core.index.bins import BINS, bin_of
from core.store import units as store_units
from core.store.catalog import damaged, find_index, indexes
from core.store.density import ACTIVE_SHARE, density
from core.store.units import load_unit
from core.units import Site, UnitName
from core.workspace import Workspace, write_json
from tests.synthetic import Recipe, activations, write_synthetic_index
from tests.synthetic_text import HOSTILE

RECIPE = Recipe(hostile=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A hostile synthetic index that no test changes."""
    workspace = Workspace.open(tmp_path_factory.mktemp("units") / "ws")
    write_synthetic_index(workspace, hostile=True)
    return workspace


def unit(index: int, site: str = "mlp.1") -> UnitName:
    return UnitName("tiny", Site.parse(site), "neurons", index)


@pytest.mark.parametrize("index", range(16))
def test_statistics_and_histogram_are_those_of_the_activations(shared: Workspace, index: int) -> None:
    view = load_unit(shared, unit(index))
    grid = activations(RECIPE, Site("mlp", 1))[..., index]
    flat = grid[~np.isnan(grid)].astype(np.float64)
    assert view.stats["tokens"] == flat.size
    assert view.stats["nonzero"] == np.count_nonzero(flat)
    assert view.stats["mean"] == pytest.approx(flat.mean(), abs=1e-6)
    assert view.stats["variance"] == pytest.approx(flat.var(), rel=1e-5)
    assert (view.stats["min"], view.stats["max"]) == (flat.min(), flat.max())
    if index == 15:
        assert np.isnan(view.stats["kurtosis"]), "a dead unit has no kurtosis"
    else:
        assert view.stats["kurtosis"] == pytest.approx(((flat - flat.mean()) ** 4).mean() / flat.var() ** 2, rel=1e-5)
    counts = np.bincount(bin_of(flat), minlength=BINS)
    assert view.histogram.counts.tolist() == counts[counts > 0].tolist()
    assert (view.histogram.lows <= view.histogram.highs).all()


@pytest.mark.parametrize("index", [0, 1, 2, 3, 15])
def test_every_record_has_the_activations_of_its_context(shared: Workspace, index: int) -> None:
    view = load_unit(shared, unit(index))
    grid = activations(RECIPE, Site("mlp", 1))[..., index]
    vocab, words = RECIPE.text()
    seen = 0
    for band, records in view.bands.items():
        for place, record in enumerate(records):
            row = grid[record.context]
            assert (record.band, record.place, record.first) == (band, place, 1)
            assert record.tokens.tolist() == words.contexts[record.context].tolist()
            assert len(record.activations) == len(record.tokens)
            truth = np.nan_to_num(row[: len(record.tokens)])
            np.testing.assert_allclose(record.activations, truth, atol=np.abs(truth).max() / 60000 + 1e-9)
            assert record.value == (np.nanmin(row) if band == "bottom" else np.nanmax(row))
            assert row[record.position] == record.value
            assert (record.document, record.source) == words.documents[words.document[record.context]]
            assert record.start == words.start[record.context]
            assert record.text == vocab.text(record.tokens)
            seen += 1
    assert seen > 80


def test_top_records_are_the_strongest_one_a_document(shared: Workspace) -> None:
    _, words = RECIPE.text()
    for index in range(16):
        high = np.nanmax(activations(RECIPE, Site("mlp", 1))[..., index], axis=1)
        best: dict[int, int] = {}
        for rank in sorted(range(64), key=lambda rank: (-high[rank], rank)):
            best.setdefault(words.document[rank], rank)
        assert [record.context for record in load_unit(shared, unit(index)).bands["top"]] == list(best.values())[:20]


def test_records_outside_a_quantile_band_are_not_shown(shared: Workspace) -> None:
    view = load_unit(shared, unit(2))
    assert list(view.bands) == ["top", "bottom", "q0", "q1", "q2", "q3", "random"]
    assert len(view.bands["q1"]) == 20
    for band, records in view.bands.items():
        for record in records:
            if band in QUANTILES:
                low, high = QUANTILES[band]
                assert record.quantile is not None
                assert low <= record.quantile <= high
            else:
                assert record.quantile is None
    # From the top in most bands, from the bottom in the lowest: sampled are 50 and 40.
    assert [record.quantile for record in view.bands["q1"]][:2] == pytest.approx([0.89, 0.87])
    assert [record.quantile for record in view.bands["q0"]][:2] == pytest.approx([0.0125, 0.0375])


def test_positions_come_with_their_tokens_and_left_tokens(shared: Workspace) -> None:
    _, words = RECIPE.text()
    grid = activations(RECIPE, Site("mlp", 1))[..., 1]
    view = load_unit(shared, unit(1))
    strong = view.positions("strong")
    assert strong.values[0] == np.nanmax(grid)
    assert strong.left.shape == (256, 3)
    sampled = view.positions("sampled")
    assert sampled.weights.sum() == pytest.approx(view.stats["tokens"], rel=1e-5)
    for at in range(0, 256, 7):
        row, place = words.contexts[sampled.contexts[at]], int(sampled.positions[at])
        assert sampled.tokens[at] == row[place]
        assert sampled.values[at] == grid[sampled.contexts[at], place]
        assert sampled.left[at].tolist() == [int(row[place - back]) if place >= back else -1 for back in (3, 2, 1)]
    with pytest.raises(AtlasError, match=r"positions\.parquet is damaged"):
        view.positions("weak")


def test_hostile_tokens_survive_byte_for_byte(shared: Workspace) -> None:
    vocab, _ = RECIPE.text()
    shown: dict[int, str] = {}
    for layer in range(3):
        for index in range(16):
            view = load_unit(shared, unit(index, f"mlp.{layer}"))
            shown |= {top.token: top.text for top in view.top_tokens}
            assert view.effects is not None
            shown |= {effect.token: effect.text for effect in view.effects.raised + view.effects.lowered}
    hostile = [vocab.id(token) for token in HOSTILE]
    assert all(shown[token] == vocab.tokens[token].decode() for token in hostile)
    assert shown[vocab.id(b"\x80")] == "⟨80⟩", "half of a character is shown as its byte"


def test_a_unit_says_where_its_numbers_come_from(shared: Workspace) -> None:
    provenance = load_unit(shared, unit(0)).provenance
    assert provenance["run"] == "index-test"
    assert provenance["subject"]["weights_hash"]
    assert provenance["slice"]["length"] == 16
    assert provenance["dtype"] == "float32"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nobody/mlp.1/neurons/0", "The model “nobody” is not indexed here: there is tiny."),
        ("tiny/mlp.3/neurons/0", "Layer 3 is out of range: the model's layers are 0 to 2."),
        ("tiny/attn.1/neurons/0", "attn.1 of tiny is not indexed; indexed are mlp.0-2."),
        ("tiny/mlp.1/sae/0", "mlp.1 is not indexed in the basis “sae”: the index has neurons."),
        ("tiny/mlp.1/neurons/16", "Unit 16 is out of range: mlp.1 has units 0 to 15."),
    ],
)
def test_a_wrong_name_says_what_there_is(shared: Workspace, name: str, sentence: str) -> None:
    with pytest.raises(AtlasError) as raised:
        load_unit(shared, UnitName.parse(name))
    assert str(raised.value) == sentence


def test_an_unknown_run_and_an_empty_workspace_are_sentences(shared: Workspace, workspace: Workspace) -> None:
    with pytest.raises(AtlasError, match=r"The run “gone” has no index here: there is index-test\."):
        load_unit(shared, unit(0), run="gone")
    with pytest.raises(AtlasError, match="Nothing is indexed yet"):
        load_unit(workspace, unit(0))


@pytest.mark.parametrize("part", ["units", "records"])
@pytest.mark.parametrize("harm", ["truncated", "emptied", "deleted", "replaced by text"])
def test_a_damaged_part_is_named_and_leaves_other_sites_readable(workspace: Workspace, part: str, harm: str) -> None:
    write_synthetic_index(workspace, n_layers=2)
    load_unit(workspace, unit(3, "mlp.0"))
    path = workspace.runs / "index-test" / "gen-1" / "mlp.0" / f"{part}.parquet"
    content = path.read_bytes()
    if harm == "deleted":
        path.unlink()
    else:
        path.write_bytes({"truncated": content[: len(content) // 2], "emptied": b"", "replaced by text": b"hello\n" * 999}[harm])
    with pytest.raises(AtlasError) as raised:
        load_unit(workspace, unit(3, "mlp.0"))
    what = "missing" if harm == "deleted" else "damaged"
    wanted = f"runs/index-test/gen-1/mlp.0/{part}.parquet is {what}: make it again with python -m core resume index-test."
    assert str(raised.value) == wanted
    assert load_unit(workspace, unit(3, "mlp.1")).stats["tokens"] > 0


def test_a_damaged_manifest_is_reported_and_the_other_runs_stay(workspace: Workspace) -> None:
    write_synthetic_index(workspace, run="good")
    write_synthetic_index(workspace, run="bad")
    write_synthetic_index(workspace, run="newer")
    write_synthetic_index(workspace, run="escaping")
    (workspace.runs / "bad" / "manifest.json").write_text('{"schema": 1, "kind": "ind')
    for run, change in (("newer", {"schema": 2}), ("escaping", {"files": {"mlp.0": {"units": {"path": "../../x", "bytes": 1}}}})):
        path = workspace.runs / run / "manifest.json"
        write_json(path, json.loads(path.read_text()) | change)
    assert [index.run for index in indexes(workspace)] == ["good"]
    sentences = damaged(workspace)
    assert len(sentences) == 3
    assert "runs/bad/manifest.json is damaged: make it again with python -m core resume bad." in sentences
    assert any("newer Neuron Atlas" in sentence for sentence in sentences)
    assert load_unit(workspace, unit(0)).index.run == "good"


def test_the_index_over_most_tokens_answers(workspace: Workspace) -> None:
    write_synthetic_index(workspace, run="small", contexts=32)
    write_synthetic_index(workspace, run="large", contexts=64)
    write_synthetic_index(workspace, run="resid", contexts=96, kinds=("resid",))
    assert find_index(workspace, "tiny", Site("mlp", 0)).run == "large"
    assert find_index(workspace, "tiny", Site("mlp", 0), run="small").run == "small"
    assert find_index(workspace, "tiny", Site("resid", 0)).run == "resid"


def test_a_generation_replaced_while_reading_is_read_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    write_synthetic_index(workspace, seed=1)
    old = workspace.runs / "index-test" / "gen-1"
    real = store_units.read_unit

    def publish_first(path: Path, *rest: object) -> object:
        if old.exists() and path.name == "records.parquet":
            write_synthetic_index(workspace, seed=2, generation=2)
            for part in sorted(old.rglob("*"), reverse=True):
                part.rmdir() if part.is_dir() else part.unlink()
            old.rmdir()
        return real(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(store_units, "read_unit", publish_first)
    view = load_unit(workspace, unit(2))
    assert view.index.generation == 2
    assert view.stats["max"] == np.nanmax(activations(Recipe(seed=2), Site("mlp", 1))[..., 2])
    assert view.bands["top"][0].value == view.stats["max"]


def test_threads_read_the_right_units_at_once(shared: Workspace) -> None:
    names = [unit(index, f"mlp.{layer}") for layer in range(3) for index in range(16)] * 4
    alone = {name: load_unit(shared, name).stats["max"] for name in set(names)}

    def read(name: UnitName) -> bool:
        return load_unit(shared, name).stats["max"] == alone[name]

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, names))


@pytest.mark.parametrize("signed", [True, False])
def test_density_counts_what_exceeds_a_twentieth_of_the_maximum(signed: bool) -> None:
    values = activations(Recipe(signed=signed, contexts=200), Site("mlp", 0))
    for index in range(values.shape[2]):
        flat = values[..., index][~np.isnan(values[..., index])]
        counts = np.bincount(bin_of(flat), minlength=BINS)
        occupied = np.flatnonzero(counts)
        found = density(occupied, counts[occupied], [len(occupied)], [flat.min()], [flat.max()])[0]
        bar = ACTIVE_SHARE * np.abs(flat).max()
        at_bar = sum(counts[bin_of([bar, -bar])]) / flat.size
        assert found == pytest.approx((np.abs(flat) > bar).mean(), abs=at_bar + 1e-9)
