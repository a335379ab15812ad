"""delphi's cache of latents comes in as a whole index: the same numbers as from a plain count over all activations."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from core.errors import AtlasError
from core.findings.bundle.exporting import export_bundle
from core.findings.bundle.importing import Imported, import_bundle
from core.findings.bundle.staging import stage
from core.findings.exchange.importing import import_any
from core.findings.exchange.staging import Wishes, stage_foreign
from core.findings.findings import Findings
from core.store.cache import Cache
from core.store.features import load_feature
from core.store.texts import load_text, load_vocab
from core.store.units import load_unit
from core.units import Site
from core.workspace import Workspace
from tests.foreign_caches import LATENTS, LENGTH, ROWS, activations, write_cache
from tests.shared_bundle import snapshot
from tests.synthetic import write_synthetic_index


def take(workspace: Workspace, path: Path, **wishes: str) -> Imported:
    made = Wishes(**wishes)
    return import_bundle(workspace, path, findings=Findings(workspace), stage=lambda path, scratch: stage_foreign(path, scratch, made))


def test_every_number_is_that_of_a_plain_count(workspace: Workspace, tmp_path: Path) -> None:
    values, tokens = activations()
    done = take(workspace, write_cache(tmp_path / "cache"))
    assert [(unit.site, unit.basis, unit.index) for unit in done.units] == [(Site("resid", 3), "latents", at) for at in range(LATENTS - 1)]
    assert done.units[0].subject.startswith("pythia-70m.delphi-")
    for unit in done.units:
        view = load_unit(workspace, unit)
        mine = values[..., unit.index].astype(np.float64)
        assert view.stats["tokens"] == ROWS * LENGTH
        assert view.stats["nonzero"] == np.count_nonzero(mine)
        assert view.stats["mean"] == pytest.approx(mine.mean(), rel=1e-5)
        assert view.stats["variance"] == pytest.approx(mine.var(), rel=1e-5)
        assert view.stats["max"] == mine.max()
        assert view.stats["min"] == 0
        assert int(view.histogram.counts.sum()) == ROWS * LENGTH
        best = np.sort(mine.max(axis=1))[::-1][: len(view.bands["top"])]
        assert [one.value for one in view.bands["top"]] == pytest.approx(best.tolist())
        for one in view.bands["top"]:
            assert one.tokens.tolist() == tokens[one.context].tolist()
            np.testing.assert_allclose(one.activations, mine[one.context], atol=mine.max() / 30_000)
        feature = load_feature(workspace, view)
        assert feature is not None
        assert feature.complete
        assert feature.values.tolist() == pytest.approx(mine[mine != 0].tolist())
        for each in feature.coactive:
            other = values[..., each.name.index]
            assert each.count == np.count_nonzero((mine != 0) & (other != 0))
            assert each.total == np.count_nonzero(other)


def test_tokens_are_numbers_until_somebody_knows_their_words(workspace: Workspace, tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")
    done = take(workspace, cache)
    vocab = load_vocab(workspace, done.units[0].subject)
    assert vocab.pieces([7]) == ["⟨token 7⟩"]
    assert any("--tokenizer" in remark for remark in done.remarks)
    words = {f"Ġw{at}" if at else "Ã©": at for at in range(50)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="Ã©"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    named = take(workspace, cache, tokenizer=str(tmp_path / "tokenizer.json"))
    assert named.units[0].subject != done.units[0].subject
    assert load_vocab(workspace, named.units[0].subject).pieces([0, 7]) == ["é", " w7"]
    assert named.remarks == ()


def test_the_words_are_those_of_the_model_that_is_here(workspace: Workspace, tmp_path: Path) -> None:
    write_synthetic_index(workspace, slug="pythia-70m")
    done = import_any(workspace, write_cache(tmp_path / "cache"))
    assert done.remarks == ()
    here, there = (load_vocab(workspace, slug) for slug in ("pythia-70m", done.units[0].subject))
    assert there.pieces(range(20)) == here.pieces(range(20))


def test_twice_is_once_and_the_cache_and_a_bundle_take_it(workspace: Workspace, tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")
    done = take(workspace, cache)
    before = snapshot(workspace)
    assert not take(workspace, cache).changed
    assert snapshot(workspace) == before
    store = Cache.open(workspace)
    assert store.ingest() == []
    store.close()
    export_bundle(workspace, done.units[:3], tmp_path / "three.atlas.zip")
    other = Workspace.open(tmp_path / "other")
    assert import_bundle(other, tmp_path / "three.atlas.zip", stage=stage).units == done.units[:3]


def test_some_units_and_several_modules(workspace: Workspace, tmp_path: Path) -> None:
    cache = write_cache(write_cache(tmp_path / "cache"), module="layers.5.mlp")
    done = take(workspace, cache, units="2-4", model="mine")
    assert [(str(unit.site), unit.index) for unit in done.units] == [("resid.3", 2), ("resid.3", 3), ("resid.3", 4)] + [
        ("mlp.5", at) for at in (2, 3, 4)
    ]
    assert any("layers.5.mlp" in remark for remark in done.remarks)
    assert done.units[0].subject.startswith("mine.delphi-")
    index = load_unit(workspace, done.units[0]).index
    assert len(load_text(workspace, index)) == ROWS


def _wrong(name: str, value: Any) -> Any:
    return lambda arrays: arrays.update({name: value(arrays[name])}) if value is not None else arrays.pop(name)


HARM: dict[str, Any] = {
    "a row beyond the text": _wrong("locations", lambda old: old + np.array([60_000, 0, 0], np.uint16)),
    "a latent beyond its range": _wrong("locations", lambda old: old + np.array([0, 0, 100], np.uint16)),
    "an activation twice": _wrong("locations", lambda old: old * 0),
    "infinity": _wrong("activations", lambda old: old * np.float16(np.inf)),
    "no number": _wrong("activations", lambda old: old * np.float16(np.nan)),
    "fewer activations": _wrong("activations", lambda old: old[1:]),
    "places that are none": _wrong("locations", lambda old: old.astype(np.float32)),
    "places of two numbers": _wrong("locations", lambda old: old[:, :2]),
    "no places": _wrong("locations", None),
    "no tokens": _wrong("tokens", None),
    "negative tokens": _wrong("tokens", lambda old: old - 100),
    "tokens beyond all": _wrong("tokens", lambda old: old + (1 << 40)),
    "tokens that are none": _wrong("tokens", lambda old: old.astype(np.float32)),
    "rows without end": _wrong("tokens", lambda old: np.zeros((2, 5000), np.int64)),
}


@pytest.mark.parametrize("what", HARM)
def test_caches_that_lie_are_refused(workspace: Workspace, tmp_path: Path, what: str) -> None:
    cache = write_cache(tmp_path / "cache", change=HARM[what])
    before = snapshot(workspace)
    with pytest.raises(AtlasError) as caught:
        take(workspace, cache)
    assert snapshot(workspace) == before
    assert "\n" not in str(caught.value)


def test_files_that_are_broken_or_misnamed_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    file = write_cache(tmp_path / "a") / "layers.3" / "0_3.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(AtlasError, match="damaged"):
        take(workspace, tmp_path / "a")
    for module, said in (("decoder", "no module"), ("layers", "no module")):
        with pytest.raises(AtlasError, match=said):
            take(workspace, write_cache(tmp_path / module, module=module))
    (write_cache(tmp_path / "b") / "layers.3" / "0_3.safetensors").rename(tmp_path / "b" / "layers.3" / "sae.safetensors")
    (tmp_path / "b" / "layers.3" / "4_7.safetensors").unlink()
    with pytest.raises(AtlasError, match="first and the last latent"):
        take(workspace, tmp_path / "b")
    with pytest.raises(AtlasError, match="tokenizer"):
        take(workspace, write_cache(tmp_path / "c"), tokenizer=str(tmp_path / "a" / "layers.3" / "config.json"))
    with pytest.raises(AtlasError, match="--units"):
        take(workspace, tmp_path / "c", units="500")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_changed_in_a_cache_are_refused_or_taken_in(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / os.urandom(6).hex()
    file = write_cache(folder / "cache", splits=1) / "layers.3" / "0_7.safetensors"
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1) | st.integers(0, 250))] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    workspace = Workspace.open(folder / "ws")
    try:
        assert take(workspace, folder / "cache").runs
    except AtlasError:
        assert not list(workspace.runs.iterdir())
