"""What an export of ours says beyond the words of SAELens, in `metadata.neuron_atlas`, and how it is read again.

How activations are prepared is folded into the weights that are written. The facts let a reader here undo that: family, tied, centre, scale
and recipe come back, and the numbers to the bit where the folding allows. They hold for the very weights that they were written with, which
their hash tells; a file that was trained on elsewhere is read as any other.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard, cast, get_args

import torch
from torch import Tensor

from core.bases.dictionary import Dictionary
from core.bases.info import BasisInfo, Centre, Family, Prepare
from core.corpus.spec import CorpusSpec
from core.errors import AtlasError

KEY = "neuron_atlas"
METRICS = ("explained_variance", "l0", "mse", "loss_recovered", "dead")
CHANGED = "The weights are not those that the file's own description was written with: what it says of how they were made is left out."
_NUMBERS = frozenset((
    "alpha", "alpha_sum", "alpha_mean", "k", "k_aux", "aux_coefficient", "ratio", "scale", "bias_rate", "tokens", "dead_tokens", "batch",
    "lr", "warmup", "decay", "seed", "buffer", "block", "ica_tokens", "components", "iterations", "max_iterations", "tolerance",
))  # fmt: skip
_TEXTS = frozenset(["kind", "mse_reduction", "centre", "slice", "code", "method", "units"])
_FLAGS = frozenset(["screened", "revive", "converged"])
_LONGEST = 300


@dataclass(frozen=True)
class Facts:
    """What is known of an export of ours. recipe: as it was, less the run and what is in no recipe. metrics: by our names, as they stand.

    weights_hash: of the model's weights that it was made on.
    """

    family: Family | None = None
    tied: bool = False
    centre: Centre = "none"
    scale: float = 1.0
    weights_hash: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict[str, Any])
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])
    note: str | None = None

    @classmethod
    def read(cls, said: Mapping[str, Any], digest: str) -> "Facts":
        """From the entry of a file whose weights have this digest; empty for a file that is not ours. What makes no sense is left out."""
        centre: Centre = "per_token" if said.get("centre") == "per_token" else "none"
        metrics = _mapping(said.get("metrics"))
        if "weights" not in said:  # not ours, or from before the weights were noted
            return cls(centre=centre, metrics=metrics)
        if said["weights"] != digest:
            return cls(centre=centre, note=CHANGED)
        family, scale, made_on = said.get("family"), said.get("scale"), said.get("weights_hash")
        return cls(
            family=cast(Family, family) if family in get_args(Family) else None,
            tied=said.get("tied") is True,
            centre=centre,
            scale=float(scale) if _is_number(scale) and scale > 0 else 1.0,
            weights_hash=made_on if isinstance(made_on, str) else None,
            recipe=_recipe(_mapping(said.get("recipe"))),
            metrics=metrics,
        )


def described(info: BasisInfo, weights: Mapping[str, Tensor], notes: list[str]) -> dict[str, Any]:
    """The entry for an export of these weights, by SAELens's names. Where somebody's own text lies is nobody else's business."""
    recipe = dict(info.recipe)
    made = recipe.get("corpus")
    if isinstance(made, Mapping):
        corpus = dict(cast(Mapping[str, Any], made))
        if Path(str(corpus.get("source", ""))).is_absolute():
            corpus["source"] = Path(str(corpus["source"])).name
        recipe["corpus"] = corpus
    return {
        "name": info.name,
        "subject": info.subject,
        "weights_hash": info.weights_hash,
        "site": str(info.site),
        "family": info.family,
        "tied": info.tied,
        "centre": info.prepare.centre,
        "scale": info.prepare.scale,
        "recipe": recipe,
        "metrics": {name: info.metrics[name] for name in METRICS if name in info.metrics},
        "notes": notes,
        "weights": digest_of(weights),
    }


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and numbers (32-bit), by name: the same however a file orders them."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].float().contiguous().cpu()
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Folded:
    """Weights by SAELens's names with the preparing of activations in them, and whether b_dec is still to be subtracted."""

    weights: dict[str, Tensor]
    subtract: bool


