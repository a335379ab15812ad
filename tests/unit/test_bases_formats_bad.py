"""Every bad file is refused in one sentence, without running what it holds and without allocating what it claims."""

import collections
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.bases.dictionary import Dictionary
from core.bases.formats.place import READERS, locate
from core.bases.formats.safe import MAX_CONFIG, Place
from core.errors import AtlasError
from tests.published import arrays, dictionary, write_dictionary_learning, write_gemma_scope, write_saelens, write_sparsify

D, UNITS = 8, 12
GIVEN = arrays(D, UNITS)
SAELENS, PICKLED, ARCHIVE = "sae_weights.safetensors", "ae.pt", "params.npz"


def read(folder: Path) -> Dictionary:
    place, weights = locate(folder, None)
    return dictionary(READERS[weights](place))


def refused(folder: Path) -> str:
    """The sentence, which has to be one."""
    with pytest.raises(AtlasError) as caught:
        read(folder)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 300
    return sentence


def change(folder: Path, **values: Any) -> Path:
    path = folder / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf8")) | values), "utf8")
    return folder


def with_header(folder: Path, header: dict[str, Any], data: bytes) -> Path:
    text = json.dumps(header).encode()
    (folder / SAELENS).write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


@pytest.mark.parametrize("keep", [0, 4, 8, 60, 0.5, 0.999])
def test_a_cut_safetensors_file(tmp_path: Path, keep: float) -> None:
    folder = write_saelens(tmp_path / "a", GIVEN)
    content = (folder / SAELENS).read_bytes()
    (folder / SAELENS).write_bytes(content[: int(keep if keep >= 1 or keep == 0 else keep * len(content))])
    assert SAELENS in refused(folder)


def test_a_header_of_ten_gigabytes_is_not_allocated(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path / "a", GIVEN)
    with (folder / SAELENS).open("wb") as file:
        file.write(struct.pack("<Q", 10 * 2**30))
        file.truncate(11 * 2**30)  # a sparse file: as long as it says, without taking the disk
    tracemalloc.start()
    assert "its header claims 10,737,418,240 bytes" in refused(folder)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_headers_that_lie(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path / "a", GIVEN)
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for header in (
        {"W_enc": entry | {"shape": [2**40, 2**40]}},
        {"W_enc": entry | {"shape": [-2]}},
        {"W_enc": entry | {"data_offsets": [0, 4]}},
        {"W_enc": entry | {"data_offsets": "ab"}},
        {"W_enc": entry, "b": entry},
        {"W_enc": []},
    ):
        assert "safetensors" in refused(with_header(folder, header, bytes(8)))
    assert "number format" in refused(with_header(folder, {"W_enc": entry | {"dtype": "F8_E4M3"}}, bytes(8)))
    assert "cut off or has more" in refused(with_header(folder, {"W_enc": entry}, bytes(12)))
    (folder / SAELENS).write_bytes(struct.pack("<Q", 40_000) + b"[" * 40_000)
    assert "header is damaged" in refused(folder)


def test_wrong_shapes_and_missing_and_strange_weights(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path / "a", GIVEN)
    assert "“W_enc” of the standard dictionary" in refused(change(folder, d_in=D + 1))
    assert "8×12 and should be 8×13" in refused(change(folder, d_in=D, d_sae=UNITS + 1))
    assert "has no weights “threshold”" in refused(change(folder, d_sae=UNITS, architecture="jumprelu"))
    both = write_saelens(tmp_path / "b", GIVEN, "jumprelu")
    assert "“threshold”, which a standard dictionary has no use for" in refused(change(both, architecture="standard"))
    learned = write_dictionary_learning(tmp_path / "c", GIVEN, dict_size=UNITS + 1)
    assert "should be 13×8" in refused(learned)
    sparse = write_sparsify(tmp_path / "layers.1", GIVEN, skip_connection=True)
    assert "has no weights “W_skip”" in refused(sparse)
    scope = write_gemma_scope(tmp_path / "d", GIVEN | {"b_enc": GIVEN["b_dec"]})
    assert "“b_enc”" in refused(scope)


