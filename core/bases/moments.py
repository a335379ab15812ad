"""Mean and covariance of a site's activations, streamed in float64, and a sample of them."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core.bases.reconstruction import widened

Doubles = npt.NDArray[np.float64]


class Moments:
    """Sums of x and x xᵀ around the first piece's mean, so that a large common offset does not cost digits."""

    def __init__(self, width: int, kept: npt.NDArray[np.int64]) -> None:
        """kept: which vectors are kept as they are, by their place in the stream, ascending."""
        self.count = 0
        self._shift: Tensor | None = None
        self._sum = torch.zeros(width, dtype=torch.float64)
        self._products = torch.zeros(width, width, dtype=torch.float64)
        self._kept = kept
        self._sample: list[npt.NDArray[np.float32]] = []

    def add(self, x: Tensor) -> None:
        """x: float32 [n, width]."""
        if not len(x):
            return
        wide = widened(x)
        if self._shift is None:
            self._shift = wide.mean(0)
        away = wide - self._shift
        self._sum += away.sum(0).cpu()
        self._products += (away.T @ away).cpu()
        first, last = np.searchsorted(self._kept, (self.count, self.count + len(x)))
        if last > first:
            self._sample.append(x[torch.from_numpy(self._kept[first:last] - self.count).to(x.device)].cpu().numpy())
        self.count += len(x)

    @property
    def mean(self) -> Doubles:
        """[width]. Of at least one vector."""
        assert self._shift is not None
        return (self._shift.cpu() + self._sum / self.count).numpy()

    @property
    def covariance(self) -> Doubles:
        """[width, width], divided by the count."""
        mean = self._sum / self.count
        return (self._products / self.count - torch.outer(mean, mean)).numpy()

    @property
    def sample(self) -> npt.NDArray[np.float32]:
        """The kept vectors [kept, width]."""
        return np.concatenate(self._sample) if self._sample else np.zeros((0, len(self._sum)), np.float32)
