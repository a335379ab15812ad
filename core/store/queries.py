"""Questions that Explore and Overview ask of the cache; answers are plain pandas frames.

Every value a person typed is a bound parameter, and text is searched with `contains`, which knows no wildcards.
"""

from collections.abc import Collection
from typing import Any, TypedDict, Unpack

import pandas as pd

from core.errors import AtlasError
from core.store.cache import Cache

Span = tuple[float | None, float | None]
"""A closed range; None leaves that side open."""


class Filters(TypedDict, total=False):
    """Which units of a run are wanted; what is left out narrows nothing.

    kinds, layers: which sites. density, kurtosis, maximum: closed ranges; a unit whose value is undefined is in no range.
    token: one of the unit's top tokens, ignoring case and spaces around it. text: anywhere in the contexts of its top records or in one of
    its top tokens, ignoring case; nothing is a wildcard.
    """

    kinds: Collection[str] | None
    layers: Collection[int] | None
    density: Span
    kurtosis: Span
    maximum: Span
    token: str | None
    text: str | None


SORTS = {
    "kurtosis": "kurtosis",
    "density": "density",
    "max": "max",
    "min": "min",
    "mean": "mean",
    "variance": "variance",
    "skewness": "skewness",
    "agreement": "agreement",
    "layer": "layer",
    "unit": "ordinal",
}
"""What `explore` may sort by, and the column behind it."""

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""The quantiles that `layers` gives, in columns q0 … q100."""

MEASURES = {
    "density": "density",
    "log10 density": "CASE WHEN density > 0 THEN log10(density) END",
    "log10 kurtosis": "CASE WHEN kurtosis > 0 THEN log10(kurtosis) END",
    "max": "max",
}
"""What `layers` summarises."""

ROW = """
    i.subject || '/' || u.kind || '.' || u.layer || '/' || i.basis || '/' || u.unit AS name,
    u.kind, u.layer, u.unit, u.peak_token, v.label AS peak, v.text AS peak_text, u.snippet, u.density, u.kurtosis, u.max, u.min, u.mean,
    u.variance, u.skewness, u.tokens, u.nonzero, u.agreement, u.strong_records
"""
"""The columns of one unit in a list, from `units u`, `indexes i` and `vocab v`."""

FROM = """
    FROM units u JOIN indexes i ON i.run = u.run LEFT JOIN vocab v ON v.subject = i.subject AND v.token = u.peak_token
