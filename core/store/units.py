"""One unit, whole: its statistics, records, token positions and effects, read straight from the run's Parquet files."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from core.index.bands import BANDS
from core.index.bands import QUANTILES as BAND_QUANTILES
from core.index.bins import EDGES
from core.store.catalog import IndexInfo, find_unit, read_current
from core.store.density import density
from core.store.parts import DamagedPart, read_unit
from core.store.texts import SliceText, load_text, load_vocab
from core.units import UnitName
from core.vocab import Vocab
from core.workspace import Workspace

STATS = ("tokens", "nonzero", "mean", "variance", "skewness", "kurtosis", "min", "max")
QUANTILES = ("p50", "p90", "p99", "p999")
LEFT = 3
"""How many tokens before a position are given with it."""

_UNIT_COLUMNS = [
    *("unit", *STATS, *QUANTILES, "bins", "counts", "peak_token", "peak_context", "peak_position", "snippet"),
    *("top_tokens", "top_token_means", "top_token_counts", "top_token_totals"),
]
_RECORD_COLUMNS = ["unit", "band", "contexts", "values", "positions", "scales", "activations", "sampled", "shown"]
_POSITION_COLUMNS = ["unit", "kind", "contexts", "positions", "values", "weights"]
_EFFECT_COLUMNS = ["unit", "raised", "raised_logits", "lowered", "lowered_logits", "similar", "similar_cosines"]


@dataclass(frozen=True)
class Record:
    """One context with the unit's activation on every token.

    tokens and activations have the shape (tokens of the context,), a BOS included; those before `first` are never data. `value` is the
    record's largest activation (in the band `bottom` its smallest), at `position`. `quantile` is where the record stands among all of the
    slice, by its maximum, estimated from the sample of its band; None in the bands top, bottom and random.
    """

    band: str
    place: int
    """In its band, from 0."""
    context: int
    """Its rank in the slice."""
    document: str
    source: str
    start: int
    tokens: npt.NDArray[np.int32]
    activations: npt.NDArray[np.float32]
    value: float
    position: int
    quantile: float | None
    first: int
    text: str


@dataclass(frozen=True)
class TopToken:
    """A token on which the unit fires: mean activation, how many positions were seen, and how many the slice has."""

    token: int
    text: str
    mean: float
    count: int
    total: int


@dataclass(frozen=True)
class Histogram:
    """The occupied bins in the order of values: counts[i] activations lie between lows[i] and highs[i]. The zero bin has no width."""

    lows: npt.NDArray[np.float64]
    highs: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenEffect:
    """An output token and what one unit of activation adds to its logit."""

    token: int
    text: str
    logit: float


@dataclass(frozen=True)
class Similar:
    """A unit whose write direction points the same way. Cosine in [−1, 1]."""

    name: UnitName
    cosine: float


@dataclass(frozen=True)
class Effects:
    """What follows from the weights alone."""

    raised: list[TokenEffect]
    lowered: list[TokenEffect]
    similar: list[Similar]


@dataclass(frozen=True)
class Positions:
    """Token positions of one kind; all arrays have the shape (positions,), `left` (positions, 3) with the nearest token last.

    `weights` says how many positions of the slice each stands for. −1 in `left` where the context has no such token.
    """

    contexts: npt.NDArray[np.int32]
    positions: npt.NDArray[np.int16]
    tokens: npt.NDArray[np.int32]
    left: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]


@dataclass(frozen=True)
class UnitView:
    """Everything the index knows of one unit."""

    name: UnitName
    index: IndexInfo
    stats: dict[str, float]
    """tokens, nonzero, mean, variance, skewness, kurtosis, min, max: NaN where undefined."""
    density: float
    """The share of tokens on which the unit is clearly active, see core/store/density.py."""
    histogram: Histogram
    quantiles: dict[str, float]
    top_tokens: list[TopToken]
    bands: dict[str, list[Record]]
    effects: Effects | None
    provenance: dict[str, Any]
    snippet: str
    peak_token: int
    _workspace: Workspace = field(repr=False)

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and largest activation that is known: over the text, or in records and bins where the index does not say."""
        edges = np.concatenate([self.histogram.lows, self.histogram.highs])
        found = [edges[np.isfinite(edges)], *(one.activations[one.first :] for records in self.bands.values() for one in records)]
        known = [each for each in found if each.size]
        low, high = self.stats["min"], self.stats["max"]
        return (
            float(min((each.min() for each in known), default=0.0)) if np.isnan(low) else low,
            float(max((each.max() for each in known), default=0.0)) if np.isnan(high) else high,
        )

    def positions(self, kind: str) -> Positions:
        """The unit's token positions: `strong`, the strongest, or `sampled`, drawn uniformly. Raises AtlasError."""
        return read_current(self._workspace, self.index, lambda index: _positions(self._workspace, index, self.name, kind))


