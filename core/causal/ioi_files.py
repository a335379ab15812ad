"""The files of a run that patches: the pairs of each seed, and of each finished curve its points and its features by rank."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.causal.decompositions import Decomposition
from core.causal.ioi_pairs import Doubles, PairRuns
from core.causal.ioi_sentences import EncodedPair
from core.causal.orders import Ranked
from core.causal.support import Support
from core.errors import AtlasError
from core.subject.info import SubjectInfo
from core.workspace import FileNote, is_intact, note_file, put_in_place, whole_folder

PIECES = "pieces"
_POINTS = pa.schema(
    [("features", pa.int32())]
    + [(name, pa.float64()) for name in ("threshold", "kl", "edit", "logit_io", "logit_other", "kl_abba", "kl_baba")]
)
_FEATURES = pa.schema([("rank", pa.int32()), ("unit", pa.int32()), ("score", pa.float64()), ("pairs", pa.int32())])
_PAIRS = pa.schema(
    [("pair", pa.int32())]
    + [(name, pa.string()) for name in ("order", "template", "base", "counterfactual", "io", "s", "other")]
    + [("tokens", pa.int32()), ("first", pa.int32())]
    + [(name, pa.float64()) for name in ("base_difference", "counterfactual_difference", "kl")]
)


def write_pairs(run_dir: Path, seed: int, encoded: Sequence[EncodedPair], runs: PairRuns) -> FileNote:
    """The sentences of a seed, with what the subject makes of them unpatched."""
    columns: dict[str, Any] = {name: [getattr(one.pair, name) for one in encoded] for name in _PAIRS.names[1:8]}
    columns |= {"pair": list(range(len(encoded))), "tokens": [len(one.base) for one in encoded], "first": [one.first for one in encoded]}
    columns |= {"base_difference": runs.unpatched.io, "counterfactual_difference": runs.reached.other, "kl": runs.unpatched.kl}
    path = run_dir / f"pairs-{seed}.parquet"
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(pa.table({name: columns[name] for name in _PAIRS.names}, schema=_PAIRS), temporary, compression="zstd")
    put_in_place(temporary, path)
    return note_file(path, run_dir)


def write_piece(run_dir: Path, number: int, found: Ranked, support: Support) -> dict[str, Any]:
    """Keep a finished curve, whole or not at all. Returns what the manifest says of it."""
    features = list(found.features)
    points = {
        "features": [point.features for point in found.points],
        "threshold": list(found.thresholds),
        "logit_io": [point.io for point in found.points],
        "logit_other": [point.other for point in found.points],
        **{name: [getattr(point, name) for point in found.points] for name in ("kl", "edit", "kl_abba", "kl_baba")},
    }
    ranked = {
        "rank": list(range(1, len(features) + 1)),
        "unit": support.units[features],
        "score": list(found.scores),
        "pairs": np.diff(support.begins)[features],
    }
    folder = run_dir / PIECES / f"{number:04d}"
    with whole_folder(folder) as temporary:
        for name, columns, schema in (("points", points, _POINTS), ("features", ranked, _FEATURES)):
            table = pa.table({column: pa.array(columns[column], schema.field(column).type) for column in schema.names}, schema=schema)
            pq.write_table(table, temporary / f"{name}.parquet", compression="zstd")
    return {"piece": number, "files": {name: note_file(folder / f"{name}.parquet", run_dir) for name in ("points", "features")}}


def finished(run_dir: Path, subject: SubjectInfo, hashes: Mapping[tuple[str, str], str]) -> list[dict[str, Any]]:
    """The curves that an earlier attempt of this run finished and that are intact.

    hashes: of the weights of each site and decomposition. Raises AtlasError when the subject or a dictionary is another one by now, and for
    a damaged manifest.
    """
    for half in (run_dir / PIECES).glob(".*.tmp"):  # what a kill left
        shutil.rmtree(half, ignore_errors=True)
    try:
        document = json.loads((run_dir / "manifest.json").read_text("utf8"))
        found = [one for one in cast(list[dict[str, Any]], document["pieces"]) if all(_intact(run_dir, one))]
        replaced = [f"dictionary {one['decomposition']} at {one['site']}" for one in found if one["weights"] != hashes[_place(one)]]
        if document["subject"]["weights_hash"] != subject.weights_hash and found:
            replaced.insert(0, f"model {subject.slug}")
        if replaced:
            raise AtlasError(f"The {replaced[0]} was replaced since {run_dir.name} began: delete that run and start it again.")
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AtlasError(f"The results of {run_dir.name} are damaged: delete the run and start it again.") from None
    return found


def _place(piece: Mapping[str, Any]) -> tuple[str, str]:
    return piece["site"], piece["decomposition"]


def read_scores(run_dir: Path, number: int, support: Support) -> Doubles | None:
    """The scores of a finished curve by feature [m]; None when it is not over these features."""
    table = pq.read_table(run_dir / PIECES / f"{number:04d}" / "features.parquet", schema=_FEATURES)
    units, scores = table.column("unit").to_numpy(), table.column("score").to_numpy()
    order = np.argsort(units)
    return scores[order] if np.array_equal(units[order], support.units) else None


def told(one: Decomposition) -> dict[str, Any]:
    """What the manifest says of a decomposition."""
    info = None if one.dictionary is None else one.dictionary.info
    if info is None:
        return {"units": one.units, "linear": True, "family": None, "alpha": None, "weights_sha256": ""}
    return {"units": one.units, "linear": one.linear, "family": info.family, "alpha": info.recipe.get("alpha"), "weights_sha256": one.hash}


def _intact(run_dir: Path, piece: Mapping[str, Any]) -> list[bool]:
    notes = cast(Mapping[str, FileNote], piece["files"])
    return [is_intact(run_dir, notes[name]) for name in ("points", "features")]
