"""What the values of a reduced run must be beyond their types, so that no page stumbles over them. For what goes out and what comes in."""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from core.errors import AtlasError
from core.findings.bundle import schemas
from core.findings.bundle.archive import Refused
from core.findings.bundle.reduced import SELF, Place, Reduced, Table
from core.index.bands import BANDS
from core.index.bins import BINS
from core.store.parts import flat, lengths
from core.subject.info import IMPORTED_SOURCE
from core.units import Site, UnitName, check_slug

UNITS = 5_000
"""Units in a bundle at most."""
TOKENS = 4_194_304
LENGTH = 1 << 17
_IDENTITY = re.compile(re.escape(SELF) + r"\.\d{1,9}\.\d{1,6}\.\d{1,4}")
_SIMILAR = re.compile(r"(mlp|resid|attn)\.\d{1,4}/\d{1,9}")
_KINDS = ("strong", "sampled")
_WORDS = {
    "role": ("simulated", "lookup", "shuffled", "paraphrase"),
    "split": ("calibration", "validation", "test"),
    "kind": ("top-and-random", "random-only", "top-only"),
    "origin": ("top", "random"),
    "scale": ("tenths", "activation"),
}
_WRITTEN = ("text", "author", "explainer", "setting", "failed")
_LONGEST = 100_000
_JSON = {"recipe", "pattern"}
_ONCE = {
    "scores": ("explanation", "role", "kind", "split"),
    "simulations": ("explanation", "role", "split", "origin", "context"),
}
"""Columns that together no two rows share."""


def check(made: Reduced) -> None:
    """Raises Refused for anything that this program would not write."""
    try:
        {"index": _index, "explain": _explain, "effect": _effect}[made.kind](made)
    except Refused:
        raise
    except (AtlasError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, pa.ArrowException):
        raise Refused(f"A run of the kind “{made.kind}” in the bundle is not as this program writes it.") from None


def _require(sound: bool | np.bool_, what: str) -> None:
    if not sound:
        raise Refused(f"{what} in the bundle is not as this program writes it.")


def check_subject(card: Mapping[str, Any]) -> None:
    """The card of a subject, as far as pages and names depend on it. Raises Refused and AtlasError."""
    check_slug(_text(card["slug"]), "subject")
    numbers = [card["n_layers"], card["d_model"], card["vocab_size"], card["context_limit"], *card["widths"].values()]
    texts = ("source", "architecture", "tokenizer_hash", "weights_hash", "name_or_path")
    least = 0 if card["source"] == IMPORTED_SOURCE else 1  # 0 stands for what nobody said
    sound = all(type(number) is int and least <= number < 1 << 31 for number in numbers) and set(card["widths"]) == {"mlp", "resid", "attn"}
    sound = sound and all(len(_text(card[name])) <= 4000 for name in texts) and isinstance(card["revision"], str | None)
    _require(sound and (card["bos_token_id"] is None or type(card["bos_token_id"]) is int), "The card of a model")


def _index(made: Reduced) -> None:
    manifest = made.manifest
    check_subject(manifest["subject"])
    check_slug(_text(manifest["basis"]), "basis")
    piece = manifest["slice"]
    check_slug(_text(piece["id"]), "slice")
    size, length = _whole(piece["contexts"]), _whole(piece["length"])
    _require(0 < size <= 8_000_000 and 0 < length <= LENGTH and isinstance(piece["bos"], bool), "The description of the text")
    sources = piece["sources"]
    _require(_is_table(sources) and all(type(count) is int for count in sources.values()), "The description of the text")
    _require(_said_so(manifest.get("imported", {})), "Where an index is from")
    counts = ("schema", "generation", "contexts_done", "contexts_total", "tokens_done")
    sound = manifest["state"] in ("partial", "complete") and all(_whole(manifest[name]) >= 0 for name in counts)
    _require(sound and isinstance(manifest["provenance"], dict), "The manifest of an index")
    sites = [Site.parse(site) for site in manifest["sites"]]
    _require(bool(sites) and sites == sorted(sites, key=lambda site: (site.layer, site.kind)), "The list of sites")
    _require(set(manifest["held"]) == set(manifest["units"]) == set(manifest["signed"]) == set(manifest["sites"]), "The list of sites")
    text = made.tables[Place(("text", "contexts"), schemas.CONTEXTS)]
    tokens = flat(text.column("tokens"), np.int64)
    sizes = lengths(text.column("tokens"))
    names = made.tables[Place(("text", "documents"), schemas.DOCUMENTS)]
    _require(text.num_rows == size and _ascends(text, "rank") and _ascends(names, "document"), "The text")
    _require(
        _within(text.column("document"), names.num_rows) and _within(tokens, TOKENS) and int(sizes.max(initial=0)) <= length, "The text"
    )
    total = 0
    for site in sites:
        width, held = _whole(manifest["units"][str(site)]), manifest["held"][str(site)]
        _require(0 < width < 1 << 31 and 0 <= site.layer < manifest["subject"]["n_layers"], f"{site}")
        _require(held == sorted({_whole(unit) for unit in held}) and bool(held) and held[0] >= 0 and held[-1] < width, f"{site}")
        _require(isinstance(manifest["signed"][str(site)], bool), f"{site}")
        if (said := manifest["dictionaries"].get(str(site))) is not None:
            _dictionary(said, manifest["made"].get(str(site), {}))
        total += len(held)
        for place, table in made.tables.items():
            if place.keys[0] != "text" and place.keys[1] == str(site):
                _site(place, table, np.asarray(held), sizes, length, width)
    _require(total <= UNITS, "The number of units")


