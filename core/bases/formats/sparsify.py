"""sparsify (EleutherAI): `cfg.json` beside `sae.safetensors`, in a folder named after the module it reads.

Semantics are those of `sparsify.SparseCoder` (1.3.3): top-k of ReLU; an autoencoder reads x − b_dec, x being its module's output; a
transcoder (`transcode`) reads its module's input as it is.
"""

from pathlib import Path
from typing import Any

from core.bases.formats.found import Found
from core.bases.formats.hooks import is_module, site_of_module
from core.bases.formats.safe import Place, check_shapes, load_safetensors, safetensors_shapes, text, whole
from core.bases.info import MAX_UNITS
from core.errors import AtlasError, shown
from core.units import Site

CONFIG = "cfg.json"
WEIGHTS = "sae.safetensors"
RUN = "config.json"
"""Of the training run, one folder up: it names the model."""


def read(place: Place) -> Found:
    """The dictionary in a folder. Raises AtlasError naming whatever cannot be read."""
    config = place.config(CONFIG)
    activation = config.get("activation") or "topk"
    if activation != "topk" or config.get("signed"):
        named = "signed top-k" if config.get("signed") else shown(str(activation))
        raise AtlasError(f"sparsify's activation “{named}” is not read here: topk is.")
    transcode, skips = bool(config.get("transcode")), bool(config.get("skip_connection"))
    d_in = whole(config, "d_in")
    units = whole(config, "num_latents", low=0, high=MAX_UNITS) if config.get("num_latents") is not None else 0
    units = units or d_in * whole(config, "expansion_factor")
    path = place.file(WEIGHTS)
    shapes = safetensors_shapes(path)
    wanted: dict[str, tuple[int, ...]] = {
        "encoder.weight": (units, d_in),
        "encoder.bias": (units,),
        "W_dec": (units, d_in),
        "b_dec": (d_in,),
        **({"W_skip": (d_in, d_in)} if skips else {}),
    }
    check_shapes(shapes, wanted, f"the dictionary in {place.label}")
    if strange := sorted(shapes.keys() - wanted.keys()):
        raise AtlasError(f"{WEIGHTS} holds “{shown(strange[0])}”, which {CONFIG} does not speak of: the two are not of one dictionary.")
    loaded = load_safetensors(path, wanted)
    names = {"encoder.weight": "encoder", "encoder.bias": "bias", "W_dec": "decoder", "b_dec": "decoder_bias", "W_skip": "skip"}
    hook, site = _site(place, transcode)
    run = _run(place)
    about: dict[str, Any] = {"context": run.get("ctx_len"), "dataset": text(run, "dataset")}
    return Found(
        format="sparsify",
        rule="topk",
        tensors={names[name]: tensor for name, tensor in loaded.items()},
        d_in=d_in,
        units=units,
        k=whole(config, "k", high=units),
        d_out=d_in if transcode else None,
        writes_to=f"the output of {hook}" if transcode and hook else None,
        subtract_decoder_bias=not transcode,
        model=text(run, "model"),
        hook=hook,
        site=site,
        about={name: value for name, value in about.items() if type(value) in (int, str)},
    )


def _site(place: Place, transcode: bool) -> tuple[str | None, Site | None]:
    """From the folder's name, or the one above it when several seeds were trained."""
    parts = place.label.rstrip("/").split("/")
    for name in parts[-1:-3:-1]:
        if is_module(name):
            return name, site_of_module(name, reads_input=transcode)
    return None, None


def _run(place: Place) -> dict[str, Any]:
    """What the training run's own file says, where it lies one or two folders up."""
    folder: Path = place.folder
    for above in (folder.parent, folder.parent.parent):
        if (above / RUN).is_file() and not (above / "model.safetensors").exists():
            return Place.at(above).config(RUN)
    return {}
