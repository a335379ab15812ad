"""The token view: texts whose tokens carry their activation as background. One component instance shows many rows in bands.

The data is packed once (`pack`) and may be kept: token pieces as text, activations as 16-bit numbers with one scale a row. What the
person switches (`View`) travels beside it, so that a switch costs nothing but a redraw in the browser.
"""

import base64
import json
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import streamlit as st

from core.errors import shown
from core.ui.component import component, nothing
from core.vocab import Vocab

Window = Literal["5", "16", "all"]
Scale = Literal["unit", "text"]
Curve = Literal["linear", "log"]

_HTML = '<div class="tv">\n<div class="bar"></div><div class="list"></div><div class="tip" role="tooltip" hidden></div>\n</div>'
_LEVELS = 32767
_NOT_COMPUTED = -32768
_PIECES = 65536
_JOINERS = "\u200c\u200d"
_KEPT = "\n\t\r"


@dataclass(frozen=True)
class View:
    """What the switches over the token view say."""

    window: Window = "16"
    scale: Scale = "unit"
    curve: Curve = "linear"

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> tuple["View", list[str]]:
        """The view that an address (or the component) asks for, and one sentence for each value that is not one of the choices."""
        view, wrong = cls(), []
        for name, choices in CHOICES.items():
            value = given.get(name)
            if value is None:
                continue
            if value in choices:
                view = replace(view, **{name: value})
            else:
                wrong.append(f"“{shown(str(value))}” is not a {name}: use {', '.join(choices[:-1])} or {choices[-1]}.")
        return view, wrong

    def query(self) -> dict[str, str]:
        """What the address must say for this view: only what differs from the usual."""
        usual = asdict(View())
        return {name: value for name, value in asdict(self).items() if value != usual[name]}


CHOICES: dict[str, tuple[str, ...]] = {"window": get_args(Window), "scale": get_args(Scale), "curve": get_args(Curve)}


@dataclass(frozen=True)
class Row:
    """One text. tokens: token numbers, shape (n,). activations: shape (n,), NaN where nothing was computed.

    `peak` is the position whose token stands in the chip, `value` the number beside it, `where` says which document it is from, and
    `cells` are the row's own columns in the CSV. simulated: the numbers are not measured but predicted, and drawn in that colour.
    distribution: shape (n, 11), probabilities of the integers 0 to 10 behind each of them, shown with the token under the pointer.
    effect: shape (n,), by how much the log-probability of each token itself changes when something is ablated, drawn as a signed underline;
    NaN where that is not known. label: stands in the chip instead of the token, where rows are of several units. limit: what the strongest
    colour stands for in this row, instead of the view's.
    """

    tokens: npt.NDArray[np.int32]
    activations: npt.NDArray[np.float32]
    peak: int
    value: float
    where: str
    cells: Sequence[str | int] = ()
    simulated: bool = False
    distribution: npt.NDArray[np.float32] | None = None
    effect: npt.NDArray[np.float32] | None = None
    label: str = ""
    limit: float | None = None


@dataclass(frozen=True)
class Band:
    """Rows under one heading. At first only `first` of them are shown, evenly spread if `spread`. `empty` is said when there are none."""

    title: str
    note: str
    rows: Sequence[Row]
    empty: str = "Nothing in this band."
    first: int = 20
    spread: bool = False

    def initial(self) -> list[int]:
        """Which rows are shown before the person asks for all."""
        if len(self.rows) <= self.first:
            return list(range(len(self.rows)))
        if not self.spread:
            return list(range(self.first))
        step = len(self.rows) / self.first
        return [int((place + 0.5) * step) for place in range(self.first)]


@dataclass(frozen=True)
class Picked:
    """The token a person clicked: `row` counts from 0 over all bands, `index` is its position in the row."""

    row: int
    index: int


@dataclass(frozen=True)
class Heading:
    """What stands over the rows. try_address: where a row's “try” leads; the text is appended, percent-encoded.

    csv: the names of the rows' own columns; file: the name of the saved CSV. whose: on whose scale the colours are; ends: what stands at
    the ends of the legend instead of numbers.
    """

    title: str
    try_address: str = ""
    csv: Sequence[str] = ()
    file: str = "records.csv"
    whose: str = "this unit's"
    ends: tuple[str, str] | None = None


