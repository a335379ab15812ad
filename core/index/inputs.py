"""The inputs of an index's sites, kept as they are read: whatever of a site is wanted later then needs no pass of the model.

`inputs/<site>.bf16` has a row for each counted token of the slice, in its order: the numbers of the site's input (see
`core.subject.site_input`) as little-endian bfloat16. The file has its whole length from the beginning and each block is written to its
place, so workers share it, and a block that is read again after a restart is written over itself.
"""

import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from core.corpus.slice import Slice
from core.errors import explain_os_error
from core.subject.site_input import Of, SiteInput, input_of
from core.subject.subject import Handler, Subject
from core.units import Site
from core.workspace import FileNote, is_intact, note_file

Ints = npt.NDArray[np.int64]
FOLDER = "inputs"
_BYTES = 2
_DOING = "keeping the inputs of the sites"


def inputs_path(run_dir: Path, site: Site) -> Path:
    return run_dir / FOLDER / f"{site}.bf16"


def places_of(lengths: npt.NDArray[Any], first: int) -> Ints:
    """The row at which each context's tokens begin, and after them the number of rows, [contexts + 1]. lengths: with a BOS, if any."""
    return np.concatenate([[0], np.cumsum(np.maximum(lengths.astype(np.int64) - first, 0))])


class InputWriter:
    """Writes the inputs of a run's sites while blocks are read."""

    def __init__(self, run_dir: Path, subject: Subject, sites: Iterable[Site], piece: Slice) -> None:
        """Raises AtlasError for a site that is not there."""
        self._run_dir, self._piece = run_dir, piece
        self._places = places_of(piece.lengths, piece.first)
        self.inputs = {site: input_of(subject, site) for site in sites}
        self._rows: dict[Site, npt.NDArray[np.int16]] = {}

    def is_whole(self) -> bool:
        """Whether every file is there in its whole length. Then what was read before the run was cut off is in it."""
        paths = {site: inputs_path(self._run_dir, site) for site in self.inputs}
        return all(path.is_file() and path.stat().st_size == self._size(site) for site, path in paths.items())

    @contextmanager
    def watching(self, subject: Subject, ranks: range) -> Generator[None]:
        """While the context is open, the pass of `subject` is over the contexts of these ranks, and their inputs are written."""
        with ExitStack() as stack:
            for site, given in self.inputs.items():
                stack.enter_context(given.watched(subject, self._handler(site, ranks)))
            yield

    def reserve(self) -> None:
        """Make the files, in their whole length, before any worker opens them. Raises AtlasError when the disk has no room for them."""
        try:
            (self._run_dir / FOLDER).mkdir(exist_ok=True)
            for site in self.inputs:
                _reserve(inputs_path(self._run_dir, site), self._size(site))
        except OSError as error:
            raise explain_os_error(error, _DOING) from None

    def open(self) -> None:
        """Map the files, which are there. Raises AtlasError."""
        tokens = int(self._places[-1])
        try:
            for site, given in self.inputs.items() if tokens else ():
                self._rows[site] = np.memmap(inputs_path(self._run_dir, site), "<i2", "r+", shape=(tokens, given.width))
        except OSError as error:
            raise explain_os_error(error, _DOING) from None

    def flush(self) -> None:
        """Wait until everything is on disk: a part that says that blocks were read must not outlive their inputs."""
        for rows in self._rows.values():
            cast(Any, rows).flush()

    def notes(self) -> dict[str, dict[str, Any]]:
        """For the manifest: {site: {of, width, path, bytes, sha256}}."""
        return {
            str(site): {"of": given.of, "width": given.width, **note_file(inputs_path(self._run_dir, site), self._run_dir)}
            for site, given in self.inputs.items()
        }

    def _handler(self, site: Site, ranks: range) -> Handler:
        lengths = self._piece.lengths[ranks.start : ranks.stop].astype(np.int64)
        first, end = self._places[ranks.start], self._places[ranks.stop]

        def write(stands: torch.Tensor) -> None:
            if first == end:
                return
            shaped = stands.reshape(len(ranks), -1, stands.shape[-1])
            at = np.arange(shaped.shape[1])
            counted = torch.from_numpy((at >= self._piece.first) & (at < lengths[:, None])).to(shaped.device)
            self._rows[site][first:end] = shaped[counted].to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy()

        return write

    def _size(self, site: Site) -> int:
        return int(self._places[-1]) * self.inputs[site].width * _BYTES


@dataclass(frozen=True)
class KeptInput:
    """The input of one site on disk. rows: [tokens, width] int16 that hold bfloat16, not in memory."""

    given: SiteInput
    rows: npt.NDArray[np.int16]

    def tensor(self, places: Ints) -> torch.Tensor:
        """The rows at these places, ascending, as bfloat16 [places, width]."""
        together = len(places) > 0 and places[-1] - places[0] + 1 == len(places)
        rows = self.rows[places[0] : places[-1] + 1] if together else self.rows[places]
        return torch.from_numpy(np.array(rows, np.int16)).view(torch.bfloat16)


def kept_input(run_dir: Path, manifest: Mapping[str, Any], site: Site, tokens: int) -> KeptInput | None:
    """What a run has kept of a site. tokens: counted ones of its slice.

    None when it has kept nothing, and when the file is gone or not what was written: the model can always be read again.
    """
    said: dict[str, Any] = (manifest.get("inputs") or {}).get(str(site)) or {}
    try:
        path, width, of = inputs_path(run_dir, site), int(said["width"]), str(said["of"])
        # The path is made here: the note's own may lead anywhere.
        note = FileNote(path=f"{FOLDER}/{path.name}", bytes=int(said["bytes"]), sha256=str(said["sha256"]))
        fits = of in ("mlp", "site") and width > 0 and tokens > 0 and note["bytes"] == tokens * width * _BYTES
        if not fits or not is_intact(run_dir, note):
            return None
        return KeptInput(SiteInput(site, cast(Of, of), width), np.memmap(path, "<i2", "r", shape=(tokens, width)))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _reserve(path: Path, size: int) -> None:
    """Give the file its length, and the room on disk for it where the system can: a full disk is then found before anything is read."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if os.fstat(file).st_size != size:
            os.ftruncate(file, size)
        reserve = getattr(os, "posix_fallocate", None)
        if reserve is not None and size:
            reserve(file, 0, size)
    finally:
        os.close(file)
