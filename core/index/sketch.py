"""The sketch of one site's units: what is kept, how a block is added, how two sketches merge, what is derived at the end."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import AtlasError
from core.index import block as reading
from core.index import exact, kernels
from core.index.bands import BANDS
from core.index.bins import BINS, ZERO_BIN
from core.index.kernels import LOWEST, POSITIONS, SLOTS

Array = npt.NDArray[Any]

_QUANTILE_GATES = (2.0, 10.0, 100.0)
"""How many times its size the sample behind q0 and q1, q2 and q3 holds: the inverse of the share above each band's lower end."""
MAX_TOKENS = 2**32 - 1
"""Histogram counts are 32 bits wide."""


@dataclass(frozen=True)
class Contexts:
    """What the sketch has to know of a slice's contexts, by rank."""

    keys: Array
    """uint64: content hashes."""
    documents: Array
    """int32."""
    lengths: Array
    """int16: tokens, a BOS included."""
    length: int
    first: int
    """Positions before this one (a BOS) are never counted."""

    def __len__(self) -> int:
        return len(self.keys)

    def gates(self) -> Array:
        """Shares of hash space for the three quantile samples, from the number of contexts of the whole slice."""
        size = BANDS[kernels.Q0][1]
        shares = [min(1.0, size * times / max(len(self), 1)) for times in _QUANTILE_GATES]
        return np.array([min(int(share * 2**64), 2**64 - 1) for share in shares], dtype=np.uint64)


def unit_seeds(site: str, basis: str, units: int) -> Array:
    """uint64 [units]: the salt of each unit's hash, so that units draw their samples independently."""
    base = int.from_bytes(hashlib.blake2b(f"{site}/{basis}".encode(), digest_size=8).digest(), "little")
    return np.array([(base + 0x9E3779B97F4A7C15 * (i + 1)) & (2**64 - 1) for i in range(units)], dtype=np.uint64)


