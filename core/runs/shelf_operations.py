"""What the interactive worker does with dictionaries: how alike two are, and one in the format of another tool. Imports torch."""

import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from core.bases.dictionary import load
from core.bases.formats import saelens
from core.bases.mmcs import max_cosines
from core.bases.page_limits import ALIKE_ABOVE, MAX_EXPORT, MAX_PRODUCTS, export_bytes, products
from core.bases.shelf import Shelved, find_named
from core.errors import AtlasError
from core.remembered import Remembered
from core.runs.interactive import Say
from core.workspace import Workspace

_KEPT_SECONDS = 24 * 3600.0
"""Files that were made to be saved by a browser are removed by the first export after so long."""


class ShelfOperations:
    """`alike` and `export` of one workspace, see `core.runs.operations`."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._directions: Remembered[str, Tensor] = Remembered(2)

    def alike(self, args: Mapping[str, Any], say: Say) -> dict[str, Any]:
        """Both directions of one pair, with the hashes of the weights that they are of. Raises AtlasError."""
        one, other = self._one(args, "one"), self._one(args, "other")
        if products(one.info, other.info) > MAX_PRODUCTS:
            raise AtlasError(
                f"{one.info.name} and {other.info.name} are too large to be compared on a page:"
                f" use python -m core sae compare {one.info.key} {other.info.key}."
            )
        say(f"comparing {one.info.name} and {other.info.name}")
        first, second = self._rows(one), self._rows(other)
        found: dict[str, Any] = {"hashes": [one.hash, other.hash]}
        for way, rows, others in (("forth", first, second), ("back", second, first)):
            best = max_cosines(rows, others)
            found[way] = {"mean": float(best.double().mean()), "above": float((best > ALIKE_ABOVE).double().mean())}
        return found

    def export(self, args: Mapping[str, Any], say: Say) -> dict[str, Any]:
        """A zip of the dictionary's folder in SAELens's format, below scratch/exports. Raises AtlasError."""
        one = self._one(args, "dictionary")
        if export_bytes(one.info) > MAX_EXPORT:
            raise AtlasError(
                f"{one.info.name} is too large to be saved by a browser: use python -m core sae export {one.info.key} --out FOLDER."
            )
        folder = self._workspace.scratch / "exports"
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.zip"):
            if time.time() - old.stat().st_mtime > _KEPT_SECONDS:
                old.unlink(missing_ok=True)
        say(f"writing {one.info.name} in SAELens's format")
        target = folder / f"{one.info.key.replace('/', '-')}-{one.hash[:8]}.zip"
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            written = Path(temporary) / one.info.name
            notes = saelens.export(load(one), written)
            packed = Path(temporary) / target.name
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
                for path in sorted(written.iterdir()):
                    archive.write(path, f"{one.info.name}/{path.name}")
            packed.replace(target)
        return {"file": target.name, "bytes": target.stat().st_size, "hash": one.hash, "notes": notes}

    def _one(self, args: Mapping[str, Any], name: str) -> Shelved:
        value = args.get(name)
        if not isinstance(value, str):
            raise AtlasError(f"The question needs “{name}”, a dictionary.")
        return find_named(self._workspace, value)

    def _rows(self, one: Shelved) -> Tensor:
        """Decoder directions [units, d_out], kept from before."""
        return self._directions.get(one.hash, lambda: load(one).decoder)
