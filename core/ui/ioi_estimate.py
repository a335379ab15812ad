"""What patching will cost, told before the button. No Streamlit.

The work is counted in positions that the blocks above the site read. How many an order takes was found on SmolLM2 with our sentences; how
fast they are read is told by curves that were made here before, else assumed.
"""

from collections.abc import Iterable

from core.causal.ioi_request import IoiRequest, Piece
from core.causal.linear import split_name
from core.store.ioi import IoiRun
from core.subject.info import SubjectInfo
from core.ui import words
from core.units import NEURONS

_SPARSE = 3700.0
"""Positions that trying every feature of a sparse dictionary once takes, for each pair."""
_LINEAR = 9.6
"""The same for each coordinate where all differ from the first changed token on."""
_TIMES = {"gradient": 0.1, "single": 1.1, "greedy": 1.6, "acdc": 4.0}
"""How many times each order takes that."""
_EVERY_VISIT = 8.0
"""Of how many times a sweep takes that visits every feature at every threshold."""
_FLOPS = 1e11
"""Floating-point operations a second, where nothing tells."""


def expected(request: IoiRequest, subject: SubjectInfo | None, before: Iterable[IoiRun]) -> str:
    """The estimate in words."""
    pieces = request.pieces
    text = f"{words.count(len(pieces), 'curve')}: {words.count(len(request.decompositions), 'decomposition')} × "
    text += f"{words.count(len(request.orders), 'order')} × {words.count(request.seeds, 'seed')}, {words.count(request.pairs, 'pair')} each"
    if subject is None:
        return f"{text}; the time is known once the model has been loaded."
    rate = _rate(subject, before)
    seconds = sum(_positions(piece, request, subject) * _flops(piece.site.layer, subject) for piece in pieces) / (rate or _FLOPS)
    told = "as fast as earlier curves here" if rate else "no earlier curve tells how fast this machine is"
    return f"{text}; about {words.duration(seconds)} ({told}). Each finished curve is kept."


def _positions(piece: Piece, request: IoiRequest, subject: SubjectInfo) -> float:
    name, linear = split_name(piece.decomposition)
    once = (_LINEAR * subject.d_model if linear or name == NEURONS else _SPARSE) * request.pairs
    times = _TIMES[piece.order] * (_EVERY_VISIT if piece.order == "acdc" and not request.again else 1.0)
    return once * times


def _flops(layer: int, subject: SubjectInfo) -> float:
    """Of reading one position above a layer."""
    d = subject.d_model
    return (subject.n_layers - 1 - layer) * 2.0 * (4 * d * d + 3 * d * subject.widths["mlp"]) + 0.1 * 2.0 * d * subject.vocab_size


def _rate(subject: SubjectInfo, before: Iterable[IoiRun]) -> float | None:
    """Operations a second of the newest run of the same model that has curves."""
    for run in before:
        if run.subject.get("weights_hash") == subject.weights_hash and run.curves:
            done = sum(curve.positions * _flops(curve.site.layer, subject) for curve in run.curves)
            seconds = sum(curve.seconds for curve in run.curves)
            if seconds > 0 and done > 0:
                return done / seconds
    return None
