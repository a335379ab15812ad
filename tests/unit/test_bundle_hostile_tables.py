"""Bundles whose files are whole and whose tables lie: values, ids and texts that no page could show are refused or inert."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.findings.bundle import tables
from core.findings.bundle.archive import Refused
from core.findings.bundle.importing import import_bundle
from core.findings.bundle.reduced import Reduced
from core.findings.bundle.schemas import Form
from core.findings.bundle.staging import stage
from core.findings.bundle.taking import reindexed, taken_effect, taken_index
from core.findings.findings import Findings
from core.store.cache import Cache
from core.store.catalog import find_unit
from core.store.effects import effect_runs
from core.store.units import load_unit
from core.workspace import Workspace
from tests.shared_bundle import UNITS, Members, named, pack, parquet, refused, sealed, table, taken

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_content_under_the_name_of_another_run_is_refused(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    """Sound files, right hashes, but not what the run's name stands for: else a bundle could stand in for another one's run."""
    name = named(good, "mlp.1/units.parquet")
    units = table(good[name])
    raised = units.set_column(
        units.column_names.index("max"), "max", pc.call_function("add", [units.column("max"), pa.scalar(1, pa.float32())])
    )
    sentence = refused(workspace, pack(tmp_path / "a.zip", {**good, name: parquet(raised)}))
    assert "does not hold what its name stands for" in sentence


Change = Callable[[Any], Any]


def _set(column: str, value: Any) -> Change:
    def change(found: Any) -> Any:
        at = found.column_names.index(column)
        kind = found.schema.field(column).type
        values = found.column(column).to_pylist()
        values[0] = value(values[0]) if callable(value) else value
        return found.set_column(at, column, pa.array(values, kind))

    return change


def _twice(found: Any) -> Any:
    """The table with its first row twice."""
    return pa.concat_tables([found.slice(0, 1), found]).combine_chunks()


HARM: dict[str, tuple[str, Change]] = {
    "infinity": ("mlp.1/units.parquet", _set("max", float("inf"))),
    "NaN where a number must be": ("mlp.1/records.parquet", _set("values", lambda old: [float("nan"), *old[1:]])),
    "a null": ("mlp.1/units.parquet", _set("tokens", None)),
    "a bin that is none": ("mlp.1/units.parquet", _set("bins", lambda old: [32000, *old[1:]])),
    "a bin without tokens": ("mlp.1/units.parquet", _set("counts", lambda old: [0, *old[1:]])),
    "lists of different lengths": ("mlp.1/units.parquet", _set("counts", lambda old: old[1:])),
    "a context that is not there": ("mlp.1/records.parquet", _set("contexts", lambda old: [9999, *old[1:]])),
    "a negative context": ("mlp.1/positions.parquet", _set("contexts", lambda old: [-1, *old[1:]])),
    "a position past the end": ("mlp.1/positions.parquet", _set("positions", lambda old: [500, *old[1:]])),
    "activations cut short": ("mlp.1/records.parquet", _set("activations", lambda old: old[:-2])),
    "more shown than there are": ("mlp.1/records.parquet", _set("shown", 10_000)),
    "another unit": ("mlp.1/units.parquet", _set("unit", 6)),
    "a band that is none": ("mlp.1/records.parquet", _set("band", "best")),
    "a document that is not there": ("text/contexts.parquet", _set("document", 999)),
    "ranks out of order": ("text/contexts.parquet", _set("rank", 5)),
    "a similar unit that is none": ("effects/mlp.1.parquet", _set("similar", lambda old: ["<script>/1", *old[1:]])),
    "an explained unit that is none": ("explanations.parquet", _set("unit", "tiny/mlp.1/neurons/../5")),
    "an identity of another run": ("explanations.parquet", _set("explanation", "explain-other.0.0.0")),
    "a recipe that is no JSON": ("explanations.parquet", _set("recipe", "{")),
    "a score above all numbers": ("scores.parquet", _set("r2", float("inf"))),
    "a correlation below all numbers": ("scores.parquet", _set("rho", -float("inf"))),
    "a role that is none": ("scores.parquet", _set("role", "winner")),
    "simulated is longer than true": ("simulations.parquet", _set("simulated", lambda old: [*old, 1.0])),
    "co-active units beyond the dictionary": ("codes/resid.0.parquet", _set("coactive", lambda old: [70_000, *old[1:]])),
    "an ablated token that is none": ("effect-test", _set("token", -7)),
}


@pytest.mark.parametrize("what", HARM)
def test_values_that_no_page_could_show_are_refused(workspace: Workspace, good: Members, tmp_path: Path, what: str) -> None:
    end, change = HARM[what]
    name = next(
        name for name in good if name.endswith(end) or (end == "effect-test" and end in name and name.endswith("positions.parquet"))
    )
    harmed = change(table(good[name]))
    sentence = refused(workspace, pack(tmp_path / "bad.zip", {**good, name: parquet(harmed)}))
    assert "what its name stands for" not in sentence  # refused for itself, not only because its hash is another


@pytest.mark.parametrize("figure", ["r2", "explained"])
def test_a_score_without_a_lower_bound_is_sound(workspace: Workspace, good: Members, tmp_path: Path, figure: str) -> None:
    """A silent unit that was predicted to fire has −∞: the changed file is refused for its hash alone."""
    name = next(name for name in good if name.endswith("scores.parquet"))
    changed = _set(figure, -float("inf"))(table(good[name]))
    assert "what its name stands for" in refused(workspace, pack(tmp_path / "odd.zip", {**good, name: parquet(changed)}))


TWICE: dict[str, tuple[str, Change]] = {
    "a unit": ("mlp.1/units.parquet", _twice),
    "a unit's band": ("mlp.1/records.parquet", _twice),
    "a unit's positions": ("mlp.1/positions.parquet", _twice),
    "a band under two names": ("mlp.1/records.parquet", _set("band", "bottom")),
    "one kind of positions": ("mlp.1/positions.parquet", _set("kind", "sampled")),
    "the effects of a unit": ("effects/mlp.1.parquet", _twice),
    "the codes of a unit": ("codes/resid.0.parquet", _twice),
    "a context": ("text/contexts.parquet", _twice),
    "a document": ("text/documents.parquet", _twice),
    "an explanation": ("explanations.parquet", _twice),
    "a score": ("scores.parquet", _twice),
    "a simulation": ("simulations.parquet", _twice),
    "a token of the output": ("vocabulary.parquet", _twice),
}


@pytest.mark.parametrize("what", TWICE)
def test_what_stands_twice_in_a_table_is_refused(workspace: Workspace, source: Workspace, tmp_path: Path, what: str) -> None:
    """The same id in two rows, under right hashes and names: refused for itself."""
    end, change = TWICE[what]
    feature = taken_index(source, find_unit(source, UNITS[2]), {UNITS[2].site: [UNITS[2].index]}, ())
    made = [*taken(source), feature, taken_effect(effect_runs(source)[0])]
    chosen = next(one for one in made if any(place.path.endswith(end) for place in one.tables))
    changed = {place: change(found) if place.path.endswith(end) else found for place, found in chosen.tables.items()}
    sound = [chosen] if chosen.kind != "explain" else made[:2]
    assert import_bundle(Workspace.open(tmp_path / "sound"), sealed(source, sound, tmp_path / "a"), stage=stage).changed
    harmed = Reduced(chosen.kind, chosen.origin, chosen.manifest, changed)
    sentence = refused(workspace, sealed(source, [*sound[:-1], harmed], tmp_path / "b"))
    assert "what its name stands for" not in sentence


def test_a_token_twice_in_a_vocabulary_is_refused(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    name = "subjects/tiny/vocab.parquet"
    assert "once" in refused(workspace, pack(tmp_path / "bad.zip", {**good, name: parquet(_twice(table(good[name])))}))


def test_a_finding_twice_is_one(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    name = "findings.parquet"
    path = pack(tmp_path / "twice.zip", {**good, name: parquet(_twice(table(good[name])))})
    assert import_bundle(workspace, path, findings=Findings(workspace), stage=stage).findings == table(good[name]).num_rows


UNSEEN: dict[str, tuple[int, str, Change]] = {
    "tokens that the vocabulary lacks": (0, "text/contexts.parquet", _set("tokens", lambda old: [2_000_000] * len(old))),
    "a pattern that is none": (1, "parts/0/explanations.parquet", _set("pattern", '{"level": "high"}')),
    "a unit that is nowhere": (1, "parts/0/explanations.parquet", _set("index", "index-nowhere")),
    "a score of a record that is not there": (1, "parts/0/simulations.parquet", _set("context", 5000)),
}


@pytest.mark.parametrize("what", UNSEEN)
def test_what_only_a_page_would_notice_is_noticed_before(workspace: Workspace, source: Workspace, tmp_path: Path, what: str) -> None:
    """Right types, right hashes: the pages' own readers try it first."""
    at, path, change = UNSEEN[what]
    made = taken(source)
    changed = {place: change(found) if place.path == path else found for place, found in made[at].tables.items()}
    made[at] = Reduced(made[at].kind, made[at].origin, made[at].manifest, changed)
    if at == 0:
        made = made[:1]
    if what == "a unit that is nowhere":  # told when it is shown: the text is missing, as where an index was deleted
        assert import_bundle(workspace, sealed(source, made, tmp_path), stage=stage).changed
        return
    assert "cannot be shown" in refused(workspace, sealed(source, made, tmp_path))