def _site(place: Place, table: Table, held: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], length: int, width: int) -> None:
    what = f"{place.path}"
    units = table.column("unit").to_numpy()
    if place.form is schemas.UNITS:
        _require(np.array_equal(units, held), what)
        _alike(table, ("bins", "counts"), what)
        _alike(table, ("top_tokens", "top_token_means", "top_token_counts", "top_token_totals"), what)
        bins = flat(table.column("bins"), np.int64)
        _require(_within(bins, BINS) and (flat(table.column("counts"), np.int64) > 0).all(), what)
        _require(_within(flat(table.column("top_tokens"), np.int64), TOKENS), what)
        at = table.column("peak_context").to_numpy()
        _require(bool(((at >= -1) & (at < len(sizes))).all()) and (lengths(table.column("sums")) == 8).all(), what)
        _require((table.column("tokens").to_numpy() >= table.column("nonzero").to_numpy()).all(), what)
        return
    if place.form is schemas.EFFECTS:
        _require(np.array_equal(units, held), what)
        for pair in (("raised", "raised_logits"), ("lowered", "lowered_logits"), ("similar", "similar_cosines")):
            _alike(table, pair, what)
        for name in ("raised", "lowered"):
            _require(_within(flat(table.column(name), np.int64), TOKENS), what)
        similar: list[str] = table.column("similar").combine_chunks().flatten().to_pylist()
        _require(all(_SIMILAR.fullmatch(one) for one in similar), what)
        return
    contexts, positions = flat(table.column("contexts"), np.int64), flat(table.column("positions"), np.int64)
    names = ("contexts", "values", "positions")
    if place.form is schemas.RECORDS:
        names = (*names, "scales")
        bands = [name for name, _ in BANDS]
        _require(np.array_equal(units, np.repeat(held, len(bands))) and table.column("band").to_pylist() == bands * len(held), what)
        packed: list[bytes] = table.column("activations").to_pylist()
        count = lengths(table.column("contexts"))
        _require([len(one) for one in packed] == (2 * length * count).tolist(), what)
        shown, sampled = table.column("shown").to_numpy(), table.column("sampled").to_numpy()
        _require(bool(((shown >= 0) & (shown <= count) & (sampled >= 0)).all()), what)
        _require((flat(table.column("scales"), np.float32) >= 0).all(), what)
    elif place.form is schemas.POSITIONS:
        names = (*names, "weights")
        _require(np.array_equal(units, np.repeat(held, len(_KINDS))) and set(table.column("kind").to_pylist()) <= set(_KINDS), what)
    else:
        _require(np.array_equal(units, held), what)
        _alike(table, ("coactive", "coactive_counts", "coactive_totals"), what)
        _require(_within(flat(table.column("coactive"), np.int64), width), what)
    _alike(table, names, what)
    _require(_within(contexts, len(sizes)), what)
    _require(bool(((positions >= 0) & (positions < sizes[contexts])).all()), what)  # so every context that is named has its text here


def _dictionary(said: dict[str, Any], made: dict[str, Any]) -> None:
    """What an index says of a dictionary, and how that was made, as far as the page of a feature reads it."""
    what = "The description of a dictionary"
    numbers = [said["units"], said["d_in"], *(said[name] for name in ("k", "head") if said.get(name) is not None)]
    texts = [said["family"], said["rule"], *(said[name] for name in ("weights_sha256",) if said.get(name) is not None)]
    _require(all(type(number) is int for number in numbers) and all(isinstance(text, str) for text in texts), what)
    _require(isinstance(said.get("prepare") or {}, dict) and _is_table(made), what)
    _require(all(_flat(value) for value in made.values()) and isinstance(made.get("alpha"), int | float | None), what)


