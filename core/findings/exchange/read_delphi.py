"""delphi's cache of latents: every activation of sparse coders above a threshold, with the tokens. It becomes a whole index of them."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import AtlasError, shown
from core.findings.bundle import schemas
from core.findings.bundle.archive import TOTAL_BYTES, Refused
from core.findings.bundle.checks import TOKENS, UNITS
from core.findings.bundle.reduced import Place, Reduced, Table, places
from core.findings.bundle.safe_json import parse
from core.findings.bundle.taking import context_key
from core.findings.exchange.describing import NOT_KNOWN, Made, Origin, described, model_card, schema_of, vocabulary_table
from core.findings.exchange.foreign import INDEX, LENGTH, text
from core.findings.exchange.sources import Piece
from core.units import Site, UnitName, in_order, slugify
from core.vocab import Vocab

TITLE, WORD = "delphi's cache of latents", "delphi"
BASIS = "latents"
_FILE = re.compile(r"(?:(.*)/)?(\d{1,9})_(\d{1,9})\.safetensors")
_MODULE = re.compile(r"(?:.*\.)?(?:layers|h|blocks)\.(\d{1,4})(?:\.(.+))?")
_ROWS = 1 << 20
_TOKENS = 1 << 28
_CODES = 150_000_000

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Codes:
    """The non-zero activations of a module, unordered: row, position, unit, value."""

    row: Ints
    position: Ints
    unit: Ints
    value: npt.NDArray[np.float32]


def is_cache(found: Sequence[Piece]) -> bool:
    """Whether there is a safetensors file among the files, by its beginning."""
    return any(piece.size > 16 and _begins(piece) for piece in found)


def read_delphi(
    found: Sequence[Piece], wanted: range | None, model: str, vocab: Vocab | None, known: Path | None
) -> tuple[Made, list[str]]:
    """What the caches hold, and sentences on what could not be carried.

    vocab: of the tokens, by the person's own choice. known: a folder of subjects, in one of which the model may be. Raises AtlasError.
    """
    modules: dict[str, list[tuple[Piece, int, int]]] = {}
    remarks: list[str] = []
    for piece in found:
        match = _FILE.fullmatch(piece.name if "/" in piece.name or piece.path is None else f"{piece.path.parent.name}/{piece.name}")
        if match is not None and _begins(piece):
            modules.setdefault((match[1] or "").rpartition("/")[2], []).append((piece, int(match[2]), int(match[3])))
    if sum(piece.size for files in modules.values() for piece, _, _ in files) > TOTAL_BYTES:
        raise Refused(f"The cache has more than the {TOTAL_BYTES:,} bytes that are taken in at once: import one module or range at a time.")
    if not modules:
        raise Refused("The safetensors files are no cache of delphi's: those are called by the first and the last latent, such as 0_1023.")
    said = {_model(found, module) for module in modules} - {""}
    if len(said) > 1:
        raise Refused("The caches are of several models: import those of one at a time.")
    model = model or next(iter(said), "") or "model"
    tokens: npt.NDArray[np.int32] | None = None
    codes: dict[Site, tuple[Codes, int]] = {}
    for module, files in sorted(modules.items()):
        site, remark = _site(module)
        remarks += remark
        if site in codes:
            raise Refused(f"Two modules in the cache are both read as {site}: import one at a time.")
        made, mine = _read(files, wanted)
        if tokens is not None and not np.array_equal(tokens, mine):
            raise Refused("The modules in the cache were read over different texts: import one at a time.")
        tokens = mine
        codes[site] = made, 1 + max(last for _, _, last in files)
    assert tokens is not None  # there is a module, and each has tokens
    vocab = vocab or _known(known, model) or Vocab([], [])
    if vocab.size == 0:
        remarks.append("the words of the tokens, which the cache has by number only: name their tokenizer.json with --tokenizer")
    if (size := 1 + int(tokens.max())) > vocab.size:
        vocab = Vocab(
            [*map(vocab.bytes_of, range(vocab.size)), *[b""] * (size - vocab.size)],
            [*map(vocab.is_special, range(vocab.size)), *[False] * (size - vocab.size)],
        )
    if not sum(len(one.unit) for one, _ in codes.values()):
        raise Refused("No unit in the cache that was asked for is active anywhere: choose others with --units, or leave it out.")
    return _made(Origin(WORD, TITLE, model, {}), tokens, codes, vocab, remarks), remarks


def load_tokenizer(path: Path) -> Vocab:
    """The vocabulary of a tokenizer.json. Raises AtlasError."""
    from transformers import PreTrainedTokenizerFast

    from core.subject.tokens import make_vocab

    if not path.is_file():
        raise AtlasError(f"There is no file {path}: name a tokenizer.json.")
    try:
        return make_vocab(PreTrainedTokenizerFast(tokenizer_file=str(path)), 0)
    except Exception:  # noqa: BLE001 - the library raises bare Exceptions over a file that is none
        raise AtlasError(f"{path.name} is no tokenizer that can be read: name the tokenizer.json of the model.") from None


def _begins(piece: Piece) -> bool:
    with piece.open() as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 1 << 24


def _model(found: Sequence[Piece], module: str) -> str:
    """The name of the model in a module's config.json; empty without one."""
    for piece in found:
        beside = piece.path.parent if piece.path is not None else None
        if (
            piece.name == f"{module}/config.json"
            or piece.name.endswith(f"/{module}/config.json")
            or (piece.name == "config.json" and beside is not None and beside.name == module)
        ):
            if piece.size > 1 << 20:
                raise Refused("The config.json of the cache is larger than any.")
            with piece.open() as file:
                try:
                    said: Any = parse(file.read(), undefined=True)
                    return text(said["model_name"], 200) if isinstance(said, dict) and "model_name" in said else ""
                except ValueError:
                    raise Refused("The config.json of the cache is no JSON.") from None
    return ""


