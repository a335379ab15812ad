"""dictionary_learning: `config.json` beside `ae.pt`, a state dict that `torch.save` wrote.

Semantics are those of `dictionary_learning.utils.load_dictionary` (0.1.0). Loading an `AutoEncoder` whose decoder columns are not of unit
norm, it normalises them and scales the encoder to match; so do we.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from core.bases.formats.found import Found
from core.bases.formats.hooks import site_of_module
from core.bases.formats.safe import Place, check_shapes, load_torch, text, whole
from core.bases.info import MAX_UNITS, Rule
from core.errors import AtlasError, shown
from core.units import Site

CONFIG = "config.json"
WEIGHTS = "ae.pt"
MEASURED = "eval_results.json"

RULES: dict[str, Rule] = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "AutoEncoderTopK": "topk",
    "GatedAutoEncoder": "gated",
    "JumpReluAutoEncoder": "jumprelu",
    "BatchTopKSAE": "jumprelu",
    "MatryoshkaBatchTopKSAE": "jumprelu",
}
_BY_ROWS = ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE")
"""These keep W_enc [d, units] and W_dec [units, d]; the others keep what torch's Linear does."""
_NAMES: dict[str, dict[str, str]] = {
    "AutoEncoder": {"encoder.bias": "bias", "bias": "decoder_bias"},
    "AutoEncoderNew": {"encoder.bias": "bias", "decoder.bias": "decoder_bias"},
    "AutoEncoderTopK": {"encoder.bias": "bias", "b_dec": "decoder_bias"},
    "BatchTopKSAE": {"encoder.bias": "bias", "b_dec": "decoder_bias"},
    "GatedAutoEncoder": {"mag_bias": "bias", "gate_bias": "gate_bias", "r_mag": "magnitude", "decoder_bias": "decoder_bias"},
    "JumpReluAutoEncoder": {"b_enc": "bias", "b_dec": "decoder_bias", "threshold": "threshold"},
    "MatryoshkaBatchTopKSAE": {"b_enc": "bias", "b_dec": "decoder_bias"},
}
_RAW = ("AutoEncoderNew", "JumpReluAutoEncoder")
"""Their encoders read x as it is; the others read x − b_dec."""
_SAID = {"frac_variance_explained": "explained_variance", "l0": "l0", "frac_recovered": "loss_recovered", "mse": "mse"}
_STREAM = re.compile(r"resid_(?:post_|out_)?layer_?(\d{1,4})")
_UNSET = "Its threshold was never set (it is negative), so every positive unit counts as active, as in dictionary_learning itself."
_NORMALISED = "Its decoder's columns were given unit norm and its encoder was scaled to match, as dictionary_learning does on loading."


def read(place: Place) -> Found:
    """The dictionary in a folder. Raises AtlasError naming whatever cannot be read."""
    config = place.config(CONFIG)
    trainer, buffer = _mapping(config.get("trainer")), _mapping(config.get("buffer"))
    kind = text(trainer, "dict_class") or "none"
    if kind not in RULES:
        raise AtlasError(f"The dictionary class “{shown(kind)}” of dictionary_learning is not read here: {', '.join(RULES)} are.")
    d_in, units = whole(trainer, "activation_dim"), whole(trainer, "dict_size", high=MAX_UNITS)
    loaded = load_torch(place.file(WEIGHTS))
    tensors = _tensors(kind, loaded, d_in, units, f"the {kind} in {place.label}")
    notes: list[str] = []
    k = None
    if kind == "AutoEncoder" and _normalise(tensors):
        notes.append(_NORMALISED)
    if kind == "AutoEncoderTopK":
        k = whole(trainer, "k", high=units)
        _check_k(loaded, k)
    if kind in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        check_shapes({name: tuple(tensor.shape) for name, tensor in loaded.items()}, {"threshold": ()}, f"the {kind} in {place.label}")
        tensors["threshold"] = loaded["threshold"].float().expand(units).contiguous()
        if float(loaded["threshold"]) < 0:
            notes.append(_UNSET)
    hook, site = _site(trainer, buffer, place)
    return Found(
        format="dictionary_learning",
        rule=RULES[kind],
        tensors=tensors,
        d_in=d_in,
        units=units,
        k=k,
        subtract_decoder_bias=kind not in _RAW,
        model=text(trainer, "lm_name"),
        hook=hook,
        site=site,
        said=_said(place),
        about=_about(kind, trainer, buffer),
        notes=tuple(notes),
    )


