"""Runs of our own made of what another program's files hold: an index of its units, and what was said of them. Nothing is made up."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.findings.bundle import schemas
from core.findings.bundle.archive import Refused
from core.findings.bundle.reduced import Place, Reduced, Table, places
from core.findings.bundle.taking import context_key
from core.findings.exchange.describing import Made, Origin, described, model_card, schema_of, vocabulary_table
from core.findings.exchange.foreign import Found, Gathering, Unit
from core.findings.exchange.saying import explanations
from core.index.bands import BANDS
from core.units import Site, UnitName, in_order
from core.vocab import Vocab

_MOMENTS = ("mean", "variance", "skewness", "kurtosis")
_LEVELS = ("p50", "p90", "p99", "p999")
_BEFORE, _AFTER = 6, 3
"""Tokens of the snippet around the peak."""
_PACKED = 1 << 30
"""Bytes of all records' activations."""


def made(gathering: Gathering, origin: Origin) -> Made:
    """Raises Refused when there is nothing in it, or too much."""
    if not any(gathering.units.values()):
        raise Refused("No unit was found in the file that was asked for: choose others with --units, or leave it out.")
    if not gathering.contexts:
        raise Refused("The files tell of units, but hold no text on which one was active: import their activations along with them.")
    pieces = list(gathering.vocabulary)
    vocab = Vocab(pieces, [False] * len(pieces))
    bases: dict[str, dict[Site, dict[int, Unit]]] = {}
    for place, units in gathering.units.items():
        site, basis = gathering.places[place]
        mine = bases.setdefault(basis, {}).setdefault(site, {})
        if mine.keys() & units.keys():
            raise Refused(f"Two sources in the file are both read as {site} in the basis {basis}: import one at a time.")
        mine |= units
    sites_of = [site for sites in bases.values() for site in sites]
    card = model_card(origin, pieces, sites_of, max(map(len, gathering.contexts), default=0))
    runs: list[Reduced] = []
    names: list[UnitName] = []
    for basis, sites in sorted(bases.items()):
        index = _index(gathering, origin, card, vocab, basis, {site: dict(sorted(sites[site].items())) for site in in_order(sites)})
        runs.append(index)
        units = {UnitName(card["slug"], site, basis, at): unit for site in in_order(sites) for at, unit in sorted(sites[site].items())}
        names += units
        said = explanations(units, index.run, origin.word, origin.title)
        if said is not None:
            runs.append(said)
    return Made(card, vocabulary_table(pieces, np.zeros(len(pieces), np.bool_)), runs, names)


def _index(
    gathering: Gathering, origin: Origin, card: dict[str, Any], vocab: Vocab, basis: str, sites: Mapping[Site, Mapping[int, Unit]]
) -> Reduced:
    tokens = {unit.tokens for units in sites.values() for unit in units.values()}
    counted = tokens.pop() if len(tokens) == 1 else 0
    contexts, documents = _text(gathering, vocab)
    length = max(map(len, gathering.contexts), default=1)
    late = sorted(str(site) for site, units in sites.items() if any(unit.raised or unit.lowered or unit.similar for unit in units.values()))
    manifest = described(origin, card, basis, list(sites), _hash(gathering, card), len(gathering.contexts), length, counted) | {
        "units": {str(site): 1 + max(units) for site, units in sites.items()},
        "signed": {str(site): _signed(units.values()) for site, units in sites.items()},
        "held": {str(site): list(units) for site, units in sites.items()},
        "late": {"effects": late, "codes": []},
        "provenance": {
            "imported": {"from": origin.title, "model": origin.model, "not carried": sorted(gathering.left_out)},
            "numbers": "as they stand in the file; what it does not hold is not known",
        },
    }
    tables: dict[Place, Table] = {}
    for place in places("index", manifest):
        if place.keys[0] == "text":
            tables[place] = contexts if place.keys[1] == "contexts" else documents
            continue
        site = Site.parse(place.keys[1])
        units = sites[site]
        if place.form is schemas.UNITS:
            tables[place] = _units(gathering, vocab, units)
        elif place.form is schemas.RECORDS:
            tables[place] = _records(units, length)
        elif place.form is schemas.POSITIONS:
            tables[place] = _positions(units)
        else:
            tables[place] = _effects(units, site)
    return Reduced("index", f"index-{origin.word}", manifest, tables)


def _signed(units: Any) -> bool:
    return any(float(one.activations.min()) < 0 for unit in units for found in unit.bands.values() for one in found)


def _hash(gathering: Gathering, card: dict[str, Any]) -> str:
    digest = hashlib.sha256(card["tokenizer_hash"].encode())
    for row, document in zip(gathering.contexts, gathering.document, strict=True):
        digest.update(row.tobytes() + document.to_bytes(8, "little"))
    return digest.hexdigest()


