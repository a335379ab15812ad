"""Questions about explanations and their scores that pages ask of the cache; answers are plain pandas frames.

An explanation's headline score is the one of role `simulated` that comes first by kind (top-and-random, random-only, top-only) and then by
split (test, validation, calibration). The controls that stand beside it are over the same kind and split. A score that is undefined is
NULL (NaN in a frame) and has a `reason`; it is never zero.
"""

from collections.abc import Collection
from typing import Any

import pandas as pd

from core.errors import AtlasError
from core.store.cache import Cache
from core.units import UnitName

CONTROLS = ("lookup", "shuffled", "paraphrase")
SORTS = {
    "rho": "rho",
    "low": "low",
    "above lookup": "rho - lookup_rho",
    "above shuffled": "rho - shuffled_rho",
    "r2": "r2",
    "explained": "explained",
    "coverage": "coverage",
    "layer": "layer",
    "created": "created",
}
"""What `scored` may sort by, and the expression behind it."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""The quantiles that `by_layer` gives, in columns q0 … q100."""

_KIND = "CASE s.kind WHEN 'top-and-random' THEN 0 WHEN 'random-only' THEN 1 ELSE 2 END"
_SPLIT = "CASE s.split WHEN 'test' THEN 0 WHEN 'validation' THEN 1 ELSE 2 END"
_OF_CONTROL = ("rho", "low", "high", "coverage", "reason", "said", "said_of")
_CONTROL_COLUMNS = ", ".join(
    f"{', '.join(f'{role}.{name} AS {role}_{name}' for name in _OF_CONTROL)}, {role}.explanation IS NOT NULL AS has_{role}"
    for role in CONTROLS
)
_CONTROL_JOINS = " ".join(
    f"LEFT JOIN scores {role} ON {role}.explanation = h.explanation AND {role}.role = '{role}' "
    f"AND {role}.kind = h.kind AND {role}.split = h.split"
    for role in CONTROLS
)
_SCORES = (
    *("simulator", "calibration", "rho", "low", "high", "r2", "explained", "record_rho"),
    *("n_tokens", "n_records", "coverage", "reason", "said"),
)
# `evidence` is `core.autointerp.scoring.is_evidence` in SQL; NULL where nobody asked for the shuffled control.
_JOINED = f"""
    SELECT e.* EXCLUDE (kind, part), e.kind AS site_kind, h.kind, h.split, {", ".join(f"h.{name}" for name in _SCORES)},
        {_CONTROL_COLUMNS},
        CASE WHEN shuffled.explanation IS NULL THEN NULL ELSE coalesce(h.low > coalesce(shuffled.high, 0), false) END AS evidence
    FROM explanations e LEFT JOIN headlines h ON h.explanation = e.explanation {_CONTROL_JOINS}
"""


def _query(where: str, kind: str | None = None) -> str:
    """All explanations that fit `where` (over `explanations e`) with their headline scores, of one kind of score if it is named."""
    return f"""
        WITH headlines AS (
            SELECT s.* FROM scores s JOIN explanations e ON e.explanation = s.explanation
            WHERE s.role = 'simulated' AND {where} {"AND s.kind = $kind" if kind else ""}
            QUALIFY row_number() OVER (PARTITION BY s.explanation ORDER BY {_KIND}, {_SPLIT}) = 1
        )
        {_JOINED} WHERE {where}
    """


def of_unit(cache: Cache, unit: UnitName) -> pd.DataFrame:
    """All explanations of a unit, the best headline score first, those without a score last and the newer first among equals.

    Columns: explanation run name subject site_kind layer basis unit index_run unit_place setting_place setting step explainer author text
    failed seconds created; kind split simulator calibration rho low high r2 explained record_rho n_tokens n_records coverage reason said of
    the headline score (empty where there is none); for each control (lookup, shuffled, paraphrase) has_C, C_rho C_low C_high C_coverage
    C_reason C_said C_said_of; and evidence: whether the score stands out from the shuffled control's, NULL without that control.
    """
    return _frame(cache, f"{_query('e.name = $name')} ORDER BY h.rho DESC NULLS LAST, e.created DESC, e.explanation", {"name": str(unit)})


def rows_of_unit(cache: Cache, unit: UnitName) -> list[dict[str, Any]]:
    """The rows of `of_unit` as plain Python values, None where undefined: quicker for a page, most of all without any."""
    values = {"name": str(unit)}
    with cache.cursor() as cursor:
        if not cursor.execute("SELECT 1 FROM explanations WHERE name = $name LIMIT 1", values).fetchall():
            return []
        made = cursor.execute(f"{_query('e.name = $name')} ORDER BY h.rho DESC NULLS LAST, e.created DESC, e.explanation", values)
        names: list[str] = [column[0] for column in made.description or ()]
        rows: list[Any] = made.fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]


