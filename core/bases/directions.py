"""What one unit writes to the residual stream, read from the shelf as a few bytes of one file. No torch."""

import json
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from core.bases.shelf import Shelved, find
from core.errors import AtlasError
from core.units import NEURONS, UnitName
from core.workspace import Workspace

MAX_HEADER = 1 << 20
Floats = npt.NDArray[np.float64]


def residual_direction(workspace: Workspace, unit: UnitName, width: int, weights: str = "") -> Floats | None:
    """The direction [width] in which a unit of a resid site writes: an axis, or a row of its dictionary's decoder up to a positive factor.

    width: of the residual stream. weights: the hash of the dictionary's weights; another one of the same name is not taken. None where it
    is not known here: other sites write through the model's own matrices, and a dictionary may not be on this shelf.
    """
    if unit.site.kind != "resid":
        return None
    if unit.basis == NEURONS:
        if not unit.index < width:
            return None  # of a model that came with another program's files no width is known
        axis = np.zeros(width)
        axis[unit.index] = 1.0
        return axis
    try:
        one = find(workspace, unit.subject, unit.site, unit.basis)
    except AtlasError:
        return None
    if one.hash != weights or one.info.d_out is not None or one.info.d_in != width or not unit.index < one.info.units:
        return None
    return _row(one, unit.index)


def _row(one: Shelved, unit: int) -> Floats | None:
    """A row of the decoder from a safetensors file: eight bytes of length, a header of JSON, then the numbers row by row."""
    try:
        with one.weights.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > MAX_HEADER:
                return None
            entry = _entry(json.loads(file.read(size)), one)
            if entry is None:
                return None
            width = one.info.d_in * 4
            file.seek(8 + size + entry + unit * width)
            content = file.read(width)
    except (OSError, ValueError, TypeError, KeyError, struct.error):
        return None  # what is wrong with the file is said where the dictionary is used
    row = np.frombuffer(content, "<f4").astype(np.float64) if len(content) == width else np.zeros(0)
    return row if row.size and np.isfinite(row).all() else None


def _entry(header: dict[str, Any], one: Shelved) -> int | None:
    """Where the decoder's numbers begin; None where they are not float32 of the shape that is expected."""
    entry: dict[str, Any] = header["encoder" if one.info.tied else "decoder"]
    if entry["dtype"] != "F32" or list(entry["shape"]) != [one.info.units, one.info.d_in]:
        return None
    return int(entry["data_offsets"][0])
