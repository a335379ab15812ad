"""What the model process does with dictionaries: how alike two are, held against numpy; and the file in another tool's format."""

import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import load_file

from core.bases import page_limits
from core.bases.dictionary import load, prepare
from core.bases.formats.place import locate
from core.bases.formats.saelens import read
from core.bases.shelf import Shelved
from core.errors import AtlasError
from core.runs import shelf_operations
from core.runs.operations import ModelOperations
from core.runs.shelf_operations import ShelfOperations
from core.workspace import Workspace
from tests.synthetic_dictionaries import write_dictionary

Said = list[str]


def rows(one: Shelved) -> npt.NDArray[np.float64]:
    found = load_file(one.weights)["encoder"].astype(np.float64)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def ask(workspace: Workspace, op: str, **args: Any) -> dict[str, Any]:
    said: Said = []
    found = getattr(ShelfOperations(workspace), op)(args, said.append)
    assert said
    return json.loads(json.dumps(found))


def test_both_ways_of_a_pair_are_those_of_numpy(workspace: Workspace) -> None:
    one, other = write_dictionary(workspace, "one", units=30), write_dictionary(workspace, "longer", units=70)
    found = ask(workspace, "alike", one=one.info.key, other=other.info.key)
    cosines = rows(one) @ rows(other).T
    assert found["hashes"] == [one.hash, other.hash]
    assert found["forth"]["mean"] == pytest.approx(cosines.max(1).mean(), abs=1e-6)
    assert found["back"]["mean"] == pytest.approx(cosines.max(0).mean(), abs=1e-6)
    assert found["forth"]["mean"] != pytest.approx(found["back"]["mean"], abs=1e-3)
    assert found["forth"]["above"] == pytest.approx((cosines.max(1) > 0.9).mean())


def test_a_dictionary_within_a_larger_one_is_found_there(workspace: Workspace) -> None:
    one, other = write_dictionary(workspace, "one", units=30), write_dictionary(workspace, "two", units=60)  # the same draw, longer
    found = ask(workspace, "alike", one=one.info.key, other=other.info.key)
    assert (found["forth"]["mean"], found["forth"]["above"]) == (pytest.approx(1.0, abs=1e-6), 1.0)
    assert found["back"]["mean"] < 0.9
    assert 0.5 <= found["back"]["above"] < 0.7


def test_dictionaries_of_two_widths_are_one_sentence(workspace: Workspace) -> None:
    write_dictionary(workspace, "one", width=24)
    write_dictionary(workspace, "two", width=16)
    with pytest.raises(AtlasError, match="cannot be compared"):
        ask(workspace, "alike", one="one", other="two")


@pytest.mark.parametrize(("op", "limit", "sentence"), [
    ("alike", "MAX_PRODUCTS", "python -m core sae compare tiny/mlp.1/one tiny/mlp.1/two"),
    ("export", "MAX_EXPORT", "python -m core sae export tiny/mlp.1/one"),
])  # fmt: skip
def test_what_is_too_large_is_refused_before_it_is_read(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, op: str, limit: str, sentence: str
) -> None:
    one = write_dictionary(workspace, "one")
    write_dictionary(workspace, "two")
    one.weights.unlink()
    monkeypatch.setattr(shelf_operations, limit, 10)
    with pytest.raises(AtlasError, match=sentence):
        ask(workspace, op, one="one", other="two", dictionary="one")


@pytest.mark.parametrize("args", [{}, {"dictionary": 3}, {"dictionary": "nowhere"}, {"dictionary": "../../etc"}, {"dictionary": "a/../b"}])
def test_a_wrong_name_is_one_sentence(workspace: Workspace, args: dict[str, Any]) -> None:
    with pytest.raises(AtlasError):
        ask(workspace, "export", **args)


def test_the_exported_zip_is_read_back_with_the_same_codes(workspace: Workspace, tmp_path: Path) -> None:
    one = write_dictionary(workspace, "one")
    found = ask(workspace, "export", dictionary=one.info.key)
    path = workspace.scratch / "exports" / found["file"]
    assert (found["hash"], found["bytes"]) == (one.hash, path.stat().st_size)
    assert found["bytes"] == pytest.approx(page_limits.export_bytes(one.info), rel=0.5)
    assert any("mean of each token" in note for note in found["notes"])
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == ["one/cfg.json", "one/sae_weights.safetensors"]
        archive.extractall(tmp_path)
    place, _ = locate(tmp_path / "one", None)
    again = read(place)
    x = torch.randn(50, one.info.d_in, generator=torch.Generator().manual_seed(0))
    ours = load(one)
    theirs = torch.relu(prepare(again.prepare, x).x @ again.tensors["encoder"].T + again.tensors["bias"])
    assert torch.allclose(ours.encode(x), theirs, atol=1e-4)
    assert list(path.parent.iterdir()) == [path]  # nothing half made is left


def test_exports_of_yesterday_go_and_todays_stay(workspace: Workspace) -> None:
    write_dictionary(workspace, "one")
    write_dictionary(workspace, "other")
    old, new = (workspace.scratch / "exports" / ask(workspace, "export", dictionary=name)["file"] for name in ("one", "other"))
    before = time.time() - 2 * 86400
    os.utime(old, (before, before))
    ask(workspace, "export", dictionary="other")
    assert (old.exists(), new.exists()) == (False, True)


def test_a_damaged_file_is_one_sentence_and_leaves_nothing(workspace: Workspace) -> None:
    one = write_dictionary(workspace, "one")
    one.weights.write_bytes(b"nonsense")
    with pytest.raises(AtlasError, match="missing or damaged"):
        ask(workspace, "export", dictionary="one")
    assert list((workspace.scratch / "exports").iterdir()) == []


def test_the_model_process_answers_both(workspace: Workspace) -> None:
    write_dictionary(workspace, "one")
    operations = ModelOperations(workspace)
    assert operations("alike", {"one": "one", "other": "one"}, lambda _: None)["forth"]["mean"] == pytest.approx(1.0, abs=1e-6)
    assert operations("export", {"dictionary": "one"}, lambda _: None)["file"].endswith(".zip")