def scored(
    cache: Cache,
    *,
    subject: str | None = None,
    site_kinds: Collection[str] | None = None,
    layers: Collection[int] | None = None,
    explainer: str | None = None,
    simulator: str | None = None,
    kind: str | None = "top-and-random",
    run: str | None = None,
    study: str | None = None,
    text: str | None = None,
    evidence: bool | None = None,
    with_failed: bool = False,
    best_only: bool = False,
    sort: str = "rho",
    descending: bool = True,
    limit: int = 50,
    offset: int = 0,
) -> tuple[pd.DataFrame, int]:
    """A page of explanations with the columns of `of_unit`, and how many there are in all.

    kind: of score; None for each explanation's preferred one. text: anywhere in the explanation, ignoring case; nothing is a wildcard.
    evidence: only those that stand out from the shuffled control, or only those that do not. with_failed: those too that could not be made.
    best_only: one a unit, its best. sort: a key of SORTS; undefined values come last, ties by unit. Raises AtlasError for an unknown sort.
    """
    if sort not in SORTS:
        raise AtlasError(f"Explanations cannot be sorted by “{sort[:40]}”: choose one of {', '.join(SORTS)}.")
    where, values = _where(subject, site_kinds, layers, explainer, run, study, text)
    after = ["true"] if with_failed else ["failed = ''"]
    if simulator is not None:
        after.append("simulator = $simulator")
        values["simulator"] = simulator
    if evidence is not None:
        after.append("evidence = $evidence")
        values["evidence"] = evidence
    if kind is not None:
        values["kind"] = kind
        after.append("(kind IS NOT NULL OR failed != '')")
    best = "QUALIFY row_number() OVER (PARTITION BY name ORDER BY rho DESC NULLS LAST, created DESC, explanation) = 1" if best_only else ""
    order = f"{SORTS[sort]} {'DESC' if descending else 'ASC'} NULLS LAST, subject, layer, site_kind, unit, explanation"
    found = f"SELECT * FROM ({_query(where, kind)}) WHERE {' AND '.join(after)} {best}"
    frame = _frame(
        cache,
        f"SELECT *, count(*) OVER () AS total FROM ({found}) ORDER BY {order} LIMIT $limit OFFSET $offset",
        {**values, "limit": max(0, limit), "offset": max(0, offset)},
    )
    if len(frame):
        return frame.drop(columns="total"), int(frame["total"].iloc[0])
    count = _frame(cache, f"SELECT count(*) AS n FROM ({found})", values)["n"].iloc[0]
    return frame.drop(columns="total"), int(count)


def by_layer(
    cache: Cache,
    *,
    subject: str,
    kind: str = "top-and-random",
    site_kinds: Collection[str] | None = None,
    explainer: str | None = None,
    simulator: str | None = None,
    run: str | None = None,
    study: str | None = None,
) -> pd.DataFrame:
    """How headline scores and their controls are spread in each layer, over each unit's best explanation.

    One row a site and role (simulated, lookup, shuffled, paraphrase). Columns: site_kind layer role n (with such a score) defined (of them
    with a number) mean q0 q5 q25 q50 q75 q95 q100 evidence (of the role simulated: how many stand out from the shuffled control).
    """
    where, values = _where(subject, site_kinds, None, explainer, run, study, None)
    values["kind"] = kind
    after = ""
    if simulator is not None:
        after, values["simulator"] = "AND simulator = $simulator", simulator
    levels = ", ".join(str(q) for q in QUANTILES)
    names = ", ".join(f"spread[{i + 1}] AS q{round(100 * q)}" for i, q in enumerate(QUANTILES))
    parts = " UNION ALL ".join(
        f"SELECT site_kind, layer, {place} AS place, '{role}' AS role, count(*) AS n, count({column}) AS defined, avg({column}) AS mean, "
        f"quantile_cont({column}, [{levels}]) AS spread, {'count(*) FILTER (evidence)' if role == 'simulated' else 'NULL'} AS evidence "
        f"FROM best WHERE {'true' if role == 'simulated' else f'has_{role}'} GROUP BY site_kind, layer"
        for place, (role, column) in enumerate([("simulated", "rho"), *((role, f"{role}_rho") for role in CONTROLS)])
    )
    return _frame(
        cache,
        f"WITH best AS MATERIALIZED (SELECT * FROM ({_query(where, kind)}) WHERE kind IS NOT NULL {after} "
        "QUALIFY row_number() OVER (PARTITION BY name ORDER BY rho DESC NULLS LAST, created DESC, explanation) = 1) "
        f"SELECT site_kind, layer, role, n, defined, mean, {names}, evidence FROM ({parts}) ORDER BY layer, site_kind, place",
        values,
    )


def study(cache: Cache, run: str, kind: str | None = None) -> pd.DataFrame:
    """Every explanation of a run, in the run's order: setting, unit, step, and the columns of `of_unit`.

    kind: of score; None for each explanation's preferred one. What a `setting_place` stands for is in the run's `settings`, see `runs`.
    """
    values: dict[str, Any] = {"run": run} | ({"kind": kind} if kind else {})
    return _frame(cache, f"{_query('e.run = $run', kind)} ORDER BY e.setting_place, e.unit_place, e.step", values)


