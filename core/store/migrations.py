"""The cache's schema as numbered steps. A step, once released, is never edited: add the next number."""

from typing import Any

import duckdb

from core.errors import AtlasError

MIGRATIONS: tuple[tuple[int, str], ...] = (
    (
        1,
        """
        -- One row an ingested run. `fingerprint` says which files the rows of the other tables came from.
        CREATE TABLE indexes (
            run VARCHAR NOT NULL, subject VARCHAR NOT NULL, slice VARCHAR NOT NULL, basis VARCHAR NOT NULL, state VARCHAR NOT NULL,
            generation INTEGER NOT NULL, contexts_done BIGINT NOT NULL, contexts_total BIGINT NOT NULL, tokens_done BIGINT NOT NULL,
            n_layers SMALLINT NOT NULL, sites SMALLINT NOT NULL, units INTEGER NOT NULL, bytes BIGINT NOT NULL, fingerprint VARCHAR NOT NULL
        );
        -- One row a unit. `ordinal` numbers a run's units from 0 in the order layer, kind, unit: the key the other tables use.
        -- `strong_records` of a unit's top records reach half its maximum; `agreement` of them peak on `common_token`, and they peak on
        -- `distinct_tokens` different tokens in all.
        CREATE TABLE units (
            run VARCHAR NOT NULL, ordinal INTEGER NOT NULL, kind VARCHAR NOT NULL, layer SMALLINT NOT NULL, unit INTEGER NOT NULL,
            tokens BIGINT NOT NULL, nonzero BIGINT NOT NULL, mean FLOAT, variance FLOAT, skewness FLOAT, kurtosis FLOAT,
            min FLOAT, max FLOAT, p50 FLOAT, p90 FLOAT, p99 FLOAT, p999 FLOAT, density FLOAT,
            peak_token INTEGER, peak_context INTEGER, peak_position SMALLINT, snippet VARCHAR,
            strong_records SMALLINT NOT NULL, agreement SMALLINT NOT NULL, common_token INTEGER, distinct_tokens SMALLINT NOT NULL,
            interesting BOOLEAN NOT NULL
        );
        CREATE TABLE top_records (
            run VARCHAR NOT NULL, ordinal INTEGER NOT NULL, place SMALLINT NOT NULL, context INTEGER NOT NULL, value FLOAT,
            position SMALLINT NOT NULL, token INTEGER NOT NULL
        );
        CREATE TABLE top_tokens (
            run VARCHAR NOT NULL, ordinal INTEGER NOT NULL, place SMALLINT NOT NULL, token INTEGER NOT NULL, mean FLOAT,
            count INTEGER NOT NULL, total INTEGER NOT NULL
        );
        CREATE TABLE contexts (
            slice VARCHAR NOT NULL, context INTEGER NOT NULL, document VARCHAR NOT NULL, source VARCHAR NOT NULL, start INTEGER NOT NULL,
            text VARCHAR NOT NULL
        );
        CREATE TABLE vocabularies (subject VARCHAR NOT NULL, tokenizer_hash VARCHAR NOT NULL);
        CREATE TABLE vocab (subject VARCHAR NOT NULL, token INTEGER NOT NULL, text VARCHAR NOT NULL, label VARCHAR NOT NULL);
        """,
    ),
    (
        2,
        """
        -- One row a run of explaining. `settings` is JSON; money and the other sums of what was spent are NULL when no model was asked.
        CREATE TABLE explain_runs (
            run VARCHAR NOT NULL, state VARCHAR NOT NULL, generation INTEGER NOT NULL, work_done BIGINT NOT NULL,
            work_total BIGINT NOT NULL, study VARCHAR NOT NULL, settings VARCHAR NOT NULL, units BIGINT NOT NULL,
            index_runs VARCHAR[] NOT NULL, written DOUBLE NOT NULL, calls BIGINT, cached BIGINT, tokens_in BIGINT, tokens_out BIGINT,
            money DOUBLE, fingerprint VARCHAR NOT NULL
        );
        -- Which parts the rows of the next two tables came from: a part never changes, so that each is read once.
        CREATE TABLE explain_parts (run VARCHAR NOT NULL, part INTEGER NOT NULL, hash VARCHAR NOT NULL);
        -- One row an explanation. `unit_place` and `setting_place` are places in the run, `step` counts the revisions before it.
        CREATE TABLE explanations (
            run VARCHAR NOT NULL, part INTEGER NOT NULL, explanation VARCHAR NOT NULL, name VARCHAR NOT NULL, subject VARCHAR NOT NULL,
            kind VARCHAR NOT NULL, layer SMALLINT NOT NULL, basis VARCHAR NOT NULL, unit INTEGER NOT NULL, index_run VARCHAR NOT NULL,
            unit_place INTEGER NOT NULL, setting_place INTEGER NOT NULL, setting VARCHAR NOT NULL, step SMALLINT NOT NULL,
            explainer VARCHAR NOT NULL, author VARCHAR NOT NULL, text VARCHAR NOT NULL, failed VARCHAR NOT NULL, seconds DOUBLE,
            created DOUBLE
        );
        -- One row an explanation, role, kind of score and split. Numbers that are undefined are NULL, and `reason` says why.
        CREATE TABLE scores (
            run VARCHAR NOT NULL, part INTEGER NOT NULL, explanation VARCHAR NOT NULL, role VARCHAR NOT NULL, kind VARCHAR NOT NULL,
            split VARCHAR NOT NULL, simulator VARCHAR NOT NULL, calibration VARCHAR NOT NULL, rho DOUBLE, low DOUBLE, high DOUBLE,
            r2 DOUBLE, explained DOUBLE, record_rho DOUBLE, n_tokens INTEGER NOT NULL, n_records INTEGER NOT NULL, coverage DOUBLE,
            reason VARCHAR NOT NULL, said VARCHAR NOT NULL, said_of VARCHAR NOT NULL
        );
        """,
    ),
)
LATEST = MIGRATIONS[-1][0]
TABLES = (
    *("indexes", "units", "top_records", "top_tokens", "contexts", "vocabularies", "vocab"),
    *("explain_runs", "explain_parts", "explanations", "scores"),
)


class NotACache(Exception):
    """The file is a sound database, but not one of ours."""


def schema_version(connection: duckdb.DuckDBPyConnection) -> int:
    """The number of the last step applied, 0 for an empty file. Raises NotACache."""
    rows: list[Any] = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'").fetchall()
    tables = {row[0] for row in rows}
    if "schema_version" not in tables:
        if tables:
            raise NotACache
        return 0
    found: list[Any] = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchall()
    return int(found[0][0])


def check_version(version: int, path: str) -> None:
    """Raises AtlasError when a newer program made the cache."""
    if version > LATEST:
        raise AtlasError(f"{path} was made by a newer Neuron Atlas (schema {version}, this one reads {LATEST}): update the program.")


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Apply the steps that are missing, all or none."""
    version = schema_version(connection)
    if version == LATEST:
        return
    connection.begin()
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        for number, sql in MIGRATIONS:
            if number > version:
                connection.execute(sql)
                connection.execute("INSERT INTO schema_version VALUES (?)", [number])
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
