"""Gemma Scope: `params.npz` with JumpReLU weights (Lieberum et al. 2024). Model and site stand in nothing but the path.

Such as `google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz`. The encoder reads x itself.
"""

import re

from core.bases.formats.found import Found
from core.bases.formats.safe import Place, check_shapes, load_npz
from core.bases.info import MAX_UNITS
from core.errors import AtlasError
from core.units import Site

WEIGHTS = "params.npz"
_NAMES = {"W_enc": "encoder", "b_enc": "bias", "W_dec": "decoder", "b_dec": "decoder_bias", "threshold": "threshold"}
_REPOSITORY = re.compile(r"gemma-scope-(\d+b)-(pt|it)-(res|att|mlp|transcoders)")
_SITES = {"res": "resid", "att": "attn"}


def read(place: Place, name: str = WEIGHTS) -> Found:
    """The dictionary in a file of a folder. Raises AtlasError naming whatever cannot be read."""
    arrays = load_npz(place.file(name), [*_NAMES, "w_enc", "w_dec"])
    arrays = {{"w_enc": "W_enc", "w_dec": "W_dec"}.get(key, key): array for key, array in arrays.items()}
    shapes = {key: tuple(array.shape) for key, array in arrays.items()}
    if len(shapes.get("W_enc", ())) != 2:
        raise AtlasError(f"{name} in {place.label} has no matrix “W_enc”: it is not a dictionary of Gemma Scope.")
    d_in, units = shapes["W_enc"]
    if not d_in or not 0 < units <= MAX_UNITS:
        raise AtlasError(f"{name} in {place.label} is a dictionary of {units:,} units over {d_in:,} numbers, which is not possible.")
    wanted: dict[str, tuple[int, ...]] = {"b_enc": (units,), "W_dec": (units, d_in), "b_dec": (d_in,), "threshold": (units,)}
    check_shapes(shapes, wanted, f"the dictionary in {place.label}")
    tensors = {ours: arrays[theirs] for theirs, ours in _NAMES.items()}
    tensors["encoder"] = tensors["encoder"].T.contiguous()
    model, hook, site = _where(place.label)
    density = re.search(r"average_l0_(\d+)", place.label)
    return Found(
        format="gemma_scope",
        rule="jumprelu",
        tensors=tensors,
        d_in=d_in,
        units=units,
        model=model,
        hook=hook,
        site=site,
        said={"l0": float(density[1])} if density else {},
        about={"context": 1024, "bos": True} if model else {},
    )


def _where(label: str) -> tuple[str | None, str | None, Site | None]:
    """Model, the repository's word for the place, and site, as far as the path tells. Raises AtlasError for a place that is no site."""
    repository, layer = _REPOSITORY.search(label), re.search(r"(?:^|/)layer_(\d{1,4})(?:/|$)", label)
    if repository is None:
        return None, None, None
    size, tuned, kind = repository.groups()
    model = f"gemma-2-{size}" + ("-it" if tuned == "it" else "")
    if kind not in _SITES or layer is None:
        what = {"mlp": "MLP outputs", "transcoders": "normalised MLP inputs"}.get(kind, "embeddings")
        raise AtlasError(f"This dictionary of Gemma Scope reads {what}, which are not a site here: take one of -res or -att with a layer.")
    site = Site("resid" if kind == "res" else "attn", int(layer[1]))
    return model, f"{kind} of layer {layer[1]}", site