def headline_rhos(cache: Cache, *, subject: str | None = None, simulator: str | None = None) -> pd.DataFrame:
    """Every explanation whose headline score is defined, in the order of identities: explanation name rho. Light, for drawing a sample."""
    where, values = _where(subject, None, None, None, None, None, None)
    condition = ""
    if simulator is not None:
        condition, values["simulator"] = "AND s.simulator = $simulator", simulator
    return _frame(
        cache,
        "SELECT explanation, name, rho FROM (SELECT e.explanation, e.name, s.rho FROM scores s JOIN explanations e "
        f"ON e.explanation = s.explanation WHERE s.role = 'simulated' AND {where} {condition} QUALIFY row_number() "
        f"OVER (PARTITION BY s.explanation ORDER BY {_KIND}, {_SPLIT}) = 1) WHERE rho IS NOT NULL ORDER BY explanation",
        values,
    )


def of_identities(cache: Cache, identities: Collection[str]) -> pd.DataFrame:
    """The explanations with these identities that are still there; columns as in `of_unit`."""
    where = "list_contains($identities::VARCHAR[], e.explanation)"
    return _frame(cache, f"{_query(where)} ORDER BY e.explanation", {"identities": list(identities)})


def runs(cache: Cache) -> pd.DataFrame:
    """Runs of explaining, the newest first.

    Columns: run state generation work_done work_total study settings (JSON) units index_runs written calls cached tokens_in tokens_out
    money explanations (made) failed (not made) subjects (a list).
    """
    return _frame(
        cache,
        "SELECT r.* EXCLUDE (fingerprint), coalesce(e.made, 0) AS explanations, coalesce(e.failed, 0) AS failed, "
        "coalesce(e.subjects, []) AS subjects FROM explain_runs r LEFT JOIN (SELECT run, count(*) FILTER (failed = '') AS made, "
        "count(*) FILTER (failed != '') AS failed, list_sort(list(DISTINCT subject)) AS subjects FROM explanations GROUP BY run) e "
        "ON e.run = r.run ORDER BY r.written DESC, r.run",
        {},
    )


def generation(cache: Cache, run: str) -> int | None:
    """The generation of a run that the cache has taken in, None for none."""
    with cache.cursor() as cursor:
        found: list[Any] = cursor.execute("SELECT generation FROM explain_runs WHERE run = ?", [run]).fetchall()
    return found[0][0] if found else None


def stamp(cache: Cache) -> tuple[int, int]:
    """Changes whenever the cache takes in explanations: how many runs and parts it has."""
    with cache.cursor() as cursor:
        found: list[Any] = cursor.execute(
            "SELECT (SELECT coalesce(sum(generation), 0) FROM explain_runs)::BIGINT, (SELECT count(*) FROM explain_parts)"
        ).fetchall()
    return int(found[0][0]), int(found[0][1])


def choices(cache: Cache) -> dict[str, list[str]]:
    """What the filters of `scored` can be set to: subjects, explainers, simulators, kinds, studies, authors; each sorted."""
    columns = {
        "subjects": "subject FROM explanations",
        "explainers": "explainer FROM explanations",
        "authors": "author FROM explanations",
        "simulators": "simulator FROM scores WHERE role = 'simulated'",
        "kinds": "kind FROM scores",
        "studies": "study FROM explain_runs WHERE study != ''",
    }
    found: dict[str, list[str]] = {}
    with cache.cursor() as cursor:
        for name, column in columns.items():
            rows: list[Any] = cursor.execute(f"SELECT DISTINCT {column} ORDER BY 1").fetchall()
            found[name] = [row[0] for row in rows]
    return found


def _where(
    subject: str | None,
    site_kinds: Collection[str] | None,
    layers: Collection[int] | None,
    explainer: str | None,
    run: str | None,
    study: str | None,
    text: str | None,
) -> tuple[str, dict[str, Any]]:
    """The condition over `explanations e` and its named parameters."""
    where, values = ["true"], dict[str, Any]()
    for column, value in (("subject", subject), ("explainer", explainer), ("run", run)):
        if value is not None:
            where.append(f"e.{column} = ${column}")
            values[column] = value
    if site_kinds is not None:
        where.append("list_contains($site_kinds::VARCHAR[], e.kind)")
        values["site_kinds"] = list(site_kinds)
    if layers is not None:
        where.append("list_contains($layers::SMALLINT[], e.layer)")
        values["layers"] = [layer for layer in layers if 0 <= layer < 2**15]
    if study is not None:
        where.append("e.run IN (SELECT run FROM explain_runs WHERE study = $study)")
        values["study"] = study
    if text:
        where.append("contains(lower(e.text), lower($text))")
        values["text"] = text
    return " AND ".join(where), values


def _frame(cache: Cache, sql: str, values: dict[str, Any]) -> pd.DataFrame:
    with cache.cursor() as cursor:
        return cursor.execute(sql, values).df()
