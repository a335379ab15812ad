"""Checkpoints of a training run: everything that its next step depends on, in a folder that is there whole or not at all.

`checkpoints/<number>/` holds state.safetensors and state.json, which notes its size and hash. A new one is written before the one before
is removed, so a kill at any moment leaves one to go on from.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from core.bases.dictionary import read_tensors
from core.errors import AtlasError
from core.workspace import FileNote, is_intact, note_file, whole_folder, write_json

FOLDER = "checkpoints"
_TENSORS, _DOCUMENT = "state.safetensors", "state.json"
SCHEMA = 1


def save(run_dir: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> Path:
    """Write a checkpoint, then remove the older ones. `document` is JSON."""
    home = run_dir / FOLDER
    home.mkdir(exist_ok=True)
    before = _found(home)
    target = home / f"{max((int(one.name) for one in before), default=-1) + 1:06d}"
    with whole_folder(target) as folder:
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, folder / _TENSORS)
        write_json(folder / _DOCUMENT, {"schema": SCHEMA, "tensors": note_file(folder / _TENSORS, folder), **document})
    for one in before:
        shutil.rmtree(one, ignore_errors=True)
    for left in home.glob(".*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    return target


def load(run_dir: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest checkpoint that is intact: its tensors and document. None when there is none."""
    for folder in reversed(_found(run_dir / FOLDER)):
        try:
            document: dict[str, Any] = json.loads((folder / _DOCUMENT).read_text("utf8"))
            note = document["tensors"]
            if document["schema"] != SCHEMA or not is_intact(folder, FileNote(path=_TENSORS, bytes=note["bytes"], sha256=note["sha256"])):
                continue
            return read_tensors(folder / _TENSORS), document
        except (OSError, ValueError, KeyError, TypeError, AtlasError):
            continue
    return None


def remove(run_dir: Path) -> None:
    """A finished run needs none."""
    shutil.rmtree(run_dir / FOLDER, ignore_errors=True)


def _found(home: Path) -> list[Path]:
    """Oldest first."""
    return sorted((one for one in home.glob("[0-9]*") if one.name.isdigit() and one.is_dir()), key=lambda one: int(one.name))