def _site(module: str) -> tuple[Site, list[str]]:
    """Where a module is read, and a sentence where that is not one of the sites here."""
    match = _MODULE.fullmatch(module)
    if match is None:
        raise Refused(f"“{shown(module)}” is no module of a layer: the folder of a cache is called after its module, such as layers.5.")
    layer, rest = int(match[1]), match[2] or ""
    if rest in ("", "hook_resid_post"):
        return Site("resid", layer), []
    if rest == "hook_resid_pre" and layer > 0:
        return Site("resid", layer - 1), []
    if rest == "mlp.hook_post":
        return Site("mlp", layer), []
    site = Site("attn" if "att" in rest else "mlp" if "mlp" in rest else "resid", layer)
    return site, [f"where {shown(module)} was read, which is no site here: it is shown as {site}"]


def _read(files: Sequence[tuple[Piece, int, int]], wanted: range | None) -> tuple[Codes, npt.NDArray[np.int32]]:
    """The activations of a module's files, of the units that are wanted, and the tokens, int32 [rows, length]."""
    parts: list[Codes] = []
    tokens: npt.NDArray[np.int32] | None = None
    held = 0
    for piece, first, last in files:
        arrays = _arrays(piece)
        if "tokens" in arrays and tokens is None:
            tokens = _checked_tokens(arrays["tokens"])
        places, values = arrays["locations"], arrays["activations"]
        if places.ndim != 2 or places.shape[1] != 3 or values.shape != (len(places),) or places.dtype.kind not in "iu":
            raise Refused(f"“{shown(piece.name)}” is no cache of delphi's: its places and activations do not fit each other.")
        row, position, unit = (places[:, at].astype(np.int64) for at in range(3))
        unit = unit + first
        if not (first <= last < INDEX) or (len(unit) and not (first <= unit.min() and unit.max() <= last)):
            raise Refused(f"“{shown(piece.name)}” has latents that its name does not.")
        value = values.astype(np.float32)
        if not np.isfinite(value).all():
            raise Refused(f"“{shown(piece.name)}” has activations that are no numbers.")
        kept = value != 0
        if wanted is not None:
            kept &= (unit >= wanted.start) & (unit < wanted.stop)
        parts.append(Codes(row[kept], position[kept], unit[kept], value[kept]))
        held += int(kept.sum())
        if held > _CODES:
            raise Refused(f"The cache has more than the {_CODES:,} activations that are taken in at once: choose units with --units.")
    if tokens is None:
        raise Refused("The cache has no tokens: make it with save_tokens.")
    made = Codes(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("row", "position", "unit", "value")))
    for values, most in ((made.row, tokens.shape[0]), (made.position, tokens.shape[1])):
        if len(values) and not (values.min() >= 0 and values.max() < most):
            raise Refused("The cache has activations outside of its text.")
    return made, tokens