class Sketch:
    """The mergeable summary of all units of one site over some contexts of a slice.

    Arrays have the units first. Lists are unordered inside a band; `core.index.files` orders them when it writes.
    """

    def __init__(self, site: str, basis: str, units: int, contexts: Contexts) -> None:
        self.site, self.basis, self.units, self.contexts = site, basis, units, contexts
        self.tokens = 0
        self.sums = np.zeros((units, 8))
        self.lows = np.full(units, np.inf, np.float32)
        self.highs = np.full(units, -np.inf, np.float32)
        self.counts = np.zeros((units, BINS), np.uint32)
        self.sampled = np.zeros((units, 3), np.int32)
        self.keys = np.full((units, SLOTS), LOWEST, np.int64)
        self.values = np.zeros((units, SLOTS), np.float32)
        self.places = np.zeros((units, SLOTS), np.int16)
        self.scales = np.zeros((units, SLOTS), np.float32)
        self.steps = np.zeros((units, SLOTS, contexts.length), np.int16)
        self.thresholds = np.full((units, len(BANDS)), LOWEST, np.int64)
        self.strong = Heap.empty(units)
        self.sample = Heap.empty(units)
        self.seeds = unit_seeds(site, basis, units)
        self._gates = contexts.gates()

    def add(
        self, block: Array, ranks: Sequence[int], pool: ThreadPoolExecutor | None = None, threads: int = 1, *, everything: bool = True
    ) -> None:
        """Read a block of activations.

        block: [contexts, length, units] float32, C-contiguous, padded on the right. ranks: the contexts' ranks. Raises AtlasError when an
        activation is not finite, or when the corpus is too large for the histogram.
        """
        rank_array = np.asarray(ranks, np.int64)
        ends = self.contexts.lengths[rank_array].astype(np.int64)
        self._count(int((ends - self.contexts.first).sum()))

        def read(start: int, stop: int) -> int:
            return reading.read_block(
                block, rank_array, ends, self.contexts.first, self.contexts.keys, self.contexts.documents, self.seeds, self._gates,
                start, stop, everything,
                self.sums, self.lows, self.highs, self.counts, self.sampled,
                self.keys, self.values, self.places, self.scales, self.steps, self.thresholds,
                self.strong.keys, self.strong.places, self.strong.values, self.sample.keys, self.sample.places, self.sample.values,
            )  # fmt: skip

        if pool is None or threads == 1:
            broken = read(0, self.units)
        else:
            share = -(-self.units // (threads * kernels.TILE)) * kernels.TILE
            broken = sum(pool.map(read, range(0, self.units, share), [min(self.units, at + share) for at in range(0, self.units, share)]))
        if broken:
            raise AtlasError(
                f"The model's activations at {self.site} are not finite numbers ({broken} records): try float32, or check the weights."
            )

    def _count(self, tokens: int) -> None:
        self.tokens += tokens
        if self.tokens > MAX_TOKENS:
            raise AtlasError(f"The slice has more than {MAX_TOKENS:,} tokens, more than a histogram can count: index fewer contexts.")

    def merge(self, other: "Sketch") -> None:
        """Take in another sketch of the same units over other contexts of the same slice. Commutative and associative."""
        if (self.site, self.basis, self.units, len(self.contexts)) != (other.site, other.basis, other.units, len(other.contexts)):
            raise AtlasError(f"The sketches of {self.site} and {other.site} are not of the same units and text, so they cannot be merged.")
        self._count(other.tokens)
        exact.merge_sums(self.sums, other.sums)
        np.minimum(self.lows, other.lows, out=self.lows)
        np.maximum(self.highs, other.highs, out=self.highs)
        self.counts += other.counts
        self.sampled += other.sampled
        kernels.merge_lists(
            self.contexts.documents, self.keys, self.values, self.places, self.scales, self.steps, self.thresholds,
            other.keys, other.values, other.places, other.scales, other.steps,
        )  # fmt: skip
        self.strong.merge(other.strong)
        self.sample.merge(other.sample)

    def restore_thresholds(self) -> None:
        """Work out what newcomers have to beat, after the lists were filled from a file."""
        for band in range(len(BANDS)):
            self.thresholds[:, band] = self.keys[:, kernels.OFFSETS[band] : kernels.OFFSETS[band + 1]].min(axis=1)

    def moments(self) -> dict[str, Array]:
        """mean, variance (population), skewness and kurtosis (third and fourth standardised moments), float64 [units].

        From power sums Sₖ about zero, kept to about 106 bits and moved to a pivot near the mean before they are rounded to float64: with
        averages aₖ = Σ(x − p)ᵏ/n, mean p + a₁, μ₂ = a₂ − a₁², μ₃ = a₃ − 3a₁a₂ + 2a₁³, μ₄ = a₄ − 4a₁a₃ + 6a₁²a₂ − 3a₁⁴; skewness
        μ₃/μ₂^1.5, kurtosis μ₄/μ₂². NaN where undefined (no token, or a constant unit).
        """
        if self.tokens == 0:
            return {name: np.full(self.units, np.nan) for name in ("mean", "variance", "skewness", "kurtosis")}
        pivots, centred = np.zeros(self.units), np.zeros((self.units, 8))
        exact.centre(self.sums, float(self.tokens), pivots, centred)
        first, second, third, fourth = ((centred[:, k] + centred[:, k + 4]) / self.tokens for k in range(4))
        variance = np.maximum(second - first**2, 0)
        constant = (self.lows >= self.highs) | (variance == 0)
        variance[constant] = 0
        with np.errstate(divide="ignore", invalid="ignore"):
            skewness = (third - 3 * first * second + 2 * first**3) / variance**1.5
            kurtosis = (fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4) / variance**2
        skewness[constant] = kurtosis[constant] = np.nan
        return {"mean": pivots + first, "variance": variance, "skewness": skewness, "kurtosis": kurtosis}

    def nonzero(self) -> Array:
        """int64 [units]: tokens on which the unit is not zero."""
        return self.tokens - self.counts[:, ZERO_BIN].astype(np.int64)

    @property
    def nbytes(self) -> int:
        arrays = [value for value in vars(self).values() if isinstance(value, np.ndarray)]
        return sum(array.nbytes for array in arrays) + self.strong.nbytes + self.sample.nbytes


@dataclass
class Heap:
    """Token positions of each unit: the best `POSITIONS` by key, arranged as a min-heap."""

    keys: Array
    places: Array
    values: Array

    @classmethod
    def empty(cls, units: int) -> "Heap":
        return cls(
            np.full((units, POSITIONS), LOWEST, np.int64), np.zeros((units, POSITIONS), np.int16), np.zeros((units, POSITIONS), np.float32)
        )

    def merge(self, other: "Heap") -> None:
        kernels.merge_heaps(self.keys, self.places, self.values, other.keys, other.places, other.values)

    def settle(self) -> None:
        """Put the positions in order, worst first (a heap too), so that what is worked out from them does not depend on history."""
        order = np.lexsort((~self.places, self.keys), axis=1)
        self.keys, self.places, self.values = (np.take_along_axis(array, order, 1) for array in (self.keys, self.places, self.values))

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.places.nbytes + self.values.nbytes
