"""Picks: units worth a look, chosen by statistics, a different choice for every seed."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from core.errors import AtlasError
from core.store.cache import Cache
from core.store.queries import rows_of
from core.units import Site, UnitName

_A_LAYER = 100
"""So many candidates of each sort are weighed in each layer,"""
_MOST_PEAKED = 10
"""and so many of those that only fill the list."""

_SORTS = {
    # Nearly all of the strong records peak on one token, and they are more than a handful.
    "agree": ("interesting AND strong_records >= 4 AND agreement >= 0.75 * strong_records", "kurtosis DESC"),
    # Rare, but on many different tokens: something other than the token must decide.
    "varied": ("interesting AND strong_records >= 4 AND distinct_tokens >= 0.6 * strong_records AND density < 0.01", "kurtosis DESC"),
    # The strongest activation lies far beyond the unit's own 99.9th percentile.
    "far": ("interesting AND p999 > 0 AND max >= 2 * p999", "max / p999 DESC"),
    # The most peaked units of each layer, when the others do not fill the list.
    "peaked": ("density > 0 AND kurtosis IS NOT NULL", "kurtosis DESC"),
}


@dataclass(frozen=True)
class _Candidate:
    ordinal: int
    layer: int
    density: float
    kurtosis: float
    max: float
    p999: float
    strong: int
    agreement: int
    distinct: int
    label: str


def worth_a_look(cache: Cache, run: str, seed: int, n: int = 8) -> pd.DataFrame:
    """Up to `n` units with the columns of `queries.explore` and `why`, a sentence; empty when every unit is dead.

    Candidates fire on under 5 % of tokens and are more peaked than half of their site. Three sorts take turns: units whose strongest
    records peak on one token, units that fire rarely on many tokens, and units whose maximum stands far out; when they do not fill the
    list, the most peaked of each layer do. Every pick takes the layer picked least so far; the seed decides the rest.
    """
    rng = np.random.default_rng(abs(seed))
    pools = {sort: _candidates(cache, run, sort) for sort in _SORTS}
    first = [sort for sort in _SORTS if sort != "peaked"]
    used: Counter[int] = Counter()
    chosen: dict[int, str] = {}
    for sort in [*(first * n)[:n], *["peaked"] * n]:
        free = [candidate for candidate in pools[sort] if candidate.ordinal not in chosen]
        if not free or len(chosen) == n:
            continue
        fewest = min(used[candidate.layer] for candidate in free)
        free = [candidate for candidate in free if used[candidate.layer] == fewest]
        pick = free[int(rng.integers(len(free)))]
        chosen[pick.ordinal] = _why(sort, pick)
        used[pick.layer] += 1
    return rows_of(cache, run, list(chosen)).assign(why=list(chosen.values()))


def random_interesting(cache: Cache, run: str, seed: int) -> UnitName:
    """One unit by chance among the interesting ones, or among all when none is. Raises AtlasError when the run is not in the cache."""
    with cache.cursor() as cursor:
        for condition in ("interesting", "true"):
            counts: list[Any] = cursor.execute(f"SELECT count(*) FROM units WHERE run = ? AND {condition}", [run]).fetchall()
            if counts[0][0]:
                place = int(np.random.default_rng(abs(seed)).integers(counts[0][0]))
                rows: list[Any] = cursor.execute(
                    "SELECT i.subject, u.kind, u.layer, i.basis, u.unit FROM units u JOIN indexes i ON i.run = u.run "
                    f"WHERE u.run = ? AND {condition} ORDER BY u.ordinal LIMIT 1 OFFSET ?",
                    [run, place],
                ).fetchall()
                subject, kind, layer, basis, unit = rows[0]
                return UnitName(subject, Site(kind, layer), basis, unit)
    raise AtlasError("This index has no units to show yet: wait for its first results.")


def _candidates(cache: Cache, run: str, sort: str) -> list[_Candidate]:
    """The best units of a sort in every layer, with what `_why` tells."""
    where, order = _SORTS[sort]
    with cache.cursor() as cursor:
        rows: list[Any] = cursor.execute(
            "SELECT u.ordinal, u.layer, u.density, u.kurtosis, u.max, u.p999, u.strong_records, u.agreement, u.distinct_tokens, v.label "
            f"FROM (SELECT * FROM units WHERE run = ? AND {where} "
            f"QUALIFY row_number() OVER (PARTITION BY layer ORDER BY {order}, ordinal) <= ?) u JOIN indexes i ON i.run = u.run "
            "LEFT JOIN vocab v ON v.subject = i.subject AND v.token = u.common_token ORDER BY u.ordinal",
            [run, _MOST_PEAKED if sort == "peaked" else _A_LAYER],
        ).fetchall()
    return [_Candidate(*row) for row in rows]


def _why(sort: str, pick: _Candidate) -> str:
    share = f"{100 * pick.density:.2g} % of tokens"
    if sort == "agree":
        return f"{pick.agreement} of its {pick.strong} strongest records peak on “{pick.label}”, and it is active on {share}."
    if sort == "varied":
        return f"Active on only {share}, yet its {pick.strong} strongest records peak on {pick.distinct} different tokens."
    if sort == "far":
        return f"Its maximum is {pick.max / pick.p999:.1f} times its 99.9th percentile, and it is active on {share}."
    return f"One of the {_MOST_PEAKED} most peaked units of its layer (kurtosis {pick.kurtosis:.0f}), and it is active on {share}."
