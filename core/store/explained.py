"""What was explained: the runs of kind `explain` of the workspace, read from their manifests."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from core.errors import AtlasError
from core.remembered import FileKey, Remembered
from core.store.catalog import NewerManifest, scan_manifests
from core.workspace import Workspace

MANIFEST_SCHEMA = 1
FILES = ("explanations", "scores", "simulations")
"""The files of a part. Their columns are in docs/formats.md."""


@dataclass(frozen=True)
class ExplainedPart:
    """A part that is finished and never changes: the pieces of work it holds, and `{name: {path, bytes, sha256}}` of its files."""

    number: int
    work: tuple[str, ...]
    files: dict[str, dict[str, Any]]

    def hash(self) -> str:
        """Changes whenever a file of the part does."""
        return "".join(str(self.files[name]["sha256"]) for name in FILES)


@dataclass(frozen=True)
class ExplainedRun:
    """One run of explaining as its manifest describes it.

    settings: as JSON, in the run's order; what they mean is `core.autointerp.request.Setting`'s to say. index: the index runs that records
    came from. spend: calls, cached, tokens_in, tokens_out, money; None when no language model was asked.
    """

    run: str
    folder: Path
    written: float
    """When the manifest was last replaced, seconds since 1970."""
    state: str
    generation: int
    work_done: int
    work_total: int
    study: str
    settings: tuple[dict[str, Any], ...]
    units: int
    index: tuple[str, ...]
    parts: tuple[ExplainedPart, ...]
    spend: dict[str, Any] | None
    provenance: dict[str, Any]

    @property
    def complete(self) -> bool:
        return self.state == "complete"

    def path(self, part: ExplainedPart, name: str) -> Path:
        """The file `name` of a part."""
        return self.folder / part.files[name]["path"]

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever the rows of the cache that come from this run would."""
        counts = [self.generation, self.state, self.work_done, self.work_total, self.study, self.units]
        return json.dumps([*counts, self.settings, self.index, self.spend, [[part.number, part.hash()] for part in self.parts]])


_manifests: Remembered[FileKey, ExplainedRun | None] = Remembered(4096)


def explained_runs(workspace: Workspace) -> list[ExplainedRun]:
    """Every readable run of explaining, the newest first. Damaged manifests are left out; `scan` names them."""
    return scan(workspace)[0]


def load_explained(workspace: Workspace, run: str) -> ExplainedRun:
    """One run of explaining. Raises AtlasError."""
    found, broken = scan(workspace)
    for explained in found:
        if explained.run == run:
            return explained
    raise AtlasError(broken.get(run) or f"The run “{run[:80]}” has no explanations here.")


def scan(workspace: Workspace) -> tuple[list[ExplainedRun], dict[str, str]]:
    """Readable runs of explaining, the newest first, and one sentence by run for each manifest that cannot be read.

    A manifest of which not even the kind can be read is among the latter.
    """
    found, broken = scan_manifests(workspace, _manifests, _read)
    return sorted(found, key=lambda one: (-one.written, one.run)), broken


def _read(path: Path, key: FileKey) -> ExplainedRun | None:
    document: dict[str, Any] = json.loads(path.read_text("utf8"))
    if document["kind"] != "explain":
        return None
    if document["schema"] > MANIFEST_SCHEMA:
        raise NewerManifest(document["schema"])
    folder = path.parent
    parts = tuple(
        ExplainedPart(int(part["number"]), tuple(map(str, part["work"])), {name: part["files"][name] for name in FILES})
        for part in document["parts"]
    )
    for part in parts:  # what is read later must be inside the run's folder
        for entry in part.files.values():
            if not (folder / entry["path"]).resolve().is_relative_to(folder.resolve()) or int(entry["bytes"]) < 0 or not entry["sha256"]:
                raise ValueError(f"part {part.number}")
    if len({part.number for part in parts}) != len(parts):
        raise ValueError("a part is named twice")
    return ExplainedRun(
        run=folder.name,
        folder=folder,
        written=key[1] / 1e9,
        state=str(document["state"]),
        generation=int(document["generation"]),
        work_done=int(document["work_done"]),
        work_total=int(document["work_total"]),
        study=str(document.get("study") or ""),
        settings=tuple(dict(setting) for setting in document["settings"]),
        units=int(document["units"]),
        index=tuple(map(str, document["index"])),
        parts=parts,
        spend=None if document.get("spend") is None else dict(document["spend"]),
        provenance=dict(document.get("provenance") or {}),
    )
