"""What ablating did: the runs of kind `effect` of the workspace, and one of them whole. No torch."""

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from core.errors import AtlasError, shown
from core.remembered import FileKey, Remembered, file_key
from core.store.catalog import NewerManifest, broken_file, scan_manifests
from core.store.parts import DamagedPart, flat, lengths, read_columns
from core.units import UnitName, check_slug
from core.workspace import Workspace

MANIFEST_SCHEMA = 1
LISTS = ("raised", "lowered", "before", "after")
"""The tokens listed at each position: most raised, most lowered, likeliest without the change, likeliest with it."""
_POSITION = ("text", "position", "token", "following", "fires", "kl", "log_p", "change")
_LISTED = ("tokens", "original", "ablated")
_VOCABULARY = ("token", "change", "direct", "before", "after")

Floats = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int32]


@dataclass(frozen=True)
class EffectToken:
    """A token of the vocabulary, over positions where a unit fires.

    change, direct: mean change of its log-probability, in all and directly. before, after: its mean probability without and with.
    """

    token: int
    change: float
    direct: float
    before: float
    after: float


@dataclass(frozen=True)
class ShownScore:
    """An ablation score (`core.causal.ablation_score`); NaN where undefined, and then `reason` says why."""

    explanation: str
    score: float
    simulated: float
    mean: float
    tokens: int
    records: int
    coverage: float
    contexts: tuple[int, ...]
    split: str
    simulator: str
    reason: str


@dataclass(frozen=True)
class EffectRun:
    """One run of ablation as its manifest describes it; `manifest` is the whole document. Means are NaN where undefined.

    positions, predicted, firing: how many there are, have a token that follows, have a unit that fires. kl, loss_change: means over all of
    them; kl_firing, loss_change_firing: over those that fire. undefined: why no token has a mean change, else empty.
    """

    run: str
    folder: Path
    written: float
    state: str
    units: tuple[UnitName, ...]
    rule: str
    text: str | None
    chosen: tuple[int, ...] | None
    index: str | None
    positions: int
    predicted: int
    firing: int
    kl: float
    kl_firing: float
    loss_change: float
    loss_change_firing: float
    raised: tuple[EffectToken, ...]
    lowered: tuple[EffectToken, ...]
    undefined: str
    scores: tuple[ShownScore, ...]
    manifest: dict[str, Any]

    @property
    def path(self) -> Path:
        return self.folder / "manifest.json"

    def said(self, unit: UnitName) -> dict[str, Any]:
        """What the run says of one of its units: rule, mean, above which activation it fires, its dictionary."""
        return next(told for told in self.manifest["units"] if told["unit"] == str(unit))


@dataclass(frozen=True)
class Listed:
    """Tokens listed at each position: [positions, listed], with their log-probabilities without and with the change."""

    tokens: Whole
    original: Floats
    ablated: Floats


@dataclass(frozen=True)
class EffectView:
    """A run of ablation, whole. Arrays have a row for each position, one text after the other; a BOS is no part of them.

    following: −1 where nothing follows, and there log_p (of the token that follows) and change are NaN. activations: [positions, units].
    vocabulary: `token`, `change`, `direct`, `before`, `after` of every token, as `EffectToken` has them, NaN where no unit fires.
    """

    run: EffectRun
    text: Whole
    position: Whole
    token: Whole
    following: Whole
    activations: Floats
    fires: npt.NDArray[np.bool_]
    kl: npt.NDArray[np.float64]
    log_p: Floats
    change: Floats
    lists: dict[str, Listed]
    vocabulary: dict[str, npt.NDArray[Any]]

    @cached_property
    def loss_change(self) -> Floats:
        """By how much the loss rises at each position."""
        return -self.change

    def rows_of(self, text: int) -> slice:
        """The rows of one text, in the order of its tokens."""
        first, last = np.searchsorted(self.text, [text, text + 1]).tolist()
        return slice(first, last)

    def of_token(self) -> Floats:
        """By how much the log-probability of each row's own token changes, given what stands before it; NaN for a text's first."""
        found = np.full(len(self.change), np.nan, np.float32)
        found[1:] = np.where(self.position[1:] > 0, self.change[:-1], np.nan)
        return found


_manifests: Remembered[FileKey, EffectRun | None] = Remembered(4096)
_views: Remembered[tuple[FileKey, FileKey], EffectView] = Remembered(4)


def effect_runs(workspace: Workspace) -> list[EffectRun]:
    """Every readable run of ablation that has results, the newest first. Damaged manifests are left out."""
    found, _ = scan_manifests(workspace, _manifests, _read)
    return sorted(found, key=lambda one: (-one.written, one.run))


def effects_of(workspace: Workspace, unit: UnitName, *, own_text: bool = False) -> list[EffectRun]:
    """The runs that ablated this unit alone, the newest first: on its records, or on texts of people's own."""
    return [one for one in effect_runs(workspace) if one.units == (unit,) and (one.text is not None) == own_text]


