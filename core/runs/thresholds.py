"""How strongly each unit fires over its own corpus: the percentiles and maxima of an index, as arrays. No torch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.errors import AtlasError
from core.store.catalog import IndexInfo, load_index
from core.store.parts import DamagedPart, read_columns
from core.units import Site
from core.workspace import Workspace

Floats = npt.NDArray[np.float32]

BANDS = ("low", "p50", "p90", "p99", "p999", "max")
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
    index = load_index(workspace, run)
    try:
        return index, _read(index)
    except FileNotFoundError:
        index = load_index(workspace, run)  # replaced by the next generation between the two readings
    try:
        return index, _read(index)
    except FileNotFoundError as error:
        raise AtlasError(f"{error} is missing: make it again with python -m core resume {run}.") from None


def _read(index: IndexInfo) -> dict[Site, Thresholds]:
    found: dict[Site, Thresholds] = {}
    for name in index.manifest["files"]:
        site = Site.parse(name)
        path = index.part(site, "units")
        try:
            table = read_columns(path, ["unit", "p50", "p90", "p99", "p999", "max"])
        except DamagedPart:
            raise AtlasError(
                f"runs/{index.run}/{path.name} of {name} is damaged: make it again with python -m core resume {index.run}."
            ) from None
        steps = np.full((5, index.units_at(site)), np.nan, dtype=np.float32)
        steps[:, table.column("unit").to_numpy()] = [table.column(column).to_numpy() for column in ("p50", "p90", "p99", "p999", "max")]
        found[site] = Thresholds(steps)
    return found
