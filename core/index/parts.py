"""The parts of an index run: each holds everything read so far from one share of the slice, and replaces the one before it.

A part is a folder `parts/<share>-<next block>/` with the sketches of all sites and a `part.json`. It is written whole or
not at all, and on disk before the one it replaces is removed; resuming takes the newest intact one of each share.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.index.derive import Derived
from core.index.files import read_sketch, write_sketch
from core.index.sketch import Contexts, Sketch
from core.units import Site
from core.workspace import FileNote, is_intact, whole_folder, write_json

Files = dict[str, dict[str, FileNote]]


@dataclass(frozen=True)
class Share:
    """A contiguous range of blocks that one worker reads."""

    number: int
    first: int
    end: int


def divide(blocks: int, workers: int) -> list[Share]:
    """Divide blocks evenly; a worker more than there are blocks gets none."""
    return [Share(i, i * blocks // workers, (i + 1) * blocks // workers) for i in range(workers)]


@dataclass(frozen=True)
class Part:
    """A finished part on disk."""

    folder: Path
    share: int
    """−1 for what several shares were merged into."""
    next_block: int
    tokens: int
    signed: dict[str, bool]
    """Site -> whether any unit was below zero."""
    files: Files
    """Site -> kind -> note; paths are relative to the run's folder."""

    def load(self, sites: Iterable[Site], basis: str, contexts: Contexts) -> dict[Site, Sketch]:
        """The sketches it holds. Raises AtlasError if it is damaged."""
        return {site: read_sketch(self.folder / str(site), str(site), basis, contexts) for site in sites}


def write_part(
    run_dir: Path, name: str, share: int, next_block: int, sketches: Mapping[Site, Sketch], derive: Callable[[Sketch], Derived]
) -> Part:
    """Write sketches to `parts/<name>/`, whole or not at all."""
    target = run_dir / "parts" / name
    files: Files = {}
    signed = {str(site): bool(sketch.lows.min(initial=0) < 0) for site, sketch in sketches.items()}
    tokens = next(iter(sketches.values())).tokens
    with whole_folder(target) as folder:
        for site, sketch in sketches.items():
            notes = write_sketch(folder / str(site), sketch, derive)
            files[str(site)] = {kind: {**note, "path": f"parts/{name}/{note['path']}"} for kind, note in notes.items()}
        write_json(folder / "part.json", {"share": share, "next_block": next_block, "tokens": tokens, "signed": signed, "files": files})
    return Part(target, share, next_block, tokens, signed, files)


def find_parts(run_dir: Path, log: Callable[[str], None]) -> dict[int, Part]:
    """The newest intact part of each share. Unfinished and damaged ones are removed, and said so in the log."""
    found: dict[int, Part] = {}
    for folder in sorted((run_dir / "parts").glob("*")):
        part = None if folder.name.startswith(".") else _read(run_dir, folder)
        if part is None:
            log(f"removed {folder.name}, which was not finished or is damaged")
            shutil.rmtree(folder, ignore_errors=True)
        elif part.share not in found or part.next_block > found[part.share].next_block:
            found[part.share] = part
    return found


def newest_parts(run_dir: Path) -> dict[int, Part]:
    """The newest part of each share that workers have finished, while they are at work: nothing is checked or removed."""
    found: dict[int, Part] = {}
    for folder in sorted((run_dir / "parts").glob("[!.]*")):
        part = _describe(folder)
        if part is not None and part.share >= 0 and (part.share not in found or part.next_block > found[part.share].next_block):
            found[part.share] = part
    return found


def remove_other_parts(run_dir: Path, prefix: str, keep: str) -> None:
    """Remove the parts whose names begin with `prefix` and that `keep` has replaced."""
    for folder in (run_dir / "parts").glob(f"{prefix}*"):
        if folder.name != keep:
            shutil.rmtree(folder, ignore_errors=True)


def _describe(folder: Path) -> Part | None:
    try:
        about = json.loads((folder / "part.json").read_text("utf8"))
        return Part(folder, int(about["share"]), int(about["next_block"]), int(about["tokens"]), about["signed"], about["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(run_dir: Path, folder: Path) -> Part | None:
    part = _describe(folder)
    if part is None or not all(is_intact(run_dir, note) for notes in part.files.values() for note in notes.values()):
        return None
    return part
