"""A cache of latents as delphi writes one, of made-up activations that are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

ROWS, LENGTH, LATENTS = 40, 12, 8
Floats = npt.NDArray[np.float32]


def activations(seed: int = 0) -> tuple[Floats, npt.NDArray[np.int64]]:
    """[rows, length, latents], sparse, the last latent dead; and tokens [rows, length]."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((ROWS, LENGTH, LATENTS)) < 0.08, rng.lognormal(0, 1, (ROWS, LENGTH, LATENTS)), 0)
    values[..., -1] = 0
    return values.astype(np.float16).astype(np.float32), rng.integers(0, 50, (ROWS, LENGTH))


def write_cache(folder: Path, *, splits: int = 2, module: str = "layers.3", change: Any = None) -> Path:
    """As delphi writes one: a file a range of latents, named by its ends; the tokens in each."""
    values, tokens = activations()
    place = folder / module
    place.mkdir(parents=True)
    bounds = np.linspace(0, LATENTS, splits + 1).astype(int)
    for first, last in zip(bounds[:-1], bounds[1:] - 1, strict=True):
        row, position, unit = np.nonzero(values[..., first : last + 1])
        arrays = {
            "locations": np.stack([row, position, unit], axis=1).astype(np.uint16),
            "activations": values[..., first : last + 1][row, position, unit].astype(np.float16),
            "tokens": tokens,
        }
        if change is not None:
            change(arrays)
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, place / f"{first}_{last}.safetensors")
    said = {"cache_ctx_len": LENGTH, "model_name": "EleutherAI/pythia-70m"}
    (place / "config.json").write_text(json.dumps(said))
    return folder