def _tensors(kind: str, loaded: Mapping[str, Tensor], d_in: int, units: int, what: str) -> dict[str, Tensor]:
    shapes = {name: tuple(tensor.shape) for name, tensor in loaded.items()}
    names = _NAMES[kind]
    wanted = {given: (d_in,) if ours == "decoder_bias" else (units,) for given, ours in names.items()}
    if kind in _BY_ROWS:
        check_shapes(shapes, {"W_enc": (d_in, units), "W_dec": (units, d_in)} | wanted, what)
        encoder, decoder = loaded["W_enc"].T, loaded["W_dec"]
    else:
        check_shapes(shapes, {"encoder.weight": (units, d_in), "decoder.weight": (d_in, units)} | wanted, what)
        encoder, decoder = loaded["encoder.weight"], loaded["decoder.weight"].T
    tensors = {ours: loaded[given] for given, ours in names.items()}
    if "magnitude" in tensors:
        tensors["magnitude"] = tensors["magnitude"].exp()
    return tensors | {"encoder": encoder.contiguous(), "decoder": decoder.contiguous()}


def _normalise(tensors: dict[str, Tensor]) -> bool:
    """Unit decoder rows with the same reconstructions. Whether that was needed, up to torch's default tolerance."""
    norms = tensors["decoder"].norm(dim=-1)
    if torch.allclose(norms, torch.ones_like(norms)):
        return False
    if not bool((norms > 0).all()):
        raise AtlasError("A unit of this AutoEncoder has a decoder of zeros, which dictionary_learning cannot normalise either.")
    tensors["decoder"] = tensors["decoder"] / norms[:, None]
    tensors["encoder"] = tensors["encoder"] * norms[:, None]
    tensors["bias"] = tensors["bias"] * norms
    return True


def _check_k(loaded: Mapping[str, Tensor], k: int) -> None:
    stored = loaded.get("k")
    if stored is not None and (stored.numel() != 1 or int(stored) != k):
        raise AtlasError(f"{CONFIG} says k = {k} and {WEIGHTS} says another: the two are not of one dictionary.")


def _site(trainer: Mapping[str, Any], buffer: Mapping[str, Any], place: Place) -> tuple[str | None, Site | None]:
    """The module and its site. Names such as `resid_post_layer_3` are this package's custom; its trainers store only the layer for sure."""
    name = text(trainer, "submodule_name")
    layer = trainer.get("layer")
    places = [name] if name else [part for part in place.label.split("/") if "layer" in part]
    for part in reversed(places):
        match = _STREAM.fullmatch(part)
        if match is not None:
            if isinstance(layer, int) and layer != int(match[1]):
                raise AtlasError(f"{CONFIG} says layer {layer} and also {shown(part)}: one of them is wrong.")
            if text(buffer, "io") not in (None, "out"):
                raise AtlasError(f"The dictionary reads the input of {shown(part)}, which is not a site here: outputs of blocks are.")
            return part, Site("resid", int(match[1]))
    if name is not None:
        return name, site_of_module(name)
    return None, None


def _said(place: Place) -> dict[str, float]:
    if not place.has(MEASURED):
        return {}
    given = place.config(MEASURED)
    found: dict[str, float] = {}
    for theirs, ours in _SAID.items():
        value = given.get(theirs)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12:
            found[ours] = float(value)
    return found


def _about(kind: str, trainer: Mapping[str, Any], buffer: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"class": kind, "trainer": text(trainer, "trainer_class"), "context": buffer.get("ctx_len")}
    return {name: value for name, value in found.items() if isinstance(value, int | str) and not isinstance(value, bool)}


def _mapping(value: object) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}
