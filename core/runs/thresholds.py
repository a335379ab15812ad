"""How strongly each unit fires over its own corpus: the percentiles and maxima of an index, as arrays. No torch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.store.catalog import IndexInfo, load_index, read_current
from core.store.parts import read_columns
from core.units import Site
from core.workspace import Workspace

Floats = npt.NDArray[np.float32]

STEPS = ("p50", "p90", "p99", "p999", "max")
BANDS = ("low", *STEPS)
"""What an activation exceeds: nothing, the 50th, 90th, 99th, 99.9th percentile of its unit, or all that the corpus showed."""


@dataclass(frozen=True)
class Thresholds:
    """One site's units: `steps` [5, units] are p50, p90, p99, p999 and the maximum, NaN for a unit without tokens."""

    steps: Floats

    @property
    def p999(self) -> Floats:
        return self.steps[3]

    @property
    def max(self) -> Floats:
        return self.steps[4]

    def band(self, unit: int, value: float) -> str:
        """Which of BANDS a unit's activation falls into."""
        return BANDS[int((value > self.steps[:, unit]).sum())]


def load_thresholds(workspace: Workspace, run: str) -> tuple[IndexInfo, dict[Site, Thresholds]]:
    """The thresholds of every published site of an index run. Raises AtlasError."""
    return read_current(workspace, load_index(workspace, run), lambda index: (index, _read(index)))


def _read(index: IndexInfo) -> dict[Site, Thresholds]:
    found: dict[Site, Thresholds] = {}
    for site in index.published:
        table = read_columns(index.part(site, "units"), ["unit", *STEPS])
        steps = np.full((len(STEPS), index.units_at(site)), np.nan, dtype=np.float32)
        steps[:, table.column("unit").to_numpy()] = [table.column(step).to_numpy() for step in STEPS]
        found[site] = Thresholds(steps)
    return found