def fold(dictionary: Dictionary) -> Folded:
    """Codes of x through SAELens's rule equal ours: with C = I − 11ᵀ/d, E (s·C x − b) + b_enc = (s E C) x + (b_enc − E b).

    Without centring b_dec keeps its place, divided by s; bit for bit the same where there is nothing to fold.
    """
    info, tensors = dictionary.info, dictionary.tensors
    scale, centre = info.prepare.scale, info.prepare.centre == "per_token" and info.prepare.normalise == "none"
    encoder, decoder, bias = dictionary.encoder, dictionary.decoder, tensors["bias"]
    b_dec = tensors.get("decoder_bias")
    b_dec = decoder.new_zeros(decoder.shape[1]) if b_dec is None else b_dec
    gate, magnitude, skip = tensors.get("gate_bias"), tensors.get("magnitude"), tensors.get("skip")
    subtract = info.subtract_decoder_bias
    if centre:
        if subtract:
            shift = encoder.double() @ b_dec.double()
            bias = bias.double() - (shift if magnitude is None else shift * magnitude.double())
            gate = None if gate is None else gate.double() - shift
            subtract = False
        encoder = encoder.double() - encoder.double().mean(-1, keepdim=True)
        skip = None if skip is None else skip.double() - skip.double().mean(-1, keepdim=True)
    if scale != 1.0:
        encoder = encoder.double() * scale
        skip = None if skip is None else skip.double() * scale
        if info.d_out is None:
            decoder, b_dec = decoder.double() / scale, b_dec.double() / scale
    weights = {"W_enc": encoder.T, "W_dec": decoder, "b_dec": b_dec}
    if magnitude is None or gate is None:
        weights["b_enc"] = bias
    else:
        weights |= {"b_gate": gate, "b_mag": bias, "r_mag": magnitude.double().log()}
    weights |= {"threshold": tensors["threshold"]} if info.rule == "jumprelu" else {}
    weights |= {} if skip is None else {"W_skip": skip}
    weights = {name: tensor.float().contiguous().cpu() for name, tensor in weights.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise AtlasError(f"{info.name} cannot be written for SAELens: a magnitude is zero, or its scale is beyond 32-bit numbers.")
    return Folded(weights, subtract)


def unfold(tensors: Mapping[str, Tensor], facts: Facts, prepare: Prepare, transcoder: bool) -> dict[str, Tensor]:
    """Weights by our names, with the scale taken out of them again. prepare: as the dictionary will have it.

    Where they are tied the decoder, which is folded by the scale alone, says what both were. An encoder of its own stays centred, and a
    b_dec that went into the biases stays there: the codes are the same. Raises AtlasError for weights that are not tied as they are said
    to be.
    """
    found = dict(tensors)
    scale, centred = facts.scale, prepare.centre == "per_token" and prepare.normalise == "none"
    if scale != 1.0 and not transcoder:
        reads = None if centred or not facts.tied else found["encoder"]
        found |= {"decoder": _undone(scale, reads, found["decoder"]), "decoder_bias": _undone(scale, None, found["decoder_bias"])}
    if facts.tied and not transcoder:
        rows = found["decoder"]
        again = scale * (rows - rows.mean(-1, keepdim=True) if centred else rows)
        if not torch.allclose(again, found["encoder"], rtol=1e-3, atol=1e-5 * scale):
            raise AtlasError(
                "The file says that its encoder is its decoder, and they are not alike: it is damaged, or was changed by hand."
            )
        found["encoder"] = rows
    elif scale != 1.0:
        found |= {name: _undone(scale, found[name], None) for name in ("encoder", "skip") if name in found}
    return found


def _undone(scale: float, times: Tensor | None, over: Tensor | None) -> Tensor:
    """32-bit numbers that, rounded, give `times` when multiplied by the scale, and `over` when divided by it; either may be None.

    Arithmetic gives them up to the last bit. Of the three nearest, one is taken that gives what was written.
    """
    first = (over.double() * scale if over is not None else cast(Tensor, times).double() / scale).float()
    found = first
    for tried in (*(torch.nextafter(first, torch.full_like(first, end)) for end in (-math.inf, math.inf)), first):
        same = torch.ones_like(first, dtype=torch.bool)
        if times is not None:
            same &= (tried.double() * scale).float() == times
        if over is not None:
            same &= (tried.double() / scale).float() == over
        found = torch.where(same, tried, found)
    return found


def _recipe(said: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of how it was made, checked: it comes from a file. The run is not one of this workspace."""
    found: dict[str, Any] = {}
    for name, value in said.items():
        text = isinstance(value, str) and len(value) <= _LONGEST and value.isprintable()
        if (name in _NUMBERS and _is_number(value)) or (name in _TEXTS and text) or (name in _FLAGS and isinstance(value, bool)):
            found[name] = value
    try:
        found["corpus"] = CorpusSpec.from_json(said.get("corpus")).to_json()
    except AtlasError:
        found.pop("slice", None)
    model = _mapping(said.get("model"))
    if all(isinstance(model.get(name), str) and len(model[name]) <= _LONGEST for name in ("dtype", "device")):
        found["model"] = {name: model[name] for name in ("dtype", "device")}
    return found


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}
