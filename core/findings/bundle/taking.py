"""Taking a reduced run out of a run: an index of some units, the explanations of some units, an ablation."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.findings.bundle import schemas
from core.findings.bundle.reduced import SELF, Place, Reduced, Table, places, renamed
from core.findings.bundle.schemas import Form
from core.store.catalog import IMPORTED, IndexInfo
from core.store.effects import EffectRun
from core.store.explained import ExplainedRun
from core.store.explained_ingest import places as identity_places
from core.store.parts import DamagedPart, flat, lengths
from core.store.texts import SliceText, load_text
from core.units import Site
from core.workspace import Workspace

Ranks = npt.NDArray[np.int64]


def origin_of(folder: Path) -> str:
    """The run that a run was first taken from: itself, unless it came in a bundle."""
    try:
        return str(json.loads((folder / IMPORTED).read_text("utf8"))["origin"])
    except FileNotFoundError:
        return folder.name


def taken_index(workspace: Workspace, index: IndexInfo, held: Mapping[Site, Sequence[int]], wanted: Collection[int]) -> Reduced:
    """The index `index` with the units `held` alone, and the contexts that these and `wanted` name.

    Raises FileNotFoundError, DamagedPart and AtlasError, as `core.store.units.load_unit` would within `read_current`.
    """
    sites = [site for site in index.published if held.get(site)]
    units = {str(site): sorted(set(held[site])) for site in sites}
    late = {"effects": index.effects, "codes": index.codes}
    manifest = {key: index.manifest[key] for key in _KEPT if key in index.manifest}
    manifest |= {
        "subject": _named(index.subject),
        "sites": list(units),
        "units": {str(site): index.units_at(site) for site in sites},
        "signed": {name: index.signed[name] for name in units},
        "dictionaries": {str(site): index.dictionary(site) for site in sites if index.dictionary(site)},
        "held": units,
        "kurtosis": {str(site): _median(index, site) for site in sites},
        "made": {str(site): made for site in sites if (made := _made(workspace, index, site))},
        "late": {name: sorted(str(site) for site in sites if path(site) is not None) for name, path in late.items()},
    }
    manifest = json.loads(json.dumps(manifest))
    tables: dict[Place, Table] = {}
    for place in places("index", manifest):
        if place.keys[0] == "text":
            continue
        site = Site.parse(place.keys[1])
        path = index.part(site, place.keys[2]) if place.keys[0] == "files" else late[place.keys[0]](site)
        assert path is not None  # it is among `late`
        numbers = units[str(site)]
        totals = _totals(index, site) if place.form is schemas.CODES and not index.excerpt else None
        tables[place] = _form(path, _read(path, place.form, "unit", numbers), place.form, totals)
    ranks = reduce(np.union1d, [_ranks(table) for table in tables.values()], np.asarray(sorted(wanted), np.int64))
    text = load_text(workspace, index)
    for place in places("index", manifest):
        if place.keys[0] == "text":
            tables[place] = _excerpt(text, ranks.astype(np.int64), place.keys[1])
    return Reduced("index", origin_of(index.folder), manifest, tables)


def taken_explanations(found: ExplainedRun, units: Collection[str]) -> Reduced | None:
    """The explanations of some units, with all that belongs to them; None where the run has none of those units. Raises DamagedPart.

    The ids of index runs in it are still those of this workspace: see `reindexed`.
    """
    kept: dict[str, list[Table]] = {name: [] for name in schemas.PART}
    total = 0
    for part in found.parts:
        path = found.path(part, "explanations")
        total += pq.read_metadata(path).num_rows
        chosen = _form(path, _read(path, schemas.EXPLANATIONS, "unit", units), schemas.EXPLANATIONS)
        if not chosen.num_rows:
            continue
        identities: list[str] = chosen.column("explanation").to_pylist()
        kept["explanations"].append(chosen)
        for name in ("scores", "simulations"):
            path, form = found.path(part, name), schemas.PART[name]
            kept[name].append(_form(path, _read(path, form, "explanation", identities), form))
    if not kept["explanations"]:
        return None
    tables = {name: renamed(pa.concat_tables(made), found.run, SELF).combine_chunks() for name, made in kept.items()}
    explanations = tables["explanations"]
    work = sorted({identity_places(SELF, identity) for identity in explanations.column("explanation").to_pylist()})
    indexes = sorted(set(explanations.column("index").to_pylist()))
    manifest: dict[str, Any] = json.loads((found.folder / "manifest.json").read_text("utf8"))
    manifest = {key: manifest[key] for key in _EXPLAINED if key in manifest} | {
        "work_done": len(work),
        "work_total": len(work),
        "units": len(set(explanations.column("unit").to_pylist())),
        "index": indexes,
        "study": found.study if explanations.num_rows == total else "",
        "part": {"work": [f"{unit}.{setting}" for unit, setting in work], "indexes": indexes},
    }
    return Reduced("explain", origin_of(found.folder), manifest, {place: tables[place.keys[1]] for place in places("explain", manifest)})


def taken_effect(found: EffectRun) -> Reduced:
    """A run that ablates, whole. The ids of other runs in it are still those of this workspace. Raises DamagedPart."""
    manifest = {key: value for key, value in found.manifest.items() if key not in ("run", "files")}
    manifest["subject"] = _named(manifest["subject"])
    tables: dict[Place, Table] = {}
    for place in places("effect", manifest):
        path = found.folder / found.manifest["files"][place.keys[1]]["path"]
        tables[place] = _form(path, _read(path, place.form), place.form)
    return Reduced("effect", origin_of(found.folder), json.loads(json.dumps(manifest)), tables)


def reindexed(made: Reduced, indexes: Mapping[str, str], explanations: Mapping[str, str]) -> Reduced:
    """The same with the ids of other runs as the bundle has them. explanations: by the run that they are of."""
    manifest: dict[str, Any] = json.loads(json.dumps(made.manifest))
    tables = dict(made.tables)
    if made.kind == "explain":
        manifest["index"] = sorted(indexes.get(run, run) for run in manifest["index"])
        manifest["part"]["indexes"] = manifest["index"]
        place = next(place for place in tables if place.keys[1] == "explanations")
        at = tables[place].column_names.index("index")
        renamed_runs = [indexes.get(run, run) for run in tables[place].column(at).to_pylist()]
        tables[place] = tables[place].set_column(at, "index", pa.array(renamed_runs, pa.string()))
    else:

        def named(identity: str) -> str:
            run, *place = identity.rsplit(".", 3)
            return ".".join([explanations.get(run, run), *place])

        for told in manifest["units"]:
            told["index"] = indexes.get(told["index"], told["index"])
        request = manifest["request"]
        if request.get("index"):
            request["index"] = indexes.get(request["index"], request["index"])
        if "explanations" in request:
            request["explanations"] = [named(identity) for identity in request["explanations"]]
        for score in manifest["scores"]:
            score["explanation"] = named(score["explanation"])
    return Reduced(made.kind, made.origin, manifest, tables)


def contexts_of(made: Reduced) -> dict[str, set[int]]:
    """The ranks that explanations or an ablation name, by the index run that these are ranks of."""
    found: dict[str, set[int]] = {}
    if made.kind == "effect":
        ranks = {text["context"] for text in made.manifest["texts"] if text["context"] is not None}
        return {str(made.manifest["units"][0]["index"]): ranks} if ranks else {}
    tables = {place.keys[1]: table for place, table in made.tables.items()}
    explanations = tables["explanations"]
    of = dict(zip(*(explanations.column(name).to_pylist() for name in ("explanation", "index")), strict=True))
    for identity, train in zip(*(explanations.column(name).to_pylist() for name in ("explanation", "train")), strict=True):
        found.setdefault(of[identity], set()).update(train)
    for identity, ranks in zip(*(tables["scores"].column(name).to_pylist() for name in ("explanation", "contexts")), strict=True):
        found.setdefault(of[identity], set()).update(ranks)
    for identity, rank in zip(*(tables["simulations"].column(name).to_pylist() for name in ("explanation", "context")), strict=True):
        found.setdefault(of[identity], set()).add(rank)
    return found


_KEPT = (
    *("schema", "kind", "state", "generation", "contexts_done", "contexts_total", "tokens_done", "slice", "basis", "bands"),
    *("provenance", "imported"),
)
_EXPLAINED = ("schema", "kind", "state", "generation", "settings", "spend", "provenance")


def _named(subject: dict[str, Any]) -> dict[str, Any]:
    """The card of a subject; of one that was loaded from a folder only that folder's own name goes along."""
    if subject.get("source") != "folder":
        return subject
    return {**subject, "name_or_path": str(subject["name_or_path"]).replace("\\", "/").rstrip("/").rpartition("/")[2]}