def test_columns_of_another_kind_and_broken_parquet_are_refused(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    name = named(good, "mlp.1/units.parquet")
    units = table(good[name])
    at = units.column_names.index("max")
    for made, said in (
        (units.set_column(at, "max", pc.cast(units.column("max"), pa.string())), "another kind"),
        (units.remove_column(at), "lacks the column max"),
        (units.slice(0, 0), "not as this program"),
    ):
        assert said in refused(workspace, pack(tmp_path / "a.zip", {**good, name: parquet(made)}))
    for content in (b"", b"PAR1", good[name][: len(good[name]) // 2], good[name][:100] + b"\0" * 200 + good[name][300:], b"\0" * 5000):
        refused(workspace, pack(tmp_path / "b.zip", {**good, name: content}))


def test_sql_and_html_in_every_text_are_only_text(workspace: Workspace, source: Workspace, tmp_path: Path) -> None:
    """A bundle that is sound but for what its texts say: it is taken in, and means nothing to the database or the page."""
    evil = "'); DROP TABLE units; --<script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x1b[31m{{7*7}}"
    made = taken(source)
    for at, one in enumerate(made):
        changed: dict[Any, Any] = {}
        for place, content in one.tables.items():
            for column in (
                "snippet",
                "text",
                "id",
                "source",
                "author",
                "setting",
                "explainer",
                "reason",
                "said",
                "simulator",
                "calibration",
            ):
                if column in content.column_names and not (column == "text" and place.keys[-1] == "positions"):
                    values = pa.array([evil] * content.num_rows, pa.string())
                    content = content.set_column(content.column_names.index(column), column, values)
            changed[place] = content
        manifest = {**one.manifest, "provenance": {evil: [evil, {evil: None}]}}
        if one.kind == "index":
            manifest["slice"] = {**manifest["slice"], "spec": {"source": evil}, "sources": {evil: 1}}
        else:
            changed = reindexed(Reduced(one.kind, one.origin, manifest, changed), {one.manifest["index"][0]: made[0].run}, {}).tables
            manifest |= {"index": [made[0].run], "part": {**manifest["part"], "indexes": [made[0].run]}}
        made[at] = Reduced(one.kind, one.origin, manifest, changed)
    path = sealed(source, made, tmp_path, evil)
    assert import_bundle(workspace, path, stage=stage).title == evil
    view = load_unit(workspace, UNITS[0])
    assert (view.snippet, view.bands["top"][0].document) == (evil, evil)
    cache = Cache.open(workspace)
    assert cache.ingest() == []
    with cache.cursor() as cursor:
        assert cursor.execute("SELECT count(*) FROM units WHERE snippet = ?", [evil]).fetchall() == [(1,)]
        assert cursor.execute("SELECT text, author FROM explanations").fetchall() == [(evil, evil)]
    cache.close()


def test_findings_that_nobody_could_have_written_stop_the_whole_import(workspace: Workspace, good: Members, tmp_path: Path) -> None:
    rows = table(good["findings.parquet"]).to_pylist()
    schema = table(good["findings.parquet"]).schema
    for change in ({"body": '{"text": "other words"}'}, {"unit": "../../x"}, {"kind": "command"}, {"created": 1e300}, {"version": "x"}):
        bad = pa.Table.from_pylist([{**rows[0], **change}, *rows[1:]], schema=schema)
        refused(workspace, pack(tmp_path / "bad.zip", {**good, "findings.parquet": parquet(bad)}))


@FUZZ
@given(data=st.data())
def test_parquet_with_any_bytes_changed_is_read_or_refused(good: Members, tmp_path: Path, data: st.DataObject) -> None:
    """Behind right checksums: what the reader of tables makes of it is a table of the agreed kind, or a refusal."""
    from core.findings.bundle import schemas

    end, form = data.draw(st.sampled_from([("mlp.1/units.parquet", schemas.UNITS), ("mlp.1/records.parquet", schemas.RECORDS)]))
    content = bytearray(good[named(good, end)])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    _read_or_refuse(tmp_path, bytes(content), form)


def _read_or_refuse(tmp_path: Path, content: bytes, form: Form) -> None:
    path = tmp_path / "fuzzed.parquet"
    path.write_bytes(content)
    try:
        found = tables.read_table(path, form, "x")
    except Refused:
        return
    assert found.schema == form.schema(list(form.columns))
