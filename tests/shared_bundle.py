"""A workspace with something of everything that a bundle carries, and what tests do to the archives: unpack, change, pack again."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from core.errors import AtlasError
from core.findings.bundle.archive import MANIFEST
from core.findings.bundle.exporting import export_bundle
from core.findings.bundle.importing import import_bundle
from core.findings.bundle.reduced import Reduced
from core.findings.bundle.staging import stage
from core.findings.bundle.taking import reindexed, taken_explanations, taken_index
from core.findings.findings import Findings
from core.store.catalog import find_unit
from core.store.explained import explained_runs
from core.units import UnitName
from core.workspace import Workspace, write_json
from tests.synthetic import write_synthetic_index
from tests.synthetic_effects import write_synthetic_effect
from tests.synthetic_explanations import write_synthetic_explanations
from tests.synthetic_features import write_synthetic_features

UNITS = tuple(
    map(UnitName.parse, ("tiny/mlp.1/neurons/5", "tiny/mlp.2/neurons/3", "tiny/resid.0/planted-r2/5", "tiny/resid.0/planted-r2/2"))
)
Members = dict[str, bytes]


def fill(workspace: Workspace) -> None:
    """Neurons and features, explanations of three units and an ablation of one, and what a person wrote."""
    write_synthetic_features(workspace)
    write_synthetic_index(workspace)
    identities = write_synthetic_explanations(workspace, units=("tiny/mlp.1/neurons/0", str(UNITS[0]), str(UNITS[1])))
    score = {"explanation": identities[1], "score": 0.5, "simulated": 0.1, "mean": 0.2, "tokens": 8, "records": 2, "coverage": 1.0}
    score |= {"contexts": [1, 2], "split": "test", "simulator": "pattern", "reason": ""}
    write_synthetic_effect(workspace, str(UNITS[0]), scores=[score])
    findings = Findings(workspace, "Ada")
    findings.save_note(UNITS[0], "Fires in *lists*. <script>alert(1)</script>")
    findings.rate(UNITS[0], 4)


def exported(workspace: Workspace, path: Path, units: Sequence[UnitName] = UNITS) -> Path:
    export_bundle(workspace, units, path, title="Four units", findings=Findings(workspace))
    return path


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def pack(path: Path, content: Members, *, honest: bool = True, change: Callable[[dict[str, Any]], object] | None = None) -> Path:
    """Write an archive of some members. honest: the manifest names them and their hashes. change: what else is done to the manifest."""
    manifest: dict[str, Any] = json.loads(content[MANIFEST])
    if honest:
        rest = {name: data for name, data in content.items() if name != MANIFEST}
        manifest["files"] = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in rest.items()}
    if change is not None:
        change(manifest)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (content | {MANIFEST: json.dumps(manifest).encode()}).items():
            archive.writestr(name, data)
    return path


def snapshot(workspace: Workspace) -> dict[str, str]:
    """Every file of a workspace by its content; of what people wrote the rows, which SQLite writes where it likes."""
    files = [path for path in sorted(workspace.path.rglob("*")) if path.is_file() and not path.name.startswith("findings.sqlite")]
    found = {str(path.relative_to(workspace.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return found | {"findings": json.dumps(Findings(workspace).rows(), sort_keys=True)}


def refused(workspace: Workspace, path: Path) -> str:
    """The one sentence with which a file is refused; the workspace must be as it was."""
    before = snapshot(workspace)
    with pytest.raises(AtlasError) as caught:
        import_bundle(workspace, path, findings=Findings(workspace), stage=stage)
    assert snapshot(workspace) == before
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 500
    return sentence


def sealed(source: Workspace, made: list[Reduced], tmp_path: Path, title: str = "") -> Path:
    """A bundle whose names and hashes are right, whatever the runs hold."""
    folder = tmp_path / "made"
    folder.mkdir(parents=True)
    for one in made:
        one.write(folder / "runs" / one.run)
    (folder / "subjects" / "tiny").mkdir(parents=True)
    (folder / "subjects" / "tiny" / "vocab.parquet").write_bytes((source.subjects / "tiny" / "vocab.parquet").read_bytes())
    write_json(folder / "subjects" / "tiny" / "subject.json", made[0].manifest["subject"])
    head: dict[str, Any] = {"format": "neuron-atlas-bundle", "schema": 1, "title": title, "units": [str(UNITS[0])]}
    head["runs"] = [{"run": one.run, "kind": one.kind, "origin": one.origin} for one in made]
    content = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return pack(tmp_path / "sealed.zip", {**content, MANIFEST: json.dumps(head).encode()})


def taken(source: Workspace) -> list[Reduced]:
    """An index of one unit, and its explanation."""
    index = taken_index(source, find_unit(source, UNITS[0]), {UNITS[0].site: [UNITS[0].index]}, range(64))
    explained = taken_explanations(explained_runs(source)[0], {str(UNITS[0])})
    assert explained is not None
    return [index, reindexed(explained, {"index-test": index.run}, {})]


def parquet(table: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, store_schema=False)
    return sink.getvalue()


def table(content: bytes) -> Any:
    return pq.read_table(io.BytesIO(content))


def named(good: Members, end: str, start: str = "runs/") -> str:
    return next(name for name in good if name.endswith(end) and name.startswith(start))