def _arrays(piece: Piece) -> Mapping[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError, safe_open

    if piece.path is None:
        raise Refused("A cache of delphi's is read from a folder: unpack the zip first.")
    try:
        with safe_open(piece.path, framework="np") as file:
            names = [name for name in ("locations", "activations", "tokens") if name in file.keys()]  # noqa: SIM118 - it is no dict
            if "locations" not in names or "activations" not in names:
                raise Refused(f"“{shown(piece.name)}” is no cache of delphi's: it lacks locations or activations.")
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, TypeError, ValueError, KeyError, AttributeError):
        raise Refused(f"“{shown(piece.name)}” is damaged: make it again.") from None


def _checked_tokens(found: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    if found.ndim != 2 or found.dtype.kind not in "iu" or not (0 < found.shape[0] <= _ROWS and 0 < found.shape[1] <= LENGTH):
        raise Refused(f"The tokens in the cache are none, or in rows of more than {LENGTH:,}.")
    if found.size > _TOKENS or int(found.min()) < 0 or int(found.max()) >= TOKENS:
        raise Refused("The tokens in the cache are none, or too many.")
    return found.astype(np.int32)


def _known(subjects: Path | None, model: str) -> Vocab | None:
    """The vocabulary of the model of that name in the workspace, if it has one."""
    path = None if subjects is None else subjects / slugify(model) / "vocab.parquet"
    return Vocab.load(path) if path is not None and path.is_file() else None


def _made(
    origin: Origin, tokens: npt.NDArray[np.int32], codes: Mapping[Site, tuple[Codes, int]], vocab: Vocab, remarks: Sequence[str]
) -> Made:
    pieces = [vocab.bytes_of(token) for token in range(vocab.size)]
    card = model_card(origin, pieces, list(codes), tokens.shape[1])
    special = np.array([vocab.is_special(token) for token in range(vocab.size)], bool)
    rows, length = tokens.shape
    keys = np.array([context_key(row) for row in tokens], np.uint64)
    digest = hashlib.sha256(card["tokenizer_hash"].encode() + np.ascontiguousarray(tokens.astype("<i4")).tobytes()).hexdigest()
    sites = in_order(codes)
    held = {site: np.unique(codes[site][0].unit) for site in sites}
    held = {site: units for site, units in held.items() if len(units)}
    if (count := sum(map(len, held.values()))) > UNITS:
        raise Refused(f"The cache has {count:,} active units; at most {UNITS:,} are taken in at once: choose with --units 0-{UNITS - 1}.")
    manifest = described(origin, card, BASIS, list(held), digest, rows, length, rows * length) | {
        "units": {str(site): codes[site][1] for site in held},
        "signed": {str(site): bool((codes[site][0].value < 0).any()) for site in held},
        "held": {str(site): units.tolist() for site, units in held.items()},
        "dictionaries": {str(site): {**_DICTIONARY, "units": codes[site][1]} for site in held},
        "provenance": {
            "imported": {"from": origin.title, "model": origin.model, "not carried": list(remarks)},
            "numbers": "made here of every activation in the cache, which keeps half precision and nothing below its threshold",
        },
    }
    files: dict[Site, dict[str, Table]] = {}
    for site, units in held.items():
        files[site] = _indexed(site, codes[site][0], units, tokens, keys, vocab)
    manifest["late"] = {"effects": [], "codes": sorted(str(site) for site in held if "codes" in files[site])}
    tables: dict[Place, Table] = {}
    for place in places("index", manifest):
        if place.keys[0] == "text":
            tables[place] = _text(tokens, keys, vocab) if place.keys[1] == "contexts" else _documents(rows)
        else:
            tables[place] = files[Site.parse(place.keys[1])]["codes" if place.keys[0] == "codes" else place.keys[2]]
    run = Reduced("index", f"index-{origin.word}", json.loads(json.dumps(manifest)), tables)
    names = [UnitName(card["slug"], site, BASIS, int(unit)) for site, units in held.items() for unit in units]
    return Made(card, vocabulary_table(pieces, special), [run], names)


_DICTIONARY = {"family": NOT_KNOWN, "rule": NOT_KNOWN, "d_in": 0, "tied": False, "weights_sha256": NOT_KNOWN}


def _indexed(
    site: Site, codes: Codes, units: Ints, tokens: npt.NDArray[np.int32], keys: npt.NDArray[np.uint64], vocab: Vocab
) -> dict[str, Table]:
    """The tables of a site, from the same sketch as an index that is read here. Units get their own numbers back."""
    from core.index.given import Given, write_given

    unit = np.searchsorted(units, codes.unit)
    order = np.lexsort((unit, codes.position, codes.row))
    row, position, unit, value = (values[order] for values in (codes.row, codes.position, unit, codes.value))
    if len(row) > 1 and ((np.diff(row) == 0) & (np.diff(position) == 0) & (np.diff(unit) == 0)).any():
        raise Refused("An activation stands in the cache twice: import its files one at a time.")
    documents = np.arange(len(tokens), dtype=np.int32)
    given = Given(site, BASIS, len(units), tokens, keys, documents, row, position, unit, value)
    with TemporaryDirectory() as folder:
        paths = write_given(Path(folder), given, vocab.size, vocab.decode)
        found = {name: pq.read_table(path, memory_map=False) for name, path in paths.items()}
    forms = {**schemas.INDEX, "codes": schemas.CODES}
    made: dict[str, Table] = {}
    totals = found["units"].column("nonzero").to_numpy()
    for name, table in found.items():
        table = table.set_column(
            table.column_names.index("unit"), "unit", pa.array(units[table.column("unit").to_numpy()].astype(np.int32))
        )
        if name == "codes":
            others: list[list[int]] = table.column("coactive").to_pylist()
            at = table.column_names.index("coactive")
            table = table.set_column(at, "coactive", pa.array([units[one].tolist() for one in others], pa.list_(pa.int32())))
            table = table.append_column("coactive_totals", pa.array([totals[one].tolist() for one in others], pa.list_(pa.int64())))
        form = schema_of(forms[name])
        made[name] = table.select(form.names).cast(form).combine_chunks()
    return made


def _text(tokens: npt.NDArray[np.int32], keys: npt.NDArray[np.uint64], vocab: Vocab) -> Table:
    rows, length = tokens.shape
    offsets = pa.array((np.arange(rows + 1) * length).astype(np.int32))
    columns = {
        "rank": np.arange(rows, dtype=np.int32),
        "document": np.arange(rows, dtype=np.int32),
        "start": np.full(rows, -1, np.int32),
        "tokens": pa.ListArray.from_arrays(offsets, pa.array(tokens.reshape(-1))),
        "key": keys,
        "text": [vocab.decode(row.tolist()) for row in tokens],
    }
    return pa.table(columns, schema=schema_of(schemas.CONTEXTS))


def _documents(rows: int) -> Table:
    columns = [np.arange(rows, dtype=np.int32), [f"row {row}" for row in range(rows)], [""] * rows]
    return pa.table(columns, schema=schema_of(schemas.DOCUMENTS))
