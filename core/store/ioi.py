"""What patching pairs of sentences found: the runs of kind `ioi`, their sentences, curves and ranked features. No torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.errors import AtlasError, shown
from core.remembered import FileKey, Remembered, file_key
from core.store.catalog import NewerManifest, broken_file, scan_manifests
from core.store.parts import DamagedPart, read_columns
from core.units import Site, check_slug
from core.workspace import Workspace

MANIFEST_SCHEMA = 1
POINTS = ("features", "threshold", "kl", "edit", "logit_io", "logit_other", "kl_abba", "kl_baba")
FEATURES = ("rank", "unit", "score", "pairs")
PAIRS = (
    "pair", "order", "template", "base", "counterfactual", "io", "s", "other", "tokens", "first", "base_difference",
    "counterfactual_difference", "kl",
)  # fmt: skip
_CURVES = 256
_BAND_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """One finished curve. key: site/decomposition. supported: how many of `units` can matter in a pair at all. items: those pairs, summed.

    plain: why keys and values were not kept, else empty. texts, positions: read by the subject above the site. files: by name, within
    the run's folder.
    """

    site: Site
    decomposition: str
    order: str
    seed: int
    units: int
    supported: int
    items: int
    plain: str
    seconds: float
    texts: int
    positions: int
    files: dict[str, str]

    @property
    def key(self) -> str:
        return f"{self.site}/{self.decomposition}"


@dataclass(frozen=True)
class Sentences:
    """The pairs of one seed: what the subject makes of them unpatched, by `all`, `ABBA` and `BABA`; and our names that were left out."""

    seed: int
    path: str
    dropped: tuple[str, ...]
    baseline: dict[str, Any]


@dataclass(frozen=True)
class IoiRun:
    """One run as its manifest describes it; `manifest` is the whole document. total: curves that were asked for."""

    run: str
    folder: Path
    written: float
    state: str
    request: dict[str, Any]
    subject: dict[str, Any]
    sentences: tuple[Sentences, ...]
    curves: tuple[Curve, ...]
    total: int
    decompositions: dict[str, dict[str, Any]]
    manifest: dict[str, Any]

    @property
    def complete(self) -> bool:
        return self.state == "complete"

    @property
    def slug(self) -> str:
        return str(self.subject["slug"])

    @property
    def ceiling(self) -> float:
        """Mean KL of the unpatched sentences, over the seeds."""
        return float(np.mean([one.baseline["all"]["kl"] for one in self.sentences])) if self.sentences else float("nan")


_manifests: Remembered[FileKey, IoiRun | None] = Remembered(4096)
_tables: Remembered[tuple[FileKey, str], pd.DataFrame] = Remembered(_CURVES)


def ioi_runs(workspace: Workspace) -> list[IoiRun]:
    """Every readable run that has a baseline, the newest first. Damaged manifests are left out."""
    found, _ = scan_manifests(workspace, _manifests, _read)
    return sorted(found, key=lambda one: (-one.written, one.run))


def load_ioi(workspace: Workspace, run: str) -> IoiRun:
    """One run by its id. Raises AtlasError."""
    path = workspace.runs / check_slug(run, "run") / "manifest.json"
    try:
        key = file_key(path)
        found = _manifests.get(key, lambda: _read(path, key))
    except FileNotFoundError:
        raise AtlasError(f"The run “{shown(run)}” has nothing to show yet, or is not there.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NewerManifest):
        raise AtlasError(broken_file(workspace, run, path, "is damaged")) from None
    if found is None:
        raise AtlasError(f"The run “{shown(run)}” did not patch sentences: choose one of the kind “ioi”.")
    return found


def pairs(workspace: Workspace, run: IoiRun, seed: int) -> pd.DataFrame:
    """The sentences of a seed, one a row, with the columns of `PAIRS`. Raises AtlasError."""
    chosen = next((one for one in run.sentences if one.seed == seed), None)
    if chosen is None:
        raise AtlasError(f"The run {run.run} has no sentences of the seed {seed}.")
    return _table(workspace, run, chosen.path, PAIRS)


def points(workspace: Workspace, run: IoiRun) -> pd.DataFrame:
    """Every point of every finished curve: `key`, `order`, `seed`, then the columns of `POINTS`. Raises AtlasError."""
    frames = [
        _table(workspace, run, curve.files["points"], POINTS).assign(key=curve.key, order=curve.order, seed=curve.seed)
        for curve in run.curves
    ]
    columns = ["key", "order", "seed", *POINTS]
    return pd.concat(frames, ignore_index=True).reindex(columns=columns) if frames else pd.DataFrame(columns=columns)


def ranked(workspace: Workspace, run: IoiRun, key: str, order: str) -> pd.DataFrame:
    """The features of one decomposition under one order, the most important first, over the seeds that are finished.

    Columns: `unit`; `rank`, its mean rank; `best`, `worst`; `score`, its mean; `pairs`, in how many it can matter, a mean; `seeds`, in how
    many it can matter at all. In a seed where it cannot, it counts as ranked after all others. Raises AtlasError.
    """
    chosen = [curve for curve in run.curves if curve.key == key and curve.order == order]
    if not chosen:
        return pd.DataFrame(columns=["unit", "rank", "best", "worst", "score", "pairs", "seeds"])
    frames = [_table(workspace, run, curve.files["features"], FEATURES) for curve in chosen]
    columns = {name: [np.asarray(frame[name], dtype=np.float64) for frame in frames] for name in FEATURES}
    units, places = np.unique(np.concatenate(columns["unit"]).astype(np.int64), return_inverse=True)
    after = sum(len(frame) + 1 for frame in frames)

    def summed(values: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        return np.bincount(places, np.concatenate(values), len(units)).astype(np.float64)

    best, worst = np.full(len(units), np.inf), np.zeros(len(units))
    np.minimum.at(best, places, np.concatenate(columns["rank"]))
    np.maximum.at(worst, places, np.concatenate(columns["rank"]))
    seeds = summed([np.ones(len(frame)) for frame in frames])
    absent = after - summed([np.full(len(frame), len(frame) + 1.0) for frame in frames])
    scored = [np.isfinite(score) for score in columns["score"]]
    known = summed([one.astype(np.float64) for one in scored])
    scores = summed([np.where(one, score, 0.0) for one, score in zip(scored, columns["score"], strict=True)])
    made = {
        "unit": units,
        "rank": (summed(columns["rank"]) + absent) / len(frames),
        "best": best.astype(np.int64),
        "worst": worst.astype(np.int64),
        "score": np.divide(scores, known, out=np.full(len(units), np.nan), where=known > 0),
        "pairs": summed(columns["pairs"]) / seeds,
        "seeds": seeds.astype(np.int64),
    }
    order_ = np.lexsort((units, made["rank"]))
    return pd.DataFrame({name: column[order_] for name, column in made.items()})


@dataclass(frozen=True)
class Band:
    """KL against x for one decomposition and order: mean over seeds, and the least and the most. seeds: how many."""

    x: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    seeds: int


def band(curves: Sequence[pd.DataFrame], along: str, value: str = "kl") -> Band:
    """The curves of several seeds as one, interpolated linearly between their points.

    along: `features` or `edit`. Beyond its last feature a curve goes on as it ends: the rest changes nothing. Against the size of the edit
    all curves are cut where the shortest ends.
    """
    sorted_ = [curve.dropna(subset=[value]).sort_values(along, kind="stable") for curve in curves]
    places = [curve[along].to_numpy(np.float64) for curve in sorted_]
    grid = np.unique(np.concatenate(places))
    if along == "edit":
        grid = grid[grid <= min(float(x.max()) for x in places)]
    if len(grid) > _BAND_POINTS:
        grid = grid[np.unique(np.linspace(0, len(grid) - 1, _BAND_POINTS).round().astype(int))]
    values = np.stack([np.interp(grid, x, curve[value].to_numpy(np.float64)) for x, curve in zip(places, sorted_, strict=True)])
    return Band(grid, values.mean(0), values.min(0), values.max(0), len(values))


def features_needed(curves: Sequence[pd.DataFrame], kl: float) -> list[int | None]:
    """For each seed's curve, the fewest features that are patched at a point whose KL is at most `kl`; None where there is none."""
    found = [curve.loc[curve["kl"] <= kl, "features"] for curve in curves]
    return [int(one.min()) if len(one) else None for one in found]