def _text(gathering: Gathering, vocab: Vocab) -> tuple[Table, Table]:
    """The tables of contexts and documents. Where a context begins in its document is not known."""
    size = len(gathering.contexts)
    columns = {
        "rank": np.arange(size, dtype=np.int32),
        "document": np.array(gathering.document, np.int32),
        "start": np.full(size, -1, np.int32),
        "tokens": _lists(gathering.contexts, pa.int32()),
        "key": np.array([context_key(row) for row in gathering.contexts], np.uint64),
        "text": [vocab.decode(row.tolist()) for row in gathering.contexts],
    }
    names = list(gathering.documents)
    documents = [np.arange(len(names), dtype=np.int32), [name for name, _ in names], [source for _, source in names]]
    return pa.table(columns, schema=schema_of(schemas.CONTEXTS)), pa.table(documents, schema=schema_of(schemas.DOCUMENTS))


def _units(gathering: Gathering, vocab: Vocab, units: Mapping[int, Unit]) -> Table:
    rows: list[dict[str, Any]] = []
    for index, unit in units.items():
        peak = max(unit.bands.get("top", []), key=lambda one: float(one.activations.max()), default=None)
        rank, position = (-1, -1) if peak is None else (peak.rank, int(peak.activations.argmax()))
        tokens = [] if peak is None else gathering.contexts[rank][max(0, position - _BEFORE) : position + _AFTER + 1].tolist()
        bins = sorted(unit.bins)
        rows.append(
            {"unit": index, "tokens": unit.tokens, "nonzero": unit.nonzero, "min": np.nan, "max": unit.stats.get("max", np.nan)}
            | {name: unit.stats.get(name, np.nan) for name in _MOMENTS}
            | dict.fromkeys(_LEVELS, np.nan)
            | {"bins": bins, "counts": [unit.bins[place] for place in bins]}
            | {"peak_token": -1 if peak is None else int(gathering.contexts[rank][position])}
            | {"peak_context": rank, "peak_position": position, "snippet": vocab.decode(tokens)}
            | {"top_tokens": [], "top_token_means": [], "top_token_counts": [], "top_token_totals": [], "sums": [0.0] * 8}
        )
    return pa.Table.from_pylist(rows, schema=schema_of(schemas.UNITS))


def _records(units: Mapping[int, Unit], length: int) -> Table:
    rows: list[dict[str, Any]] = []
    size = 0
    for index, unit in units.items():
        for band, _ in BANDS:
            found = _ordered(band, unit.bands.get(band, []))
            lowest = band == "bottom"
            places = [int(one.activations.argmin() if lowest else one.activations.argmax()) for one in found]
            scales = [max(float(np.abs(one.activations).max()), 0.0) / 32767 for one in found]
            steps = np.zeros((len(found), length), "<i2")
            for row, one, scale in zip(steps, found, scales, strict=True):
                row[: len(one.activations)] = np.rint(one.activations / scale) if scale > 0 else 0
            size += steps.nbytes
            if size > _PACKED:
                raise Refused("The file has more records than are taken in at once: import a part of it.")
            rows.append(
                {"unit": index, "band": band, "contexts": [one.rank for one in found], "positions": places, "scales": scales}
                | {"values": [float(one.activations[at]) for one, at in zip(found, places, strict=True)]}
                | {"activations": steps.tobytes(), "sampled": 0, "shown": len(found)}
            )
    return pa.Table.from_pylist(rows, schema=schema_of(schemas.RECORDS))


def _ordered(band: str, found: list[Found]) -> list[Found]:
    """The strongest first, those drawn by chance as they came."""
    if band == "random":
        return found
    sign = 1 if band == "bottom" else -1
    return sorted(found, key=lambda one: sign * float(one.activations.min() if band == "bottom" else one.activations.max()))


def _positions(units: Mapping[int, Unit]) -> Table:
    nothing: dict[str, list[float]] = {"contexts": [], "positions": [], "values": [], "weights": []}
    rows = [{"unit": index, "kind": kind, **nothing} for index in units for kind in ("strong", "sampled")]
    return pa.Table.from_pylist(rows, schema=schema_of(schemas.POSITIONS))


def _effects(units: Mapping[int, Unit], site: Site) -> Table:
    rows = [
        {"unit": index, "raised": [one for one, _ in unit.raised], "raised_logits": [value for _, value in unit.raised]}
        | {"lowered": [one for one, _ in unit.lowered], "lowered_logits": [value for _, value in unit.lowered]}
        | {"similar": [f"{site}/{one}" for one, _ in unit.similar], "similar_cosines": [value for _, value in unit.similar]}
        for index, unit in units.items()
    ]
    names = [name for name in schemas.EFFECTS.columns if name not in schemas.EFFECTS.optional]
    return pa.Table.from_pylist(rows, schema=schemas.EFFECTS.schema(names))


def _lists(rows: Sequence[npt.NDArray[np.int32]], kind: Any) -> Any:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(rows) if rows else np.zeros(0, np.int32), kind))