def load_effect_run(workspace: Workspace, run: str) -> EffectRun:
    """One run by its id. Raises AtlasError."""
    path = workspace.runs / check_slug(run, "run") / "manifest.json"
    try:
        key = file_key(path)
        found = _manifests.get(key, lambda: _read(path, key))
    except FileNotFoundError:
        raise AtlasError(f"The run “{shown(run)}” has no effect to show yet, or is not there.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NewerManifest):
        raise AtlasError(broken_file(workspace, run, path, "is damaged")) from None
    if found is None:
        raise AtlasError(f"The run “{shown(run)}” did not ablate units: choose one of the kind “effect”.")
    return found


def load_effect(workspace: Workspace, run: str) -> EffectView:
    """One run with everything that it measured. Raises AtlasError."""
    found = load_effect_run(workspace, run)
    positions, vocabulary = (found.folder / found.manifest["files"][name]["path"] for name in ("positions", "vocabulary"))
    try:
        return _replaced(_views.get((file_key(positions), file_key(vocabulary)), lambda: _load(found, positions, vocabulary)), found)
    except FileNotFoundError as error:
        raise AtlasError(broken_file(workspace, run, Path(str(error.filename)), "is missing")) from None
    except DamagedPart as damage:
        raise AtlasError(broken_file(workspace, run, damage.path, "is damaged")) from None


def _replaced(view: EffectView, run: EffectRun) -> EffectView:
    """The view with the run as it is now: scores come after the positions."""
    return view if view.run is run else EffectView(run, **{name: getattr(view, name) for name in _ARRAYS})


_ARRAYS: Collection[str] = (*_POSITION, "activations", "lists", "vocabulary")


def _load(run: EffectRun, positions: Path, vocabulary: Path) -> EffectView:
    table = read_columns(positions, [*_POSITION, "activations", *(f"{name}_{what}" for name in LISTS for what in _LISTED)])
    words = read_columns(vocabulary, list(_VOCABULARY))
    rows = table.num_rows
    if rows != run.positions:
        raise DamagedPart(positions, "it does not hold the positions of the run")

    def matrix(name: str, dtype: Any) -> npt.NDArray[Any]:
        column = table.column(name)
        width = set(lengths(column).tolist())
        if len(width) != 1:
            raise DamagedPart(positions, f"its column {name} has rows of different lengths")
        return flat(column, dtype).reshape(rows, width.pop())

    plain: dict[str, Any] = {name: table.column(name).to_numpy() for name in _POSITION}
    whole: dict[str, Any] = {name: plain[name].astype(np.int32) for name in ("text", "position", "token", "following")}
    made: dict[str, Any] = {"kl": plain["kl"], "log_p": plain["log_p"], "change": plain["change"], "fires": plain["fires"].astype(np.bool_)}
    lists = {
        name: Listed(matrix(f"{name}_tokens", np.int32), matrix(f"{name}_original", np.float32), matrix(f"{name}_ablated", np.float32))
        for name in LISTS
    }
    return EffectView(
        run=run,
        **whole,
        **made,
        activations=matrix("activations", np.float32),
        lists=lists,
        vocabulary={name: words.column(name).to_numpy() for name in _VOCABULARY},
    )


def _read(path: Path, key: FileKey) -> EffectRun | None:
    document: dict[str, Any] = json.loads(path.read_text("utf8"))
    if document["kind"] != "effect":
        return None
    if document["schema"] > MANIFEST_SCHEMA:
        raise NewerManifest(document["schema"])
    folder = path.parent
    for entry in (document["files"][name] for name in ("positions", "vocabulary")):  # what is read later must be inside the run's folder
        if not (folder / entry["path"]).resolve().is_relative_to(folder.resolve()):
            raise ValueError(entry["path"])
    request = cast(dict[str, Any], document["request"])
    chosen = request.get("positions")
    return EffectRun(
        run=folder.name,
        folder=folder,
        written=key[1] / 1e9,
        state=str(document["state"]),
        units=tuple(UnitName.parse(told["unit"]) for told in document["units"]),
        rule=str(request["rule"]),
        text=request.get("text"),
        chosen=None if chosen is None else tuple(map(int, chosen)),
        index=document["units"][0]["index"],
        positions=int(document["positions"]),
        predicted=int(document["predicted"]),
        firing=int(document["firing"]),
        **{name: _number(document[name]) for name in ("kl", "kl_firing", "loss_change", "loss_change_firing")},
        raised=tuple(EffectToken(**one) for one in document["raised"]),
        lowered=tuple(EffectToken(**one) for one in document["lowered"]),
        undefined=str(document["undefined"]),
        scores=tuple(_score(one) for one in document["scores"]),
        manifest=document,
    )


def _score(one: dict[str, Any]) -> ShownScore:
    numbers: dict[str, Any] = {name: _number(one[name]) for name in ("score", "simulated", "mean", "coverage")}
    whole: dict[str, Any] = {name: int(one[name]) for name in ("tokens", "records")}
    words: dict[str, Any] = {name: str(one[name]) for name in ("explanation", "split", "simulator", "reason")}
    return ShownScore(**words, **numbers, **whole, contexts=tuple(map(int, one["contexts"])))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