def _table(workspace: Workspace, run: IoiRun, name: str, columns: Sequence[str]) -> pd.DataFrame:
    path = run.folder / name
    try:
        return _tables.get((file_key(path), name), lambda: read_columns(path, columns).to_pandas())
    except FileNotFoundError:
        raise AtlasError(broken_file(workspace, run.run, path, "is missing")) from None
    except DamagedPart as damage:
        raise AtlasError(broken_file(workspace, run.run, damage.path, "is damaged")) from None


def _read(path: Path, key: FileKey) -> IoiRun | None:
    document: dict[str, Any] = json.loads(path.read_text("utf8"))
    if document["kind"] != "ioi":
        return None
    if document["schema"] > MANIFEST_SCHEMA:
        raise NewerManifest(document["schema"])
    folder = path.parent
    pieces = cast(list[dict[str, Any]], document["pieces"])
    told = cast(list[dict[str, Any]], document["sentences"])
    for entry in [*(note for one in pieces for note in one["files"].values()), *(one["file"] for one in told)]:
        if not (folder / entry["path"]).resolve().is_relative_to(folder.resolve()):  # what is read later must be inside the run's folder
            raise ValueError(entry["path"])
    return IoiRun(
        run=folder.name,
        folder=folder,
        written=key[1] / 1e9,
        state=str(document["state"]),
        request=document["request"],
        subject=document["subject"],
        sentences=tuple(
            Sentences(int(one["seed"]), str(one["file"]["path"]), tuple(map(str, one["dropped_names"])), one["baseline"]) for one in told
        ),
        curves=tuple(map(_curve, pieces)),
        total=int(document["pieces_total"]),
        decompositions=document["decompositions"],
        manifest=document,
    )


def _curve(one: dict[str, Any]) -> Curve:
    whole: dict[str, Any] = {name: int(one[name]) for name in ("seed", "units", "supported", "items", "texts", "positions")}
    words: dict[str, Any] = {name: str(one[name]) for name in ("decomposition", "order", "plain")}
    files = {name: str(note["path"]) for name, note in one["files"].items()}
    return Curve(site=Site.parse(one["site"]), seconds=float(one["seconds"]), files=files, **whole, **words)
