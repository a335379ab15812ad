"""A workspace with something of everything, opened to be read, and what must not change: every file's bytes, name and time."""

import hashlib
from pathlib import Path

from core.findings.findings import Findings
from core.findings.ratings import Ratings
from core.runs.registry import Registry
from core.units import UnitName
from core.workspace import Workspace
from tests import shared_bundle
from tests.synthetic_dictionaries import write_curves, write_dictionary

UNIT = shared_bundle.UNITS[0]
OTHER = UnitName.parse("tiny/mlp.2/neurons/3")
TEXT = "When I opened the door this morning, I saw"


def fill(workspace: Workspace) -> dict[str, str]:
    """Indexes, features, explanations, an effect, findings, ratings, dictionaries, and runs in several states. Returns their ids."""
    shared_bundle.fill(workspace)
    for name in ("one", "other"):
        write_dictionary(workspace, name, metrics={})
    write_dictionary(workspace, "unmeasured")
    findings = Findings(workspace, "Ada")
    findings.set_usual_author("Ada")
    note = findings.save_note(UNIT, "A second note")
    findings.save_note(UNIT, "changed", entry=note.id, base=note.base)
    findings.label(UNIT, "lists")
    findings.explain(UNIT, "Fires on *lists*.")
    findings.alike(UNIT, OTHER)
    collection = findings.collections.create("Wet", "All *wet* ones")
    findings.collections.add(collection.id, [UNIT, OTHER])
    findings.collections.describe(collection.id, "Wet", "All of them", base=findings.collections.find(collection.id).entry.base)
    Ratings(workspace).add("explain-test.0", UNIT, 3)
    registry = Registry(workspace)
    done = registry.submit("sae", {"model": "tiny", "site": "mlp.1"})
    registry.claim_next("batch")
    registry.finish(done.id)
    write_curves(registry.folder(done.id), {"one": 1.0})
    failed = registry.submit("index", {"model": "tiny", "sites": "mlp.0"})
    registry.claim_next("batch")
    registry.fail(failed.id, "The disk is full.")
    cancelled = registry.submit("ioi", {"model": "tiny"})
    registry.request_cancel(cancelled.id)
    queued = registry.submit("explain", {"units": [str(UNIT)], "settings": [{}]})
    return {"note": note.id, "collection": collection.id, "failed": failed.id, "queued": queued.id, "done": done.id}


def to_read(workspace: Workspace, own: Path) -> Workspace:
    """The same, to be read only."""
    return Workspace.open(workspace.path, own)


def bytes_of(workspace: Workspace) -> dict[str, tuple[str, int]]:
    """Every file and folder of the workspace: its content's hash, and when it was changed."""
    found: dict[str, tuple[str, int]] = {}
    for path in sorted(workspace.path.rglob("*")):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(workspace.path))] = content, path.stat().st_mtime_ns
    return found
