"""Simulated beside true: an explanation's records on one joint scale, as rows of the token view, as points, as CSV. No Streamlit."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.autointerp.comparison import figure
from core.autointerp.scoring import correlation
from core.store.explanation_view import ExplanationView, SimulationView
from core.ui.spreadsheet import inert
from core.ui.tokens import Band, Heading, Row, pack
from core.ui.unit_tables import number
from core.vocab import Vocab

Floats = npt.NDArray[np.float64]
CSV = ("kind", "split", "origin", "context", "document")
TOKEN_COLUMNS = (
    *("explanation", "record", "split", "origin", "context", "document", "position", "token", "text"),
    *("true", "simulated", "residual", "answered", "scale", "failed"),
    *(f"p{value}" for value in range(11)),
)
"""Of `tokens_csv`. simulated: on the joint scale; answered: as the simulator said it; p0 to p10: its distribution."""
TENTHS = 10.0


@dataclass(frozen=True)
class Pair:
    """One record. place: among the split's records in the order written, from 0. true, simulated: [tokens], on one scale; NaN if failed."""

    place: int
    view: SimulationView
    true: Floats
    simulated: Floats
    rho: float

    @property
    def residual(self) -> Floats:
        """Simulated − true on each token."""
        return self.simulated - self.true

    @property
    def misfit(self) -> float:
        """The sum of squared residuals; infinite when the record failed: what is worst comes first."""
        return math.inf if self.view.failed else float((self.residual**2).sum())

    @property
    def peak(self) -> int:
        """The position of the largest true activation."""
        return int(np.argmax(self.true)) if len(self.true) else 0


def splits_of(view: ExplanationView) -> list[str]:
    """The splits on which the explanation was simulated, the untouched one first."""
    found = {one.split for one in view.of_role("simulated")}
    return [split for split in ("test", "validation", "calibration") if split in found]


def joint_top(view: ExplanationView, split: str) -> float:
    """What a simulated 10 stands for: the largest true activation of the split's records, at least a little above 0."""
    tops = [float(one.activations.max(initial=0.0)) for one in view.of_role("simulated", split)]
    return max([top for top in tops if math.isfinite(top)], default=0.0) or 1.0


def pairs(view: ExplanationView, split: str, *, worst_first: bool = False) -> list[Pair]:
    """The simulated records of a split. What answers in tenths is multiplied by a tenth of `joint_top`; ρ does not depend on that."""
    top = joint_top(view, split)
    made: list[Pair] = []
    for place, one in enumerate(view.of_role("simulated", split)):
        true = one.activations.astype(np.float64)
        simulated = one.simulated.astype(np.float64) * (top / TENTHS if one.scale == "tenths" else 1.0)
        made.append(Pair(place, one, true, simulated, math.nan if one.failed else correlation(true, simulated)))
    return sorted(made, key=lambda pair: (-pair.misfit, pair.place)) if worst_first else made


def answered(found: Sequence[Pair]) -> tuple[Floats, Floats]:
    """True and simulated activations of all records that were answered, end to end."""
    kept = [pair for pair in found if not pair.view.failed]
    if not kept:
        return np.zeros(0), np.zeros(0)
    return np.concatenate([pair.true for pair in kept]), np.concatenate([pair.simulated for pair in kept])


def pack_pairs(view: ExplanationView, found: Sequence[Pair], vocab: Vocab, *, blind: bool = False) -> bytes:
    """Two rows a record, true above simulated, each record under a heading of its own, as data of the token view.

    blind: without any number that tells how well they match.
    """
    bands = [_band(pair, blind) for pair in found]
    true, simulated = answered(found)
    everything = np.concatenate([true, simulated, np.zeros(1)])
    split = found[0].view.split if found else ""
    order = "-".join(str(pair.place) for pair in found)
    return pack(
        bands,
        vocab,
        key=f"{view.identity}:{split}:{order}:{blind}",
        low=float(everything.min()),
        high=float(everything.max()),
        heading=Heading("Simulated against true", csv=CSV, file="records.csv" if blind else f"{view.identity}-records.csv"),
    )


def tokens_csv(view: ExplanationView, found: Sequence[Pair]) -> str:
    """Every token of every record: true and simulated activations, as answered and on the joint scale, with the distribution."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(TOKEN_COLUMNS)
    for pair in sorted(found, key=lambda pair: pair.place):
        one = pair.view
        for at in range(len(pair.true)):
            token, piece = (one.tokens[at], one.pieces[at]) if one.tokens else ("", "")
            probabilities = [""] * 11 if one.probabilities is None else [f"{value:.4g}" for value in one.probabilities[at].tolist()]
            record = (view.identity, pair.place + 1, one.split, one.origin, one.context, inert(one.document))
            numbers = (_cell(value) for value in (pair.true[at], pair.simulated[at], pair.residual[at], one.simulated[at]))
            writer.writerow([*record, at, token, inert(piece), *numbers, one.scale, one.failed, *probabilities])
    return out.getvalue()


def _band(pair: Pair, blind: bool) -> Band:
    one = pair.view
    where = f"{one.document} · context {one.context:,}"
    cells = (one.split, one.origin, one.context, one.document)
    ids = np.array(one.tokens, np.int32)
    peak, scale = pair.peak, float(np.abs(pair.true).max(initial=0.0))
    true = Row(ids, pair.true.astype(np.float32), peak, float(pair.true[peak]), f"true · {where}", ("true", *cells))
    simulated = Row(
        ids, pair.simulated.astype(np.float32), peak, float(pair.simulated[peak]), f"simulated · {where}", ("simulated", *cells),
        simulated=True, distribution=one.probabilities,
    )  # fmt: skip
    origin = "one of the strongest" if one.origin == "top" else "drawn at random"
    if one.failed:
        said = f"not simulated: {one.failed}"
    elif blind:
        return Band(f"Record {pair.place + 1}", origin, [true, simulated])
    else:
        worst = int(np.argmax(np.abs(pair.residual)))
        rho = f"ρ {figure(pair.rho)}" if math.isfinite(pair.rho) else "ρ undefined: one side is constant"
        said = f"{rho} · largest difference {number(float(pair.residual[worst]), scale)} at position {worst}"
    return Band(f"Record {pair.place + 1}", f"{origin} · {one.split} split · {said}", [true, simulated])


def _cell(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