def _median(index: IndexInfo, site: Site) -> float | None:
    """The median kurtosis of the whole site, by which units are called interesting."""
    if index.excerpt:
        return index.manifest["kurtosis"][str(site)]
    found = pq.read_table(index.part(site, "units"), columns=["kurtosis"]).column("kurtosis").to_numpy()
    known = found[~np.isnan(found)]
    return float(np.median(known)) if len(known) else None


def _made(workspace: Workspace, index: IndexInfo, site: Site) -> dict[str, Any]:
    """How the dictionary at a site was made; empty for neurons, and when it is no longer on the shelf."""
    if index.excerpt or not index.dictionary(site):
        return (index.manifest.get("made") or {}).get(str(site), {})
    try:
        info = json.loads((workspace.bases / index.slug / str(site) / index.basis / "basis.json").read_text("utf8"))
        same = info["weights"]["sha256"] == index.dictionary(site).get("weights_sha256")
        return {**info["recipe"], **info["source"]} if same else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _totals(index: IndexInfo, site: Site) -> npt.NDArray[np.int64]:
    return pq.read_table(index.part(site, "units"), columns=["nonzero"]).column("nonzero").to_numpy()


def _read(path: Path, form: Form, column: str | None = None, values: Collection[Any] | None = None) -> Table:
    """The rows of a file whose `column` has one of some values, in file order. Raises FileNotFoundError and DamagedPart."""
    try:
        names = [name for name in pq.read_schema(path).names if name in form.columns]
        filters = None if column is None else pc.field(column).isin(pa.array(sorted(values or ()), form.columns[column]))
        return pq.read_table(path, columns=names, filters=filters)
    except FileNotFoundError:
        path.stat()  # says which; Arrow does not
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DamagedPart(path, str(error)) from None