"""


def explore(
    cache: Cache,
    run: str,
    *,
    sort: str = "kurtosis",
    descending: bool = True,
    limit: int = 50,
    offset: int = 0,
    **filters: Unpack[Filters],
) -> tuple[pd.DataFrame, int]:
    """A page of a run's units and how many there are in all.

    sort: a key of SORTS; undefined values come last, ties by layer, kind and unit.
    Columns: name kind layer unit peak_token peak (label) peak_text snippet density kurtosis max min mean variance skewness tokens nonzero
    agreement strong_records (so many top records reach half the maximum; `agreement` of them peak on one token).
    Raises AtlasError for an unknown sort.
    """
    if sort not in SORTS:
        raise AtlasError(f"Units cannot be sorted by “{sort[:40]}”: choose one of {', '.join(SORTS)}.")
    where, values = _filters(run, **filters)
    order = f"key {'DESC' if descending else 'ASC'} NULLS LAST, ordinal"
    with cache.cursor() as cursor:
        chosen: list[Any] = cursor.execute(
            f"WITH found AS MATERIALIZED (SELECT ordinal, {SORTS[sort]} AS key FROM units WHERE {where}), "
            f"page AS (SELECT * FROM found ORDER BY {order} LIMIT ? OFFSET ?) "
            f"SELECT total, ordinal FROM (SELECT count(*) AS total FROM found) LEFT JOIN page ON true ORDER BY {order}",
            [*values, max(0, limit), max(0, offset)],
        ).fetchall()
    ordinals = [ordinal for _, ordinal in chosen if ordinal is not None]
    return rows_of(cache, run, ordinals), int(chosen[0][0])


def rows_of(cache: Cache, run: str, ordinals: Collection[int]) -> pd.DataFrame:
    """The columns of `explore` for some units of a run, in the order given."""
    with cache.cursor() as cursor:
        return cursor.execute(
            f"SELECT {ROW} {FROM} WHERE u.run = $run AND u.ordinal IN (SELECT unnest($ordinals::INTEGER[])) "
            "ORDER BY list_position($ordinals::INTEGER[], u.ordinal)",
            {"run": run, "ordinals": list(ordinals)},
        ).df()


def reviewable(
    cache: Cache,
    run: str,
    *,
    only_interesting: bool = False,
    explained: bool | None = None,
    **filters: Unpack[Filters],
) -> pd.DataFrame:
    """All units of a run that fit filters as in `explore`: name interesting. Interesting ones first, then the most peaked.

    explained: only units that have an explanation, or only those that have none.
    """
    where, values = _filters(run, **filters)
    after = ["interesting"] if only_interesting else ["true"]
    if explained is not None:
        after.append(f"name {'IN' if explained else 'NOT IN'} (SELECT name FROM explanations WHERE failed = '')")
    named = (
        "SELECT s.subject || '/' || u.kind || '.' || u.layer || '/' || s.basis || '/' || u.unit AS name, u.interesting, u.kurtosis, "
        f"u.ordinal FROM (SELECT * FROM units WHERE {where}) u CROSS JOIN (SELECT subject, basis FROM indexes WHERE run = ?) s"
    )
    with cache.cursor() as cursor:
        return cursor.execute(
            f"SELECT name, interesting FROM ({named}) WHERE {' AND '.join(after)} "
            "ORDER BY interesting DESC, kurtosis DESC NULLS LAST, ordinal",
            [*values, run],
        ).df()


def layers(cache: Cache, run: str) -> pd.DataFrame:
    """How units are spread within each site: one row a site and measure.

    Columns: kind layer measure (a key of MEASURES) units (with a defined value) dead (units that are never active) q0 q5 q25 q50 q75 q95
    q100.
    """
    levels = ", ".join(str(q) for q in QUANTILES)
    names = ", ".join(f"spread[{i + 1}] AS q{round(100 * q)}" for i, q in enumerate(QUANTILES))
    parts = " UNION ALL ".join(
        f"SELECT kind, layer, {place} AS place, '{measure}' AS measure, count({column}) AS units, count(*) FILTER (density = 0) AS dead, "
        f"quantile_cont({column}::DOUBLE, [{levels}]) AS spread FROM units WHERE run = $run GROUP BY kind, layer"
        for place, (measure, column) in enumerate(MEASURES.items())
    )
    with cache.cursor() as cursor:
        return cursor.execute(
            f"SELECT kind, layer, measure, units, dead, {names} FROM ({parts}) ORDER BY layer, kind, place", {"run": run}
        ).df()


def coverage(cache: Cache) -> pd.DataFrame:
    """What the cache holds: one row a run, the one over most tokens first.

    Columns: run subject slice basis state generation contexts_done contexts_total tokens_done n_layers sites units bytes.
    """
    with cache.cursor() as cursor:
        return cursor.execute("SELECT * EXCLUDE (fingerprint) FROM indexes ORDER BY tokens_done DESC, run").df()


def _filters(
    run: str,
    *,
    kinds: Collection[str] | None = None,
    layers: Collection[int] | None = None,
    density: Span = (None, None),
    kurtosis: Span = (None, None),
    maximum: Span = (None, None),
    token: str | None = None,
    text: str | None = None,
) -> tuple[str, list[Any]]:
    """The WHERE clause over `units` and its parameters."""
    where, values = ["run = ?"], list[Any]([run])
    if kinds is not None:
        where.append("list_contains(?::VARCHAR[], kind)")
        values.append(list(kinds))
    if layers is not None:
        where.append("list_contains(?::SMALLINT[], layer)")
        values.append([layer for layer in layers if 0 <= layer < 2**15])
    for column, (low, high) in (("density", density), ("kurtosis", kurtosis), ("max", maximum)):
        for bound, sign in ((low, ">="), (high, "<=")):
            if bound is not None:
                where.append(f"{column} {sign} ?::DOUBLE")
                values.append(float(bound))
    # The lists of a unit that is hardly ever active are filled up with texts and tokens on which it is not: these are not found.
    # Joins whose build side is unique, and a GROUP BY over all that was found: DuckDB then looks numbers up in plain arrays. With IN and
    # UNION it hashes every row, which takes three times as long for a text that nearly every unit has.
    in_tokens = (
        "SELECT t.ordinal FROM top_tokens t JOIN vocab v ON v.token = t.token "
        "WHERE t.run = ? AND t.mean <> 0 AND v.subject = (SELECT subject FROM indexes WHERE run = ?) AND {}"
    )
    if token:
        trimmed = token.strip()  # a token that is only white space is meant as it is
        match = "lower(trim(v.text, ' \n\t\r')) = lower(?)" if trimmed else "v.text = ?"
        where.append(f"ordinal IN ({in_tokens.format(match)} GROUP BY t.ordinal)")
        values += [run, run, trimmed or token]
    if text:
        in_records = (
            "SELECT r.ordinal FROM top_records r JOIN contexts c ON c.context = r.context "
            "WHERE r.run = ? AND r.value <> 0 AND c.slice = (SELECT slice FROM indexes WHERE run = ?) AND contains(lower(c.text), lower(?))"
        )
        found = f"{in_records} UNION ALL {in_tokens.format('contains(lower(v.text), lower(?))')}"
        where.append(f"ordinal IN (SELECT ordinal FROM ({found}) GROUP BY ordinal)")
        values += [run, run, text, run, run, text]
    return " AND ".join(where), values
