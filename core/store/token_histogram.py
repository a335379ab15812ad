"""The token histogram of a feature: on which tokens it is active, by how strongly (Cunningham et al. 2023, case studies)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 10
TRACKED = 5

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenHistogram:
    """Every non-zero activation of one feature, counted once, by its token and by its bin.

    edges: float64 [bins + 1]; a bin holds edges[i] ≤ value < edges[i + 1], the last one its upper edge too. tokens: int64 [distinct], the
    most frequent first, of equals the lower number. counts: int64 [distinct, bins]. tracked: how many of the first tokens are drawn apart.
    """

    edges: npt.NDArray[np.float64]
    tokens: Ints
    counts: Ints
    tracked: int

    @property
    def stacked(self) -> Ints:
        """Rows to stack [tracked + 1, bins]: the tracked tokens, and all others together."""
        return np.vstack([self.counts[: self.tracked], self.counts[self.tracked :].sum(axis=0, dtype=np.int64)])

    @property
    def totals(self) -> Ints:
        """All tokens of each bin [bins]."""
        return self.counts.sum(axis=0, dtype=np.int64)


def token_histogram(tokens: npt.ArrayLike, values: npt.ArrayLike, n_bins: int = BINS, n_tokens: int = TRACKED) -> TokenHistogram:
    """Count tokens [n] by the bin of their values [n] between zero and the largest; zeros are left out.

    `n_bins` bins of equal width; from the smallest value instead of zero if any is negative. The paper draws the `n_tokens` most frequent
    tokens and all others. It counts at most 5,000 activations, and of each bin only its ten commonest tokens, so that a tracked token can
    be taken for one of the others there; here every activation counts for its token.
    """
    ids, found = np.asarray(tokens, np.int64), np.asarray(values, np.float64)
    ids, found = ids[found != 0], found[found != 0]
    edges = np.linspace(min(0.0, found.min(initial=0.0)), max(0.0, found.max(initial=0.0)), n_bins + 1)
    place = np.searchsorted(edges[1:-1], found, side="right")
    distinct, owner = np.unique(ids, return_inverse=True)
    counts = np.bincount(owner * n_bins + place, minlength=len(distinct) * n_bins).reshape(len(distinct), n_bins)
    order = np.argsort(-counts.sum(axis=1), kind="stable")
    return TokenHistogram(edges, distinct[order], counts[order].astype(np.int64), min(n_tokens, len(distinct)))
