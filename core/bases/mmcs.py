"""How alike two dictionaries are: mean maximum cosine similarity (MMCS).

MMCS(D, D') = 1/|D| Σ over d in D of max over d' in D' of cos(d, d')    (Sharkey et al. 2022)

It is not symmetric: a small dictionary can lie within a large one. Both directions are given.
"""

import torch
from torch import Tensor

from core.bases.dictionary import Dictionary
from core.errors import AtlasError

_CELLS = 1 << 24
"""Cosines held at once: 64 MB."""


def max_cosines(one: Tensor, other: Tensor) -> Tensor:
    """For each row of `one` [n, d] the largest cosine with a row of `other` [m, d]: float32 [n]. A zero row has cosine 0 with all."""
    if one.shape[-1] != other.shape[-1]:
        raise AtlasError(
            f"Dictionaries over {one.shape[-1]:,} and {other.shape[-1]:,} numbers cannot be compared: choose two that read the same width."
        )
    one, other = _unit(one), _unit(other)
    step = max(1, _CELLS // len(other))
    return torch.cat([(one[start : start + step] @ other.T).amax(-1) for start in range(0, len(one), step)])


def mmcs(one: Tensor, other: Tensor) -> float:
    """MMCS(one, other) of two sets of directions, rows [n, d] and [m, d]."""
    return float(max_cosines(one, other).double().mean())


def similarity(one: Dictionary, other: Dictionary) -> dict[str, float]:
    """MMCS of two dictionaries' decoder directions: `forth` averages over the units of `one`, `back` over those of `other`.

    above_09: the share of the units of `one` that have a partner with a cosine of more than 0.9.
    Raises AtlasError for dictionaries of different widths.
    """
    forth = max_cosines(one.decoder, other.decoder.to(one.decoder.device))
    return {
        "forth": float(forth.double().mean()),
        "back": mmcs(other.decoder.to(one.decoder.device), one.decoder),
        "above_09": float((forth > 0.9).double().mean()),
    }


def _unit(rows: Tensor) -> Tensor:
    rows = rows.float()
    return rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-12)
