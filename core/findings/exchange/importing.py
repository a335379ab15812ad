"""Import of whatever somebody sent: a bundle, or the files of another program, told apart by their content."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from core.findings.bundle.archive import MANIFEST, Refused
from core.findings.bundle.importing import FindingsMerge, Imported, import_bundle
from core.findings.exchange.sources import check_zip, is_zip
from core.findings.exchange.staging import NONE, Wishes, stage_foreign_apart
from core.workspace import Workspace


def import_any(workspace: Workspace, path: Path, *, findings: FindingsMerge | None = None, wishes: Wishes = NONE) -> Imported:
    """Take a file or folder in. Doing so twice changes nothing. Raises AtlasError, and then leaves everything as it was."""
    if not path.exists() or is_bundle(path):
        return import_bundle(workspace, path, findings=findings)
    wishes = replace(wishes, subjects=str(workspace.subjects.absolute()))
    return import_bundle(workspace, path, findings=findings, stage=partial(stage_foreign_apart, wishes=wishes))


def is_bundle(path: Path) -> bool:
    """Whether a path is a zip with a bundle's manifest, or a zip that is not whole: the reader of bundles says what is wrong with it."""
    if path.is_dir() or not is_zip(path):
        return path.name.endswith(".atlas.zip") and not path.is_dir()
    try:
        return MANIFEST in check_zip(path)
    except Refused:
        return True