def _said_so(imported: Any) -> bool:
    """Whether this is what an index says that was made of another program's files: which, and what its bands hold."""
    if not isinstance(imported, dict):
        return False
    said = cast(dict[str, Any], imported)
    bands: Any = said.get("bands", {})
    words = [said.get("from", ""), *(bands.values() if isinstance(bands, dict) else [None])]
    return all(isinstance(word, str) and len(word) <= 200 for word in words)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _flat(value: Any) -> bool:
    """A plain value, or a list or table of such."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return isinstance(value, str | int | float | bool | None | dict | list) and all(
        isinstance(one, str | int | float | None) for one in inside
    )


def _explain(made: Reduced) -> None:
    tables = {place.keys[1]: table for place, table in made.tables.items()}
    explanations = tables["explanations"]
    identities: list[str] = explanations.column("explanation").to_pylist()
    _require(len(set(identities)) == len(identities) > 0 and all(map(_IDENTITY.fullmatch, identities)), "The list of explanations")
    for name in explanations.column("unit").to_pylist():
        UnitName.parse(name)
    words = [text for name in _WRITTEN for text in explanations.column(name).to_pylist()]
    _require(max(map(len, words)) <= _LONGEST, "The text of an explanation")
    for run in set(explanations.column("index").to_pylist()):
        check_slug(run, "run")
    for name in ("scores", "simulations"):
        _require(set(tables[name].column("explanation").to_pylist()) <= set(identities), f"The table of {name}")
        rows = list(zip(*(tables[name].column(column).to_pylist() for column in _ONCE[name]), strict=True))
        _require(len(set(rows)) == len(rows), f"The table of {name}")
        for column, allowed in _WORDS.items():
            if column in tables[name].column_names:
                _require(set(tables[name].column(column).to_pylist()) <= set(allowed), f"The column {column}")
    for table in tables.values():
        for column in table.column_names:
            if column in _JSON:
                for text in set(table.column(column).to_pylist()):
                    _require(not text or isinstance(json.loads(text), dict), f"The column {column}")
    for unit in set(tables["scores"].column("said_of").to_pylist()):
        if unit:
            UnitName.parse(unit)
    simulations = tables["simulations"]
    _alike(simulations, ("activations", "simulated"), "A simulation")
    manifest = made.manifest
    settings = cast(list[Any], manifest["settings"])
    sound = manifest["state"] in ("partial", "complete") and all(isinstance(one, dict) for one in settings)
    _require(sound and isinstance(manifest["study"], str), "The manifest of explanations")
    spend = cast(dict[str, Any], manifest["spend"] or {})
    _require(all(isinstance(value, int | float | None) for value in spend.values()), "The manifest of explanations")


def _effect(made: Reduced) -> None:
    tables = {place.keys[1]: table for place, table in made.tables.items()}
    manifest, positions = made.manifest, tables["positions"]
    check_subject(manifest["subject"])
    units = [UnitName.parse(_text(told["unit"])) for told in manifest["units"]]
    _require(len(units) == len(set(units)) > 0 and positions.num_rows == _whole(manifest["positions"]), "The manifest of an ablation")
    for told in manifest["units"]:
        texts = [told["rule"], told["fires"], *([told["index"]] if told["index"] is not None else [])]
        numbers = [told["mean"], told["above"], told.get("silenced_by")]
        _require(all(isinstance(one, str) for one in texts) and all(isinstance(one, int | float | None) for one in numbers), "An ablation")
    for text in manifest["texts"]:
        numbers, texts = [text["context"], text["start"]], [text["document"], text["source"]]
        _require(all(isinstance(one, int | None) for one in numbers) and all(isinstance(one, str | None) for one in texts), "An ablation")
    for one in [*manifest["raised"], *manifest["lowered"]]:
        _require(type(one["token"]) is int and 0 <= one["token"] < TOKENS, "An ablation")
        _require(all(isinstance(one[name], int | float) for name in ("change", "direct", "before", "after")), "An ablation")
    for name in ("token", "following"):
        column = positions.column(name).to_numpy()
        _require(bool(((column >= -1) & (column < TOKENS)).all()), "An ablation")
    text = positions.column("text").to_numpy()
    _require(_within(text, max(1, len(manifest["texts"]))) and (np.diff(text) >= 0).all(), "An ablation")
    for name in positions.column_names:
        if pa.types.is_list(positions.schema.field(name).type):
            _require(len(set(lengths(positions.column(name)).tolist())) <= 1, "An ablation")
            if name.endswith("_tokens"):
                _require(_within(flat(positions.column(name), np.int64), TOKENS), "An ablation")
    _require(set(lengths(positions.column("activations")).tolist()) <= {len(units)}, "An ablation")
    _require(tables["vocabulary"].num_rows <= TOKENS, "An ablation")


def _alike(table: Table, names: tuple[str, ...], what: str) -> None:
    """The lists of a row are as long in all of some columns."""
    sizes = [lengths(table.column(name)) for name in names]
    _require(all(np.array_equal(sizes[0], other) for other in sizes[1:]), what)


def _within(values: Any, size: int) -> bool:
    found = np.asarray(values)
    return not len(found) or bool(found.min() >= 0 and found.max() < size)


def _ascends(table: Table, column: str) -> bool:
    return bool(np.array_equal(table.column(column).to_numpy(), np.arange(table.num_rows)))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused("A text in the bundle is none.")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise Refused("A whole number in the bundle is none.")
    return value