@pytest.mark.parametrize("write", [write_saelens, write_gemma_scope, write_dictionary_learning, write_sparsify])
def test_weights_that_are_not_finite(tmp_path: Path, write: Callable[..., Path]) -> None:
    encoder = GIVEN["W_enc"].copy()
    encoder[3, 4] = np.nan
    assert "not finite" in refused(write(tmp_path / "layers.1", GIVEN | {"W_enc": encoder}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"architecture": "temporal"}, "“temporal” is not read here"),
        ({"architecture": "batchtopk"}, "“batchtopk” is not read here"),
        ({"activation_fn": "tanh-relu"}, "“tanh-relu” is not read here"),
        ({"normalize_activations": "covariance_whitening"}, "“covariance_whitening” is not read here"),
        ({"d_in": "8"}, "“d_in” should be a whole number"),
        ({"d_sae": 1 << 40}, "“d_sae” should be a whole number"),
        ({"d_in": True}, "“d_in” should be a whole number"),
        ({"architecture": "topk", "k": 0}, "“k” should be a whole number"),
        ({"apply_b_dec_to_input": "yes"}, "should be true or false"),
        ({"metadata": {"hook_name": "blocks.3.hook_mlp_out"}}, "“blocks.3.hook_mlp_out”, which is not a site here"),
    ],
)
def test_configurations_that_mean_something_else(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    assert said in refused(change(write_saelens(tmp_path / "a", GIVEN), **values))


def test_classes_of_the_others_that_are_not_read(tmp_path: Path) -> None:
    assert "“CrossCoder”" in refused(write_dictionary_learning(tmp_path / "a", GIVEN, kind="CrossCoder"))
    assert "“groupmax” is not read" in refused(write_sparsify(tmp_path / "layers.1", GIVEN, activation="groupmax"))
    assert "says another" in refused(_other_k(tmp_path))
    assert "says layer 5" in refused(write_dictionary_learning(tmp_path / "c", GIVEN, layer=5))


def _other_k(tmp_path: Path) -> Path:
    folder = write_dictionary_learning(tmp_path / "other-k", GIVEN)
    document = json.loads((folder / "config.json").read_text("utf8"))
    document["trainer"]["k"] = 4
    (folder / "config.json").write_text(json.dumps(document), "utf8")
    return folder


def test_damaged_and_endless_json(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path / "a", GIVEN)
    for content in (b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000):
        (folder / "cfg.json").write_bytes(content)
        assert "cfg.json" in refused(folder)
    (folder / "cfg.json").write_bytes(b"{" + b" " * MAX_CONFIG + b"}")
    assert "too many for a configuration" in refused(folder)


class _Runs:
    """A pickle of this makes a folder when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_code_is_refused_and_never_run(tmp_path: Path) -> None:
    made = tmp_path / "made-by-the-pickle"
    folder = write_dictionary_learning(tmp_path / "a", GIVEN)
    for protocol in (2, 4):
        torch.save({"encoder.weight": _Runs(made)}, folder / PICKLED, pickle_protocol=protocol)
        assert "would run code" in refused(folder)
    torch.save({"encoder.weight": _Runs(made)}, folder / PICKLED, _use_new_zipfile_serialization=False)
    assert "never opened" in refused(folder)
    (folder / PICKLED).write_bytes(pickle.dumps(_Runs(made)))
    assert "never opened" in refused(folder)
    objects = np.empty(2, dtype=object)
    objects[:] = [_Runs(made), 1]
    np.savez(tmp_path / ARCHIVE, W_enc=objects)
    assert "“W_enc” in params.npz cannot be read" in refused(tmp_path / ARCHIVE)
    assert not made.exists()
    torch.load(_opened(folder, made), weights_only=False)  # what was refused does run code when it is opened
    assert made.exists()


def _opened(folder: Path, made: Path) -> Path:
    torch.save({"encoder.weight": _Runs(made)}, folder / PICKLED)
    return folder / PICKLED


def test_pickles_that_claim_more_than_they_hold(tmp_path: Path) -> None:
    folder = write_dictionary_learning(tmp_path / "a", GIVEN)
    torch.save({"encoder.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}, folder / PICKLED)
    assert "claims to be larger" in refused(folder)
    torch.save(collections.OrderedDict(a=bytearray(8)), folder / PICKLED)
    assert "__builtin__.bytearray" in refused(folder)
    torch.save([torch.zeros(3)], folder / PICKLED)
    assert "something else than tensors by name" in refused(folder)
    torch.save({"a": 3}, folder / PICKLED)
    assert "something else than tensors by name" in refused(folder)
    content = (folder / PICKLED).read_bytes()
    (folder / PICKLED).write_bytes(content[: len(content) // 2])
    assert "cut off" in refused(folder)


def test_zip_bombs(tmp_path: Path) -> None:
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (4096, 16384), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("W_enc.npy", "w") as member:
        member.write(header)
        for _ in range(256):
            member.write(bytes(1 << 20))
    assert (tmp_path / ARCHIVE).stat().st_size < 1 << 20
    tracemalloc.start()
    assert "would unpack" in refused(tmp_path / ARCHIVE)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    folder = write_dictionary_learning(tmp_path / "a", GIVEN)
    with zipfile.ZipFile(folder / PICKLED, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    assert "compressed" in refused(folder)
    with zipfile.ZipFile(folder / PICKLED, "w") as archive:
        for number in range(300):
            archive.writestr(f"archive/data/{number}", b"")
    assert "300 parts" in refused(folder)


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = write_saelens(tmp_path / "outside", GIVEN)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "cfg.json").write_bytes((outside / "cfg.json").read_bytes())
    (inside / SAELENS).symlink_to(outside / SAELENS)
    assert "link that leads out" in refused(inside)
    (inside / SAELENS).unlink()
    os.mkfifo(inside / SAELENS)
    assert "is not a file" in refused(inside)
    (inside / SAELENS).unlink()
    (inside / SAELENS).symlink_to(inside / SAELENS)
    with pytest.raises(AtlasError, match="There is no"):
        Place.at(inside).file(SAELENS)


def test_the_hubs_cache_may_link_within_its_repository(tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--name"
    real = write_saelens(repository / "blobs", GIVEN)
    snapshot = repository / "snapshots" / "abc" / "layer"
    snapshot.mkdir(parents=True)
    for name in ("cfg.json", SAELENS):
        (snapshot / name).symlink_to(real / name)
    assert read(snapshot).info.units == UNITS


def test_folders_without_a_dictionary(tmp_path: Path) -> None:
    assert "There is no dictionary" in refused(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"x")
    assert "in no format that is known here" in refused(tmp_path / "model.bin")
    assert "There is nothing at" in refused(tmp_path / "missing")
    folder = write_saelens(tmp_path / "a", GIVEN)
    (folder / "cfg.json").unlink()
    assert "There is no cfg.json" in refused(folder)