def pack(bands: Sequence[Band], vocab: Vocab, *, key: str, low: float, high: float, heading: Heading) -> bytes:
    """The component's data as JSON, without the view.

    key: changes exactly when the content does. low, high: the unit's minimum and maximum over all text; colours have the symmetric limit
    max(|low|, |high|).
    """
    rows = [row for band in bands for row in band.rows]
    tokens = np.concatenate([row.tokens for row in rows]) if rows else np.zeros(0, np.int32)
    ids, index = np.unique(tokens, return_inverse=True)
    known = [int(i) for i in ids]
    if len(known) > _PIECES:
        raise ValueError(f"at most {_PIECES} different tokens fit into one view")
    pieces = [piece_text(piece) for piece in vocab.pieces(known)]
    quantised = [_quantise(row.activations) for row in rows]
    limit = max(abs(low), abs(high))
    limit = limit if math.isfinite(limit) else 0.0
    body = {
        "key": key,
        **asdict(heading),
        "low": min(low, 0.0) if math.isfinite(low) else 0.0,
        "high": high if math.isfinite(high) else 0.0,
        "limit": limit,
        "digits": digits(limit),
        "most": _most_effect(rows),
        "pieces": pieces,
        "raw": _raw(known, pieces, vocab),
        "ids": known,
        "index": _base64(index.astype("<u2")),
        "activations": _base64(np.concatenate([q for q, _ in quantised]) if rows else np.zeros(0, "<i2")),
        "rows": [
            {
                "n": len(row.tokens),
                "peak": row.peak,
                "scale": scale,
                "value": round(float(row.value), 6) if math.isfinite(row.value) else None,
                "where": row.where,
                "cells": list(row.cells),
                **({"simulated": True} if row.simulated else {}),
                **({} if row.distribution is None else {"distribution": _base64(_hundredths(row.distribution))}),
                **({} if row.effect is None else _effect(row.effect)),
                **({"label": row.label} if row.label else {}),
                **({} if row.limit is None else {"limit": row.limit, "digits": digits(row.limit)}),
            }
            for row, (_, scale) in zip(rows, quantised, strict=True)
        ],
        "bands": [
            {"title": band.title, "note": band.note, "n": len(band.rows), "empty": band.empty, "initial": band.initial()} for band in bands
        ],
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def token_view(packed: bytes, view: View, *, key: str, on_view: Callable[[View], None]) -> Picked | None:
    """Show packed rows; returns the token just clicked. `on_view` is called when the person turns a switch.

    Mount it in a fragment, so that a switch or a click does not run the whole page.
    """

    def changed() -> None:
        state = cast(Mapping[str, Any], st.session_state[key])
        chosen = cast(Mapping[str, Any] | None, state.get("view"))
        if chosen:
            on_view(View.read(chosen)[0])

    data = b'{"view":' + json.dumps(asdict(view)).encode() + b',"body":' + packed + b"}"
    result = component("tokens", _HTML, scripts=("token_rows",))(key=key, data=data, on_view_change=changed, on_token_change=nothing)
    token = cast(Mapping[str, int] | None, result.get("token"))
    return Picked(int(token["row"]), int(token["index"])) if token else None


def digits(limit: float) -> int:
    """How many digits after the point give about four significant ones at the size of `limit`, from 0 to 6."""
    return 2 if limit <= 0 or not math.isfinite(limit) else min(6, max(0, 3 - math.floor(math.log10(limit))))


def piece_text(piece: str) -> str:
    """A token's text with nothing invisible left but spaces and line breaks: `⟨U+202E⟩` for what would reorder or hide text.

    Joiners inside a longer piece stay, as emoji and some scripts need them.
    """
    if piece.isprintable():
        return piece
    kept = _KEPT if not piece.strip(_JOINERS) else _KEPT + _JOINERS
    return "".join(c if c.isprintable() or c in kept or unicodedata.category(c) == "Zs" else f"⟨U+{ord(c):04X}⟩" for c in piece)


def _raw(ids: list[int], pieces: list[str], vocab: Vocab) -> dict[int, str]:
    """The bytes, as hex, of the pieces that do not show exactly their text; nothing at all for special tokens."""
    raw: dict[int, str] = {}
    for place, (token, piece) in enumerate(zip(ids, pieces, strict=True)):
        exact = b"" if vocab.is_special(token) else vocab.bytes_of(token)
        if exact != piece.encode():
            raw[place] = exact.hex()
    return raw


def _quantise(activations: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int16], float]:
    """16-bit numbers and their scale: activation = number × scale, −32768 where nothing was computed."""
    computed = np.isfinite(activations)
    largest = float(np.abs(activations[computed]).max(initial=0))
    scale = largest / _LEVELS if largest else 0.0
    numbers = np.rint(np.where(computed, activations, 0).astype(np.float64) / (scale or 1.0))  # the scale may be too small for 32 bits
    return np.where(computed, numbers, _NOT_COMPUTED).astype("<i2"), scale


def _effect(values: npt.NDArray[np.float32]) -> dict[str, Any]:
    numbers, scale = _quantise(values)
    return {"effect": _base64(numbers), "effectScale": scale}


def _most_effect(rows: Sequence[Row]) -> float | None:
    """The largest effect of all rows, which the thickest underline stands for; None where no row has any."""
    found = [np.abs(row.effect[np.isfinite(row.effect)]) for row in rows if row.effect is not None]
    return float(np.concatenate(found).max(initial=0)) if found else None


def _hundredths(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.rint(100 * np.clip(np.nan_to_num(probabilities), 0, 1)).astype(np.uint8).reshape(-1)


def _base64(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode()
