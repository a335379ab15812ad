"""What the review queue shows of a unit, packed for the browser: names, the best explanation, a few records, top tokens. No Streamlit."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.autointerp.comparison import figure
from core.errors import AtlasError
from core.findings.entry import Entry
from core.findings.findings import Findings
from core.remembered import Remembered
from core.store import explanation_queries
from core.store.catalog import IndexInfo, find_unit
from core.store.texts import load_vocab
from core.store.units import UnitView, load_unit
from core.ui import nav, words
from core.ui.explanation_rows import interval
from core.ui.records import row_of, shown_bands
from core.ui.server import Server
from core.ui.starred import starred_pieces
from core.ui.tokens import Band, Heading, pack
from core.ui.unit_tables import token_name
from core.units import UnitName

RECORDS = 8
TOKENS = 8
KEPT = 64
"""Cards kept ready; one is some 10 kB."""

_Key = tuple[str, float, int, str, tuple[int, int]]
_kept: Remembered[_Key, bytes] = Remembered(KEPT)


def cards(server: Server, names: Iterable[str], run: str = "") -> bytes:
    """A JSON list with the card of each unit. run: the index to read them from, the largest where it is empty.

    A unit that cannot be read has a card that says why.
    """
    stamp = explanation_queries.stamp(server.cache)
    return b"[" + b",".join(_card(server, name, run, stamp) for name in names) + b"]"


def written(findings: Findings, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What people wrote on each unit, newest first, and the author's own rating. Raises AtlasError."""
    return {name: _written(findings.entries(unit=UnitName.parse(name)), findings.author) for name in names}


def _card(server: Server, name: str, run: str, stamp: tuple[int, int]) -> bytes:
    try:
        unit = UnitName.parse(name)
        index = find_unit(server.workspace, unit, run or None)
        return _kept.get((str(index.path), index.written, index.generation, name, stamp), lambda: _make(server, index, unit, run))
    except AtlasError as error:
        return json.dumps({"unit": name, "title": name, "address": nav.unit_address(name), "wrong": str(error)}).encode()


def _make(server: Server, index: IndexInfo, unit: UnitName, run: str) -> bytes:
    view = load_unit(server.workspace, unit, index.run)
    stats = view.stats
    card = {
        "unit": str(unit),
        "title": f"{unit.site} / {unit.basis} / {unit.index}",
        "address": nav.unit_address(unit, run),
        "facts": [
            f"maximum {words.number(stats['max'])}",
            f"density {words.share(view.density)}",
            f"kurtosis {words.number(stats['kurtosis'])}",
        ],
        "said": _said(explanation_queries.rows_of_unit(server.cache, unit)),
        "tokens": [[token_name(token.text), words.number(token.mean)] for token in view.top_tokens[:TOKENS] if token.mean != 0],
    }
    packed = json.dumps(card, ensure_ascii=False, separators=(",", ":")).encode()
    return packed[:-1] + b',"records":' + _records(server, view) + b"}"


def _records(server: Server, view: UnitView) -> bytes:
    """The strongest records; of a unit that is only ever negative there are its lowest ones instead."""
    found = dict(shown_bands(view))
    name = "top" if found["top"] or not found.get("bottom") else "bottom"
    rows = [row_of(record) for record in found[name][:RECORDS]]
    title = "Top records" if name == "top" else "Most negative records"
    band = Band(title, f"{len(rows)} of {len(found[name])} kept", rows, "It is active on no text.", first=RECORDS)
    return pack(
        [band], load_vocab(server.workspace, view.name.subject), key=f"{view.index.run}:{view.index.generation}:{view.name}",
        low=view.stats["min"], high=view.stats["max"], heading=Heading(title="Records"),
    )  # fmt: skip


def _said(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The best explanation, its words in pieces (which of them stand out), its score as a line of facts."""
    best = next((row for row in rows if not row["failed"]), None)
    if best is None:
        return None
    rho = math.nan if best["rho"] is None else float(best["rho"])
    facts: list[str] = []
    if math.isfinite(rho):
        facts.append(f"ρ {figure(rho)} {interval(best['low'], best['high'])}")
        if best["has_shuffled"] and best["shuffled_rho"] is not None:
            facts.append(f"shuffled {figure(float(best['shuffled_rho']))}")
        if best["evidence"] is False:
            facts.append("no evidence")
        facts.append(f"{int(best['n_records'])} records")
    else:
        facts.append("not scored" if best["kind"] is None else f"score undefined: {best['reason'] or 'no number'}")
    facts.append(f"by {best['author']}")
    if sum(not row["failed"] for row in rows) > 1:
        facts.append(f"the best of {sum(not row['failed'] for row in rows)}")
    return {"words": _pieces(str(best["text"])), "facts": facts}


def _pieces(text: str) -> list[list[str | bool]]:
    """A sentence in pieces, each with whether it stood between stars."""
    return [[piece, bold] for piece, bold in starred_pieces(text)]


def _written(entries: Sequence[Entry], author: str) -> dict[str, Any]:
    rating = next(
        (int(entry.current.body["rating"]) for entry in entries if entry.kind == "rating" and entry.current.author == author), None
    )
    said = [
        {"kind": entry.kind, "text": entry.current.text, "by": entry.current.by, "when": words.when(entry.current.created)}
        for entry in entries
        if entry.kind in ("note", "label", "explanation", "rating", "alike")
        and not (entry.kind == "rating" and entry.current.author == author)
    ]
    return {"rating": rating, "said": said}