def _form(path: Path, table: Table, form: Form, totals: npt.NDArray[np.int64] | None = None) -> Table:
    """A table in the columns and types of its form. totals: of each unit of the site, on how many tokens it is not zero."""
    if totals is not None:
        others = table.column("coactive").combine_chunks()
        table = table.append_column(
            "coactive_totals",
            pa.ListArray.from_arrays(
                pa.array(np.concatenate([[0], np.cumsum(lengths(table.column("coactive")))]), pa.int32()),
                pa.array(totals[flat(table.column("coactive"), np.int64)], pa.int64()),
            )
            if len(others)
            else pa.array([], pa.list_(pa.int64())),
        )
    missing = set(form.columns) - form.optional - set(table.column_names)
    if missing:
        raise DamagedPart(path, f"it lacks the column {sorted(missing)[0]}")
    schema = form.schema(table.column_names)
    try:
        return table.select(schema.names).cast(schema).combine_chunks()
    except (pa.ArrowException, ValueError) as error:
        raise DamagedPart(path, str(error)) from None


def _ranks(table: Table) -> Ranks:
    """The contexts that a table of an index names."""
    if "peak_context" in table.column_names:
        ranks = table.column("peak_context").to_numpy().astype(np.int64)
        return np.unique(ranks[ranks >= 0])
    return np.unique(flat(table.column("contexts"), np.int64)) if "contexts" in table.column_names else np.zeros(0, np.int64)


def context_key(tokens: npt.NDArray[np.int32]) -> int:
    """A context's key, as docs/formats.md has it."""
    return int.from_bytes(hashlib.blake2b(tokens.astype("<i4").tobytes(), digest_size=8).digest(), "little")


def _excerpt(text: SliceText, ranks: Ranks, which: str) -> Table:
    """The table `contexts` or `documents` of some contexts of a slice. The others have no tokens and are of document 0, without a name."""
    documents, of = np.unique(text.document[ranks], return_inverse=True)
    if which == "documents":
        ids, sources = (["", *(names[at] for at in documents)] for names in (text.document_ids, text.sources))
        return pa.table([range(len(ids)), ids, sources], schema=schemas.DOCUMENTS.schema(["document", "id", "source"]))
    size = len(text)
    sizes, document, start, key = (np.zeros(size, kind) for kind in (np.int64, np.int32, np.int32, np.uint64))
    texts: list[str] = [""] * size
    rows: list[npt.NDArray[np.int32]] = []
    for rank, named in zip(ranks.tolist(), of.tolist(), strict=True):
        row = text.of(rank)
        rows.append(row)
        sizes[rank], document[rank], start[rank], key[rank] = len(row), named + 1, text.start[rank], context_key(row)
        texts[rank] = text.text(rank)
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
    tokens = pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(rows) if rows else np.zeros(0), pa.int32()))
    columns = {"rank": np.arange(size, dtype=np.int32), "document": document, "start": start, "tokens": tokens, "key": key, "text": texts}
    return pa.table(columns, schema=schemas.CONTEXTS.schema(list(columns)))
