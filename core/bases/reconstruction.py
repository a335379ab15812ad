"""Sums over tokens that say how well a dictionary reconstructs a site, and how its units fire. float64 throughout."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from core.bases.bounds import CODES
from core.bases.dictionary import Dictionary

BIN_WIDTH = 0.25
LOWEST = -8.0
"""Bins of the density histogram: log10 of the share of tokens, from here to 0. Fixed, so that dictionaries can be laid side by side."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

Undefined = dict[str, str]
"""Metric -> why it has no value."""


class Spread:
    """Count, mean and total squared distance from the mean of vectors that come in pieces."""

    def __init__(self, width: int) -> None:
        self.count = 0
        self._shift = torch.zeros(width, dtype=torch.float64)
        self._sum = torch.zeros(width, dtype=torch.float64)
        self._squares = 0.0

    def add(self, x: Tensor) -> None:
        """x: [n, width]."""
        wide = widened(x)
        if not self.count and len(x):
            self._shift = wide.mean(0).cpu()  # a large common offset must not swallow the differences
        away = wide - self._shift.to(wide.device)
        self.count += len(x)
        self._sum += away.sum(0).cpu()
        self._squares += float(away.square().sum())

    @property
    def mean(self) -> Tensor:
        """float64 [width]; zeros before anything came."""
        return self._shift + self._sum / max(1, self.count)

    @property
    def scatter(self) -> float:
        """Σ‖x − mean‖²."""
        return max(0.0, self._squares - float(self._sum.square().sum()) / max(1, self.count))


class Reconstruction:
    """What one dictionary does over tokens that come in pieces."""

    def __init__(self, dictionary: Dictionary) -> None:
        self.dictionary = dictionary
        self.tokens = 0
        self.fired = torch.zeros(dictionary.info.units, dtype=torch.int64, device=dictionary.encoder.device)
        self._absolute = self._error = self._written = self._product = self._ratio = 0.0
        self._with_length = 0

    def add(self, x: Tensor) -> None:
        """x: [n, d_in], cut."""
        for piece in pieces(self.dictionary, x):
            self._add(piece)

    def metrics(self, spread: Spread) -> tuple[dict[str, Any], Undefined]:
        """The metrics, None where one is undefined, and why. spread: of the same activations."""
        info, n = self.dictionary.info, self.tokens
        fired = self.fired.cpu()
        found: dict[str, Any] = {
            "l0": int(fired.sum()) / n,
            "l1": self._absolute / n,
            "dead": int((fired == 0).sum()) / info.units,
            "dense_1": int((fired > 0.01 * n).sum()) / info.units,
            "dense_10": int((fired > 0.1 * n).sum()) / info.units,
            "density": density(fired, n),
        }
        undefined: Undefined = {}
        names = ("explained_variance", "mse", "squared_error", "shrinkage", "relative_bias")
        if info.d_out is not None:
            found |= dict.fromkeys(names)
            undefined |= dict.fromkeys(names, f"A transcoder writes to {info.writes_to or 'another place'}, not to the site that it reads.")
        else:
            scatter = spread.scatter
            found |= {
                "explained_variance": 1 - self._error / scatter if scatter > 0 else None,
                "mse": self._error / (n * info.d_in),
                "squared_error": self._error / n,
                "shrinkage": self._ratio / self._with_length if self._with_length else None,
                "relative_bias": self._written / self._product if self._product > 0 else None,
            }
            reasons = {
                "explained_variance": "The activations do not vary on this text.",
                "shrinkage": "All activations are zero on this text.",
                "relative_bias": "The reconstructions do not point along the activations (Σ x·x̂ is not positive).",
            }
            undefined |= {name: reason for name, reason in reasons.items() if found[name] is None}
        found["encoder_decoder_cosine"], reason = encoder_decoder_cosine(self.dictionary)
        if reason is not None:
            undefined["encoder_decoder_cosine"] = reason
        for name, value in found.items():
            if isinstance(value, float) and not math.isfinite(value):
                found[name] = None
                undefined[name] = "The sums are not finite: an activation or a reconstruction is too large."
        return found, undefined

    def _add(self, x: Tensor) -> None:
        codes, written = self.dictionary.reconstruct(x)
        self.tokens += len(x)
        self.fired += (codes != 0).sum(0)
        self._absolute += float(widened(codes.abs().sum(-1)).sum())
        if self.dictionary.info.d_out is not None:
            return
        x, out = widened(x), widened(written)
        lengths = x.norm(dim=-1)
        has = lengths > 0
        self._error += float((x - out).square().sum())
        self._written += float(out.square().sum())
        self._product += float((x * out).sum())
        self._ratio += float((out.norm(dim=-1)[has] / lengths[has]).sum())
        self._with_length += int(has.sum())


def pieces(dictionary: Dictionary, x: Tensor) -> Sequence[Tensor]:
    """x [n, d_in], as many rows at a time as have `CODES` codes, at least one."""
    return x.split(max(1, CODES // dictionary.info.units))


def density(fired: Tensor, tokens: int) -> dict[str, Any]:
    """How many units are active on which share of the tokens.

    fired: int64 [units]. Returns `edges`, log10 of the share; `counts`, units in each bin, its lower edge excluded and its upper included;
    `dead`, those that never fired. Counts and dead sum to the units.
    """
    bins = round(-LOWEST / BIN_WIDTH)
    alive = fired[fired > 0].double()
    place = torch.ceil((torch.log10(alive / tokens) - LOWEST) / BIN_WIDTH).long() - 1
    counts = torch.bincount(place.clamp_(0, bins - 1), minlength=bins)
    return {
        "edges": [LOWEST + BIN_WIDTH * index for index in range(bins + 1)],
        "counts": counts.tolist(),
        "dead": int((fired == 0).sum()),
    }


def encoder_decoder_cosine(dictionary: Dictionary) -> tuple[dict[str, float] | None, str | None]:
    """Quantiles over units of the cosine between encoder and decoder rows, by `q0`, `q5`, … `q100`, and `mean`; or None and why."""
    encoder, decoder = dictionary.encoder, dictionary.decoder
    if encoder.shape != decoder.shape:
        return None, "The encoder and the decoder work in spaces of different widths."
    sizes = encoder.norm(dim=-1) * decoder.norm(dim=-1)
    alive = sizes > 0
    if not bool(alive.any()):
        return None, "Every unit's encoder or decoder is zero."
    cosines = ((encoder * decoder).sum(-1)[alive] / sizes[alive]).double().cpu().clamp_(-1, 1)
    at = torch.quantile(cosines, torch.tensor(QUANTILES, dtype=torch.float64))
    named = {f"q{round(100 * quantile)}": float(value) for quantile, value in zip(QUANTILES, at, strict=True)}
    return {**named, "mean": float(cosines.mean())}, None


def widened(x: Tensor) -> Tensor:
    """float64, on the CPU where the device has no such numbers."""
    return (x.cpu() if x.device.type == "mps" else x).double()
