"""An index of made-up features, in the files that the indexer writes for a dictionary: twice as many units as the site has numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from core.bases import shelf
from core.bases.info import BasisInfo, Prepare
from core.units import Site
from core.workspace import Workspace, write_json
from tests.synthetic import GROUP, Recipe, activations, write_part, write_synthetic_index

RUN = "features-test"
NAME = "planted-r2"
SITE = Site("resid", 0)
UNITS = 16
CONTEXTS, LENGTH = 48, 16
ALPHA = 0.75
NEAR = 4
RECIPE = Recipe(1, UNITS, CONTEXTS, LENGTH, ("resid",), signed=False)


def write_synthetic_features(
    workspace: Workspace, *, run: str = RUN, slug: str = "tiny", name: str = NAME, state: str = "complete", sparse: bool = True
) -> str:
    """Write the run, its text and its subject, and put a dictionary on the shelf; return the run's id.

    By unit number modulo 4 as `synthetic.activations` says; what it makes negative is zero, and the last unit never is active. sparse:
    whether the codes are kept. Write an index of neurons of the same subject after this one: its widths stand in the subject's card.
    """
    write_synthetic_index(
        workspace, run=run, slug=slug, n_layers=1, width=UNITS, contexts=CONTEXTS, length=LENGTH, kinds=("resid",), signed=False,
        state=state,
    )  # fmt: skip
    folder = workspace.runs / run
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf8"))
    manifest["subject"]["widths"]["resid"] = UNITS // 2
    write_json(workspace.subjects / slug / "subject.json", manifest["subject"])
    one = _shelve(workspace, slug, name, manifest["subject"]["weights_hash"], sparse)
    said = {"family": one.info.family, "rule": "relu", "k": None, "tied": True, "d_in": UNITS // 2, "head": None, "units": UNITS}
    manifest |= {
        "basis": name,
        "units": {str(SITE): UNITS},
        "dictionaries": {str(SITE): said | {"weights_sha256": one.hash, "prepare": one.info.to_json()["prepare"]}},
        "effects": {str(SITE): _with_weights(folder)} if state == "complete" else {},
        "codes": {str(SITE): _codes(folder)} if sparse and state == "complete" else {},
        "inputs": {},
    }
    write_json(folder / "manifest.json", manifest)
    return run


def codes() -> npt.NDArray[np.float32]:
    """Shape (contexts, length, units): the very codes that the index was made from, NaN where there is no token."""
    return activations(RECIPE, SITE)


def biases() -> list[float]:
    return [-0.5 - unit / 8 for unit in range(UNITS)]


def _shelve(workspace: Workspace, slug: str, name: str, weights_hash: str, sparse: bool) -> shelf.Shelved:
    recipe = {"alpha": ALPHA, "mse_reduction": "sum", "ratio": 2.0, "seed": 0}
    info = BasisInfo(
        name, slug, SITE, "sae" if sparse else "pca", "relu", UNITS // 2, UNITS, weights_hash, tied=True, prepare=Prepare("per_token"),
        recipe=recipe,
    )  # fmt: skip
    weights = workspace.scratch / "planted.safetensors"
    weights.write_bytes(b"not read by any page")
    return shelf.put(workspace, info, weights)


def _with_weights(folder: Path) -> dict[str, Any]:
    """The effects with the columns that a dictionary adds."""
    path = folder / "effects" / f"{SITE}.parquet"
    table = pq.read_table(path)
    nothing = np.full(UNITS, np.nan, np.float32)
    for column, values in (("bias", np.array(biases(), np.float32)), ("threshold", nothing), ("encoder_decoder_cosine", nothing + 1)):
        table = table.append_column(column, pa.array(np.ones(UNITS, np.float32) if column.startswith("encoder") else values))
    return write_part(folder, path, table, GROUP)


def _codes(folder: Path) -> dict[str, Any]:
    """Every non-zero code of each unit, and the units that are most often active on the same tokens, by the Jaccard index."""
    values = codes()
    active = (values.reshape(-1, UNITS) > 0).astype(np.int64)
    together, alone = active.T @ active, active.sum(axis=0)
    rows: list[dict[str, Any]] = []
    for unit in range(UNITS):
        contexts, positions = np.nonzero(values[..., unit] > 0)
        jaccard = together[unit] / np.maximum(alone + alone[unit] - together[unit], 1)
        jaccard[unit] = 0
        near = [int(other) for other in np.argsort(-jaccard, kind="stable")[:NEAR] if jaccard[other] > 0]
        rows.append(
            {
                "unit": unit,
                "contexts": contexts,
                "positions": positions,
                "values": values[contexts, positions, unit],
                "coactive": near,
                "coactive_counts": together[unit, near],
            }
        )
    schema = pa.schema(
        {"unit": pa.int32(), "contexts": pa.list_(pa.int32()), "positions": pa.list_(pa.int16()), "values": pa.list_(pa.float32())}
        | {"coactive": pa.list_(pa.int32()), "coactive_counts": pa.list_(pa.int64())}
    )
    (folder / "codes").mkdir(exist_ok=True)
    return write_part(folder, folder / "codes" / f"{SITE}.parquet", pa.Table.from_pylist(rows, schema=schema), GROUP)
