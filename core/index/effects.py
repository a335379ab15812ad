"""What a unit writes, from the weights alone: its direct effect on the logits, and the units that write in the same direction."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from core.bases.basis import Basis
from core.index.files import UNITS_PER_GROUP
from core.index.jit import njit
from core.index.sketch import Array
from core.subject.subject import Subject
from core.units import Site
from core.workspace import FileNote, note_file, write_atomic

TOKENS = 15
SIMILAR = 12
_CHUNK = 256
MOST_CANDIDATES = 1 << 16
"""Similar units are looked for in as many neighbouring layers as give at most this many: all pairs of a large model would take hours."""


def effects_path(run_dir: Path, site: Site) -> Path:
    """Where the effects of a site are kept."""
    return run_dir / "effects" / f"{site}.parquet"


def write_effects(run_dir: Path, subject: Subject, sites: Mapping[Site, Basis], on_site: Callable[[int, int], None]) -> dict[str, FileNote]:
    """Write effects/<site>.parquet for every site, skipping what an earlier attempt finished. Returns the files' notes.

    The direct effect of a unit with write direction w on the logit of token v is (γ ⊙ W_U[v]) · w: the final norm's gain is kept and its
    division by the size of the residual stream left out, so values compare tokens for one unit, not units with each other ("logit lens",
    nostalgebraist 2020).
    """
    (run_dir / "effects").mkdir(exist_ok=True)
    unembedding = subject.unembedding()
    units: dict[Site, torch.Tensor] = {}
    notes: dict[str, FileNote] = {}
    for done, (site, basis) in enumerate(sites.items()):
        path = effects_path(run_dir, site)
        if not path.exists():
            # Only the neighbours' directions are in memory: all of a large model's would be as large as its weights.
            units = {other: units[other] if other in units else _of_length_one(subject, sites[other]) for other in _neighbours(site, sites)}
            sink = pa.BufferOutputStream()
            pq.write_table(
                _table(site, basis, basis.writes(subject), unembedding, units), sink, compression="zstd", row_group_size=UNITS_PER_GROUP
            )
            write_atomic(path, sink.getvalue().to_pybytes())
        notes[str(site)] = note_file(path, run_dir)
        on_site(done + 1, len(sites))
    return notes


def _of_length_one(subject: Subject, basis: Basis) -> torch.Tensor:
    """The write directions of a site, each divided by its length: [units, d_model]."""
    directions = basis.writes(subject)
    return directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-30)


def _neighbours(site: Site, sites: Mapping[Site, Basis]) -> list[Site]:
    """The sites nearest in depth, as many as `MOST_CANDIDATES` allows, in their order."""
    order = list(sites)
    nearest = sorted(sites, key=lambda other: (abs(other.layer - site.layer), order.index(other)))
    chosen: list[Site] = []
    units = 0
    for other in nearest:
        units += sites[other].units
        if chosen and units > MOST_CANDIDATES:
            break
        chosen.append(other)
    return sorted(chosen, key=order.index)


def _table(site: Site, basis: Basis, directions: torch.Tensor, unembedding: torch.Tensor, near_by: Mapping[Site, torch.Tensor]) -> Any:
    """The rows of one site as a pyarrow table. near_by: the directions of length one to compare with, those of `site` among them."""
    neighbours = list(near_by)
    candidates = torch.cat(list(near_by.values()))
    owners = np.concatenate([np.full(len(each), i) for i, each in enumerate(near_by.values())])
    numbers = np.concatenate([np.arange(len(each)) for each in near_by.values()])
    own = int(np.flatnonzero(owners == neighbours.index(site))[0])
    raised, lowered, similar = [], [], []
    with torch.inference_mode():
        for start in range(0, directions.shape[0], _CHUNK):
            logits = (directions[start : start + _CHUNK] @ unembedding.T).cpu().numpy()
            cosines = near_by[site][start : start + _CHUNK] @ candidates.T
            rows = torch.arange(cosines.shape[0])
            cosines[rows, own + start + rows] = -2  # not itself
            raised.append(largest(logits, TOKENS))
            lowered.append(largest(-logits, TOKENS))
            similar.append(largest(cosines.cpu().numpy(), min(SIMILAR, candidates.shape[0] - 1)))
    up, down, near = (tuple(np.concatenate(pieces) for pieces in zip(*found, strict=True)) for found in (raised, lowered, similar))
    names = np.array([f"{other}/" for other in neighbours], dtype=object)
    labels = names[owners[near[0].reshape(-1)]] + numbers[near[0].reshape(-1)].astype(str).astype(object)
    units = directions.shape[0]
    return pa.table(
        {
            "unit": np.arange(units, dtype=np.int32),
            "raised": _lists(up[0]),
            "raised_logits": _lists(up[1]),
            "lowered": _lists(down[0]),
            "lowered_logits": _lists(-down[1]),
            "similar": pa.ListArray.from_arrays(_steps(units, near[0].shape[1]), pa.array(labels.tolist(), pa.string())),
            "similar_cosines": _lists(near[1]),
            **_of_dictionary(basis),
        }
    )


def _of_dictionary(basis: Basis) -> dict[str, Array]:
    """What a dictionary's weights say of each unit: its bias, its threshold (or null), and the cosine of what it reads and writes."""
    one = basis.dictionary
    if one is None:
        return {}
    encoder, decoder = one.encoder, one.decoder
    same = encoder.shape == decoder.shape
    cosine = torch.nn.functional.cosine_similarity(encoder, decoder, dim=1) if same else torch.full_like(one.bias, torch.nan)
    threshold = one.tensors.get("threshold", torch.full_like(one.bias, torch.nan))
    return {"bias": one.bias.cpu().numpy(), "threshold": threshold.cpu().numpy(), "encoder_decoder_cosine": cosine.cpu().numpy()}


def _steps(rows: int, width: int) -> Array:
    return np.arange(rows + 1, dtype=np.int32) * width


def _lists(values: Array) -> Any:
    return pa.ListArray.from_arrays(_steps(*values.shape), np.ascontiguousarray(values.reshape(-1)))


def largest(values: Array, count: int) -> tuple[Array, Array]:
    """Indices (int32) and values (float32) [rows, count] of each row's largest, best first, of equals the lower index first."""
    indices = np.empty((values.shape[0], count), np.int32)
    found = np.empty((values.shape[0], count), np.float32)
    _largest(np.ascontiguousarray(values, np.float32), indices, found)
    return indices, found


@njit(nogil=True, cache=True)
def _largest(values: Any, indices: Any, found: Any) -> None:
    count = indices.shape[1]
    for row in range(values.shape[0]):
        filled = 0
        for column in range(values.shape[1]):
            value = values[row, column]
            if filled == count and not value > found[row, count - 1]:
                continue
            place = filled if filled < count else count - 1
            while place > 0 and found[row, place - 1] < value:
                indices[row, place], found[row, place] = indices[row, place - 1], found[row, place - 1]
                place -= 1
            indices[row, place], found[row, place] = column, value
            filled = min(filled + 1, count)
