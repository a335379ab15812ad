"""A workspace with something of everything that a bundle carries, and what tests do to the archives: unpack, change, pack again."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from core.findings.bundle.archive import MANIFEST
from core.findings.bundle.exporting import export_bundle
from core.findings.findings import Findings
from core.units import UnitName
from core.workspace import Workspace
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