def load_unit(workspace: Workspace, name: UnitName, run: str | None = None) -> UnitView:
    """Read one unit from run `run`, or from the largest index that covers its site. Raises AtlasError."""
    return read_current(workspace, find_unit(workspace, name, run), lambda current: _load(workspace, current, name))


def _load(workspace: Workspace, index: IndexInfo, name: UnitName) -> UnitView:
    rows = read_unit(index.part(name.site, "units"), name.index, _UNIT_COLUMNS)
    if len(rows) != 1:
        raise DamagedPart(index.part(name.site, "units"), f"unit {name.index} is not in it")
    row = rows[0]
    vocab = load_vocab(workspace, name.subject)
    text = load_text(workspace, index)
    bins = np.array(row["bins"], dtype=np.int64)
    counts = np.array(row["counts"], dtype=np.int64)
    tops = zip(row["top_tokens"], row["top_token_means"], row["top_token_counts"], row["top_token_totals"], strict=True)
    return UnitView(
        name=name,
        index=index,
        stats={key: row[key] for key in STATS},
        density=float(density(bins, counts, [len(bins)], [row["min"]], [row["max"]])[0]),
        histogram=Histogram(EDGES[bins], EDGES[bins + 1], counts),
        quantiles={key: row[key] for key in QUANTILES},
        top_tokens=[TopToken(token, _shown(vocab, token), mean, count, total) for token, mean, count, total in tops],
        bands=_bands(index, name, text),
        effects=_effects(index, name, vocab),
        provenance=_provenance(index, name),
        snippet=row["snippet"] or "",
        peak_token=row["peak_token"],
        _workspace=workspace,
    )


def _bands(index: IndexInfo, name: UnitName, text: SliceText) -> dict[str, list[Record]]:
    path = index.part(name.site, "records")
    rows = read_unit(path, name.index, _RECORD_COLUMNS)
    if not rows:
        raise DamagedPart(path, f"unit {name.index} is not in it")
    bands: dict[str, list[Record]] = {band: [] for band, _ in BANDS}
    length, first = int(index.slice["length"]), int(index.slice["bos"])
    for row in rows:
        band, contexts = str(row["band"]), row["contexts"]
        content = np.frombuffer(row["activations"], "<i2")
        if content.size != len(contexts) * length or any(not 0 <= rank < len(text) for rank in contexts):
            raise DamagedPart(path, f"the band {band} of unit {name.index} does not fit its slice")
        scales = np.array(row["scales"], dtype=np.float32)
        activations = content.reshape(-1, length).astype(np.float32) * scales[:, None]
        quantiles = band_quantiles(band, row["shown"], row["sampled"])
        found: list[Record] = []
        for i, rank in enumerate(contexts[: row["shown"]]):
            tokens = text.of(rank)
            document = int(text.document[rank])
            found.append(
                Record(
                    band=band,
                    place=i,
                    context=rank,
                    document=text.document_ids[document],
                    source=text.sources[document],
                    start=int(text.start[rank]),
                    tokens=tokens,
                    activations=activations[i, : len(tokens)],
                    value=row["values"][i],
                    position=row["positions"][i],
                    quantile=quantiles[i],
                    first=first,
                    text=text.text(rank),
                )
            )
        bands[band] = found
    return bands


