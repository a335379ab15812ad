"""What the Unit page shows of one unit, made once and kept: the view, and its records and tables packed for the browser."""

from dataclasses import dataclass

from core.remembered import Remembered
from core.store.catalog import IndexInfo
from core.store.units import UnitView, load_unit
from core.ui.bars import pack_tables
from core.ui.charts import Bars, bars
from core.ui.feature_tables import FeatureData, coactive_table, dictionary_table, feature_data
from core.ui.records import pack_records
from core.ui.unit_tables import effect_table, histogram_table, similar_table, statistics_table, top_token_table
from core.units import UnitName
from core.workspace import Workspace

KEPT = 16
"""Units kept ready. Few: whatever is alive lengthens every collection of garbage."""


@dataclass(frozen=True)
class UnitData:
    """One unit, ready to be shown. records, over_histogram, margin: data of the components in the browser. feature: None for a neuron."""

    view: UnitView
    records: bytes
    over_histogram: bytes
    margin: bytes
    bars: Bars
    feature: FeatureData | None


_Key = tuple[str, float, int, UnitName]

_kept: Remembered[_Key, UnitData] = Remembered(KEPT)


def unit_data(workspace: Workspace, index: IndexInfo, name: UnitName) -> UnitData:
    """The unit as the index has it now. Raises AtlasError.

    Nothing is read ahead: a step to a neighbour finds its rows in memory (a row group holds 32 units) and packs them in 7 ms, while reading
    both neighbours behind every page would take a quarter of the server's work.
    """
    return _kept.get(_key(index, name), lambda: _make(workspace, index, name))


def _key(index: IndexInfo, name: UnitName) -> _Key:
    return str(index.path), index.written, index.generation, name


def _make(workspace: Workspace, index: IndexInfo, name: UnitName) -> UnitData:
    view = load_unit(workspace, name, index.run)
    low, high = view.limits
    drawn = bars(view.histogram.lows, view.histogram.highs, view.histogram.counts, low, high)
    feature = feature_data(workspace, view)
    tables = [top_token_table(view), effect_table(view), similar_table(view)]
    if feature is not None:
        tables += [coactive_table(view, feature.feature), dictionary_table(view, feature)]
    tables.append(statistics_table(view))
    return UnitData(
        view=view,
        records=pack_records(workspace, view),
        over_histogram=pack_tables([histogram_table(view, drawn)]),
        margin=pack_tables(tables),
        bars=drawn,
        feature=feature,
    )
