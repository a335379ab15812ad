"""docs/formats.md names every column and key of the files that are written, with the right type, and its example runs."""

import contextlib
import hashlib
import io
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.causal.ablation_score import AblationScore
from core.causal.ioi_run import run_ioi
from core.causal.steer_run import run_steer
from core.corpus.build import build_slice
from core.corpus.spec import CorpusSpec
from core.findings.findings import Findings
from core.findings.ratings import Ratings
from core.llm.cache import ResponseCache
from core.subject.load import load_subject
from core.units import UnitName
from core.workspace import Workspace
from tests.byte_tokenizer import ByteTokenizer
from tests.models import make_tiny_model
from tests.planted import QuietProgress
from tests.shared_bundle import exported, fill, members
from tests.steerable import steerable
from tests.synthetic import write_synthetic_index
from tests.synthetic_effects import write_synthetic_effect
from tests.synthetic_explanations import write_synthetic_explanations
from tests.synthetic_features import write_synthetic_features

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text("utf8")
SCORE = AblationScore("explain-a.0.0.0", 0.5, 0.1, 0.2, 8, 2, 1.0, (1, 2), "test", "pattern").to_json()
TYPES: dict[str, pa.DataType] = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "binary": pa.binary(),
}


def _table(before: str) -> list[list[str]]:
    """The cells of the first table after the text `before`."""
    rows = [line.strip("|").split("|") for line in PAGE[PAGE.index(before) :].split("\n\n|", 1)[1].split("\n\n")[0].splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def _columns(before: str) -> dict[str, pa.DataType]:
    found: dict[str, pa.DataType] = {}
    for names, kind, *_ in _table(before):
        dtype = pa.list_(TYPES[kind.removeprefix("list of ")]) if kind.startswith("list of ") else TYPES[kind]
        found.update(dict.fromkeys(re.findall(r"`(\w+)`", names), dtype))
    return found


def _keys(before: str) -> set[str]:
    return {name for row in _table(before) for name in re.findall(r"`(\w+)`", row[0])}


def _schema(path: Path) -> dict[str, pa.DataType]:
    schema = pq.read_schema(path)
    return {
        name: pa.list_(kind.value_type) if pa.types.is_list(kind) else kind for name, kind in zip(schema.names, schema.types, strict=True)
    }


def _database(path: Path, table: str) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {name: kind.lower() for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({table})")}


@pytest.fixture
def run(workspace: Workspace) -> Path:
    return workspace.runs / write_synthetic_index(workspace, run="index-20250101-abc123", n_layers=6, width=8, contexts=24)


def test_the_slice_is_as_described(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The river follows the narrow valley.", "utf8")
    made = build_slice(workspace, CorpusSpec(str(tmp_path / "a.txt"), 4, 16), ByteTokenizer())
    assert _schema(made.folder / "contexts.parquet") == _columns("`contexts.parquet`, in rank order")
    assert _schema(made.folder / "documents.parquet") == _columns("`documents.parquet`:")
    assert set(made.info) == _keys("`slice.json`:")
    spec = next(row for row in _table("`slice.json`:") if row[0] == "`spec`")
    assert set(made.info["spec"]) == set(re.findall(r"\w+", spec[1].split("`")[1]))


def test_the_run_and_the_subject_are_as_described(workspace: Workspace, run: Path) -> None:
    manifest: dict[str, Any] = json.loads((run / "manifest.json").read_text("utf8"))
    assert set(manifest) == _keys("Its `kind` says which form")
    for kind in ("units", "records", "positions"):
        assert _schema(run / manifest["files"]["mlp.0"][kind]["path"]) == _columns(f"### {kind}.parquet")
    assert _schema(run / manifest["effects"]["mlp.0"]["path"]) == _columns("### effects/")
    (subject,) = workspace.subjects.iterdir()
    assert set(json.loads((subject / "subject.json").read_text("utf8"))) == _keys("`subject.json` is the card")
    assert _schema(subject / "vocab.parquet") == _columns("`vocab.parquet`, one row")


def test_an_index_of_features_is_as_described(workspace: Workspace) -> None:
    folder = workspace.runs / write_synthetic_features(workspace)
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf8"))
    assert set(manifest) == _keys("Its `kind` says which form")
    assert _schema(folder / manifest["effects"]["resid.0"]["path"]) == _columns("### effects/") | _columns("For a dictionary also")
    assert _schema(folder / manifest["codes"]["resid.0"]["path"]) == _columns("### codes/")
    told = next(row for row in _table("Its `kind` says which form") if row[0] == "`dictionaries`")
    assert set(manifest["dictionaries"]["resid.0"]) == set(re.findall(r"\w+", told[1].split("`")[1])) - {"site"}


def test_a_run_that_explains_is_as_described(workspace: Workspace, run: Path) -> None:
    write_synthetic_explanations(workspace, run="explain-20250101-abc123", units=["tiny/mlp.0/neurons/1"])
    folder = run.parent / "explain-20250101-abc123"
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf8"))
    assert set(manifest) == _keys("`manifest.json` of a run that explains")
    for name, entry in manifest["parts"][0]["files"].items():
        assert _schema(folder / entry["path"]) == _columns(f"### {name}.parquet"), name


def test_a_run_that_ablates_is_as_described(workspace: Workspace, run: Path) -> None:
    write_synthetic_effect(workspace, "tiny/mlp.0/neurons/1", run="effect-20250101-abc123", scores=[SCORE])
    folder = run.parent / "effect-20250101-abc123"
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf8"))
    assert set(manifest) == _keys("`manifest.json` of a run that ablates")
    described = {name: words for name, words, *_ in _table("`manifest.json` of a run that ablates")}
    for name, among in (("units", "`units`"), ("texts", "`texts`"), ("raised", "`raised`, `lowered`"), ("scores", "`scores`")):
        assert set(manifest[name][0]) == set(re.findall(r"\w+", described[among].split("`")[1])), name
    assert set(manifest["request"]) | {"text", "positions"} == set(re.findall(r"`(\w+)`", described["`request`"]))
    for name, entry in manifest["files"].items():
        assert _schema(folder / entry["path"]) == _columns(f"### {name}.parquet of a run that ablates"), name


def test_a_run_that_patches_is_as_described(workspace: Workspace, tmp_path: Path) -> None:
    load_subject(workspace, str(make_tiny_model(tmp_path / "tiny", "llama", 2)))
    folder = workspace.runs / "ioi-20250101-abc123"
    folder.mkdir()
    wording = {"templates": ["# {IO} and {S} . {S} #", "# {S} and {IO} . {S} #"], "names": ["t", "s", "w", "c"]}
    params = {"model": "tiny", "decompositions": ["resid.0/neurons"], "orders": ["gradient"], "pairs": 2, "seeds": 1, "wording": wording}
    run_ioi(workspace, folder, params, QuietProgress())
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf8"))
    assert set(manifest) == _keys("`manifest.json` of a run that patches")
    described = {name: words for name, words, *_ in _table("`manifest.json` of a run that patches")}
    for name in ("sentences", "pieces"):
        assert set(manifest[name][0]) == set(re.findall(r"\w+", described[f"`{name}`"].split("`")[1])), name
    assert set(manifest["decompositions"]["resid.0/neurons"]) == set(re.findall(r"`(\w+)`", described["`decompositions`"]))
    for name, entry in manifest["pieces"][0]["files"].items():
        assert _schema(folder / entry["path"]) == _columns(f"### {name}.parquet of a run that patches"), name
    assert _schema(folder / manifest["sentences"][0]["file"]["path"]) == _columns("### pairs.parquet of a run that patches")


def test_a_run_that_steers_is_as_described(tmp_path: Path) -> None:
    workspace, _ = steerable(tmp_path)
    folder = workspace.runs / "steer-20250101-abc123"
    folder.mkdir()
    params = {"units": ["tiny/mlp.1/neurons/3"], "strengths": [2.0], "text": "The river", "tokens": 2}
    run_steer(workspace, folder, params, QuietProgress())
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf8"))
    assert set(manifest) == _keys("`manifest.json` of a run that steers")
    described = {name: words for name, words, *_ in _table("`manifest.json` of a run that steers")}
    assert set(manifest["units"][0]) == set(re.findall(r"\w+", described["`units`"].split("`")[1]))
    assert set(manifest["request"]) | {"index"} == set(re.findall(r"`(\w+)`", described["`request`"]))
    assert set(manifest["steps"][0]["original"]) == set(re.findall(r"\w+", described["`steps`"].split("`")[3]))


def test_the_databases_of_what_is_kept_are_as_described(workspace: Workspace) -> None:
    with ResponseCache(workspace.path / "llm.sqlite"):
        described = {name: kind for names, kind, _ in _table("`llm.sqlite` (WAL)") for name in re.findall(r"`(\w+)`", names)}
        assert _database(workspace.path / "llm.sqlite", "responses") == described
    Ratings(workspace).list()
    begin = PAGE.index("Its table `ratings`")
    named = re.findall(r"`(\w+)`", PAGE[begin : PAGE.index(".\n", begin)].removeprefix("Its table `ratings`"))
    assert list(_database(workspace.path / "findings.sqlite", "ratings")) == named


def test_what_people_wrote_is_as_described(workspace: Workspace) -> None:
    findings = Findings(workspace, "Ada")
    unit, other = UnitName.parse("tiny/mlp.0/neurons/1"), UnitName.parse("tiny/mlp.0/neurons/2")
    findings.save_note(unit, "Flüsse")
    findings.explain(unit, "x")
    findings.rate(unit, 3)
    findings.label(unit, "Flüsse")
    findings.alike(unit, other)
    made = findings.collections.create("Wet")
    findings.collections.add(made.id, [unit])
    findings.set_usual_author("Ada")
    path = workspace.path / "findings.sqlite"
    described = {name: kind for names, kind, _ in _table("Its table `versions`") for name in re.findall(r"`(\w+)`", names)}
    assert _database(path, "versions") == described
    begin = PAGE.index("Its table `settings`")
    assert set(_database(path, "settings")) <= set(re.findall(r"`(\w+)`", PAGE[begin : PAGE.index("\n\n", begin)]))
    bodies = {kind.strip("`"): set(re.findall(r"`(\w+)`", body)) for kind, body, _ in _table("follows from `parents`")}
    rows = {row["kind"]: row for row in findings.rows()}
    assert {kind: set(json.loads(row["body"])) for kind, row in rows.items()} == bodies
    for row in rows.values():
        content = [row[name] for name in ("entry", "parents", "kind", "unit", "author", "created", "removed", "restores", "body")]
        assert row["version"] == _digest(content, separators=(",", ":"))
    assert rows["label"]["entry"] == _digest(["label", str(unit), "Ada", "Flüsse"])
    assert rows["member"]["entry"] == _digest(["member", made.id, str(unit)])


def _digest(parts: list[Any], **how: Any) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, **how).encode()).hexdigest()[:32]


def test_the_example_reads_the_peak_it_says_it_reads(workspace: Workspace, run: Path) -> None:
    code = PAGE.split("```python\n")[1].split("```")[0].replace('Path("data/workspace/runs/index-20250101-abc123")', f"Path({str(run)!r})")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "formats.md", "exec"), {})
    *_, last = said.getvalue().splitlines()
    _, activation, value = last.split()
    assert float(activation) == pytest.approx(float(value), rel=1e-3)
    assert float(value) > 0


def test_a_bundle_is_documented(workspace: Workspace, tmp_path: Path) -> None:
    fill(workspace)
    held = members(exported(workspace, tmp_path / "four.atlas.zip"))
    assert _keys("`manifest.json` of a bundle:") == json.loads(held["manifest.json"]).keys()
    manifests = [json.loads(data) for name, data in held.items() if name.startswith("runs/") and name.endswith("/manifest.json")]
    index = next(one for one in manifests if one["kind"] == "index" and one["dictionaries"])
    assert index.keys() == _keys("Its `kind` says which form") - {"inputs"} | _keys("The manifest of a reduced index has these keys")
    for end in ("units", "records", "positions"):
        name = next(name for name in held if name.endswith(f"{end}.parquet") and name.startswith("runs/features"))
        (tmp_path / "table.parquet").write_bytes(held[name])
        assert _schema(tmp_path / "table.parquet").items() <= _columns(f"### {end}.parquet").items()