def band_quantiles(band: str, shown: int, sampled: int) -> list[float | None]:
    """The quantile of each shown record of a sampled band, in the order written; None for other bands.

    The i-th of `sampled` records from the top has the quantile 1 − (i + ½)/sampled, and those that a band shows follow each other from the
    first one inside it. The lowest band counts from the bottom: (i + ½)/sampled.
    """
    if band not in BAND_QUANTILES or not sampled:
        return [None] * shown
    if band == "q0":
        return [(i + 0.5) / sampled for i in range(shown)]
    high = BAND_QUANTILES[band][1]
    start = next((i for i in range(sampled) if 1 - (i + 0.5) / sampled <= high), 0)
    return [1 - (i + 0.5) / sampled for i in range(start, start + shown)]


def _effects(index: IndexInfo, name: UnitName, vocab: Vocab) -> Effects | None:
    path = index.effects(name.site)
    if path is None:
        return None
    rows = read_unit(path, name.index, _EFFECT_COLUMNS)
    if not rows:
        raise DamagedPart(path, f"unit {name.index} is not in it")
    row = rows[0]

    def listed(which: str) -> list[TokenEffect]:
        return [TokenEffect(token, _shown(vocab, token), logit) for token, logit in zip(row[which], row[f"{which}_logits"], strict=True)]

    similar: list[Similar] = []
    for short, cosine in zip(row["similar"], row["similar_cosines"], strict=True):
        site, _, number = str(short).partition("/")
        similar.append(Similar(UnitName.parse(f"{name.subject}/{site}/{name.basis}/{number}"), cosine))
    return Effects(listed("raised"), listed("lowered"), similar)


def _positions(workspace: Workspace, index: IndexInfo, name: UnitName, kind: str) -> Positions:
    path = index.part(name.site, "positions")
    row = next((row for row in read_unit(path, name.index, _POSITION_COLUMNS) if row["kind"] == kind), None)
    if row is None:
        raise DamagedPart(path, f"it has no {kind} positions of unit {name.index}")
    text = load_text(workspace, index)
    contexts = np.array(row["contexts"], dtype=np.int32)
    positions = np.array(row["positions"], dtype=np.int16)
    if len(contexts) and not 0 <= contexts.min() <= contexts.max() < len(text):
        raise DamagedPart(path, f"the positions of unit {name.index} do not fit its slice")
    steps = np.arange(-LEFT, 0)
    return Positions(
        contexts=contexts,
        positions=positions,
        tokens=text.token_at(contexts, positions),
        left=text.token_at(np.repeat(contexts[:, None], LEFT, axis=1), positions[:, None].astype(np.int64) + steps),
        values=np.array(row["values"], dtype=np.float32),
        weights=np.array(row["weights"], dtype=np.float32),
    )


def _shown(vocab: Vocab, token: int) -> str:
    """A token's text by itself; an output token that the tokenizer lacks (a padded vocabulary) by its number."""
    return vocab.pieces([token])[0] if 0 <= token < vocab.size else f"⟨token {token}⟩"


def _provenance(index: IndexInfo, name: UnitName) -> dict[str, Any]:
    """Where the numbers come from: run, subject, slice and the worker's own account."""
    subject, piece = index.subject, index.slice
    return {
        "run": index.run,
        "generation": index.generation,
        "state": index.state,
        "contexts_done": index.contexts_done,
        "contexts_total": index.contexts_total,
        "tokens_done": index.tokens_done,
        "subject": {key: subject.get(key) for key in ("slug", "source", "revision", "architecture", "weights_hash", "tokenizer_hash")},
        "site": str(name.site),
        "basis": index.basis,
        "signed": index.signed.get(str(name.site)),
        "slice": {key: piece.get(key) for key in ("id", "hash", "spec", "contexts", "tokens", "length", "stride", "bos", "sources")},
        **index.provenance,
    }
