"""Where a feature can matter at all: the pairs and positions at which its code in the counterfactual is another than in the base.

Elsewhere (c̄ⱼ − cⱼ) fⱼ is zero, so leaving those features and pairs out changes no value. An *item* is a feature in a pair where it can
matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core.causal.decompositions import Decomposition, steps_of_pairs
from core.causal.ioi_pairs import PairRuns, Streams
from core.errors import AtlasError

Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Support:
    """m features that matter somewhere, numbered from 0, and their items, by feature and then by pair.

    units: their numbers in the decomposition [m]. directions: fⱼ [m, d_model], float64. begins: [m + 1], where each feature's items begin.
    pairs, starts, columns: of each item, its pair, the first position that it changes, and its column among the pair's features.
    features: of each pair, those that matter in it. steps: of each pair, their (c̄ − c) [positions, features], float64.
    """

    units: Whole
    directions: Tensor
    begins: Whole
    pairs: Whole
    starts: Whole
    columns: Whole
    features: Sequence[Whole]
    steps: Sequence[Tensor]

    def __len__(self) -> int:
        return len(self.units)

    def items(self, feature: int) -> Whole:
        return np.arange(self.begins[feature], self.begins[feature + 1])

    def added(self, pair: int, members: npt.NDArray[np.bool_]) -> Tensor:
        """Σ_{j∈F} (c̄ⱼ − cⱼ) fⱼ of a pair [positions, d_model], float64. members: bool [m], the set F."""
        chosen = members[self.features[pair]]
        columns = torch.from_numpy(np.flatnonzero(chosen)).to(self.directions.device)
        features = torch.from_numpy(self.features[pair][chosen]).to(self.directions.device)
        return self.steps[pair][:, columns] @ self.directions[features]


def support_of(decomposition: Decomposition, runs: PairRuns, streams: Streams) -> Support:
    """Compare the codes of all pairs. Raises AtlasError where they agree everywhere, or are not finite."""
    per_pair: list[tuple[Whole, Tensor]] = []
    for pair, steps in enumerate(steps_of_pairs(decomposition, streams.base, streams.counterfactual)):
        steps = steps[: runs.lengths[pair]].clone()
        steps[: runs.first[pair]] = 0  # the streams are the same there: a product of other rows beside them may round otherwise
        if not bool(torch.isfinite(steps).all()):
            raise AtlasError(
                f"Codes of {decomposition.name} at {decomposition.site} are not finite on these sentences: it cannot be patched."
            )
        units = (steps != 0).any(0).nonzero()[:, 0]
        per_pair.append((units.cpu().numpy(), steps[:, units]))
    units = np.unique(np.concatenate([found for found, _ in per_pair]))
    if not len(units):
        raise AtlasError(
            f"No unit of {decomposition.name} at {decomposition.site} differs between sentences and counterfactuals: choose another."
        )
    features = [np.searchsorted(units, found) for found, _ in per_pair]
    pairs = np.repeat(np.arange(len(per_pair)), [len(found) for found in features])
    columns = np.concatenate([np.arange(len(found)) for found in features])
    starts = np.concatenate([(steps != 0).to(torch.uint8).argmax(0).cpu().numpy() for _, steps in per_pair])
    by_feature = np.concatenate(features)
    order = np.lexsort((pairs, by_feature))
    begins = np.concatenate([[0], np.cumsum(np.bincount(by_feature, minlength=len(units)))])
    device = per_pair[0][1].device
    directions = decomposition.directions(torch.from_numpy(units).to(device), streams.base.shape[-1])
    return Support(units, directions, begins, pairs[order], starts[order], columns[order], features, [steps for _, steps in per_pair])
