"""Small random dictionaries: written by hand as other tools write them, what a plain loop makes of them, and some of ours."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from torch import Tensor

from core.bases.dictionary import Dictionary
from core.bases.formats.found import Found
from core.bases.info import BasisInfo
from core.units import Site

D, UNITS = 16, 48
Array = npt.NDArray[np.float32]
Arrays = dict[str, Array]


def arrays(d: int, units: int, seed: int = 0, d_out: int | None = None) -> Arrays:
    """Every weight that any rule needs, by SAELens's names."""
    rng = np.random.default_rng(seed)

    def some(*shape: int) -> Array:
        return (rng.standard_normal(shape) * 0.4).astype(np.float32)

    out = d_out or d
    names = {"W_enc": (d, units), "W_dec": (units, out), "b_dec": (out,), "W_skip": (out, d)}
    names |= dict.fromkeys(("b_enc", "b_gate", "b_mag", "r_mag"), (units,))
    return {name: some(*shape) for name, shape in names.items()} | {"threshold": np.abs(some(units))}


def write_saelens(folder: Path, given: Arrays, architecture: str = "standard", *, flat: bool = False, **config: Any) -> Path:
    """`cfg.json` and `sae_weights.safetensors`; flat: in the layout of before version 6. config: more entries, `metadata` among them."""
    folder.mkdir(parents=True, exist_ok=True)
    own = ["b_gate", "b_mag", "r_mag"] if architecture == "gated" else ["b_enc"]
    own += ["threshold"] * ("jumprelu" in architecture) + ["W_skip"] * ("skip" in architecture)
    d, units = given["W_enc"].shape
    save_file({name: given[name] for name in ("W_enc", "W_dec", "b_dec", *own)}, folder / "sae_weights.safetensors")
    about = {"model_name": "tiny", "hook_name": "blocks.0.hook_resid_post", **config.pop("metadata", {})}
    base: dict[str, Any] = {"d_in": d, "d_sae": units, "dtype": "float32", "device": "cpu"}
    if flat:
        about["hook_point"] = about.pop("hook_name")
        document = base | about | config
    else:
        document = {"architecture": architecture, **base, **config, "metadata": {"sae_lens_version": "6.0.0", **about}}
    if architecture.endswith("transcoder"):
        document["d_out"] = given["W_dec"].shape[1]
    (folder / "cfg.json").write_text(json.dumps(document), "utf8")
    return folder


def write_dictionary_learning(folder: Path, given: Arrays, kind: str = "AutoEncoderTopK", k: int = 3, **trainer: Any) -> Path:
    """`config.json` and `ae.pt`."""
    folder.mkdir(parents=True, exist_ok=True)
    d, units = given["W_enc"].shape
    tensors = {name: torch.from_numpy(array) for name, array in given.items()}
    stored = {"encoder.weight": tensors["W_enc"].T, "encoder.bias": tensors["b_enc"], "decoder.weight": tensors["W_dec"].T}
    stored |= {"b_dec": tensors["b_dec"], "k": torch.tensor(k), "threshold": torch.tensor(-1.0)}
    torch.save({name: tensor.contiguous() for name, tensor in stored.items()}, folder / "ae.pt")
    said: dict[str, Any] = {"dict_class": kind, "activation_dim": d, "dict_size": units, "k": k, "layer": 0, "lm_name": "owner/tiny"}
    document = {"trainer": said | {"submodule_name": "resid_post_layer_0"} | trainer, "buffer": {"ctx_len": 64, "io": "out"}}
    (folder / "config.json").write_text(json.dumps(document), "utf8")
    return folder


def write_sparsify(folder: Path, given: Arrays, k: int = 3, **config: Any) -> Path:
    """`cfg.json` and `sae.safetensors`, and the run's `config.json` above."""
    folder.mkdir(parents=True, exist_ok=True)
    d, units = given["W_enc"].shape
    stored = {"encoder.weight": given["W_enc"].T, "encoder.bias": given["b_enc"], "W_dec": given["W_dec"], "b_dec": given["b_dec"]}
    save_file({name: np.ascontiguousarray(array) for name, array in stored.items()}, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"activation": "topk", "d_in": d, "num_latents": units, "k": k, **config}), "utf8")
    (folder.parent / "config.json").write_text(json.dumps({"model": "owner/tiny"}), "utf8")
    return folder


def write_gemma_scope(folder: Path, given: Arrays) -> Path:
    """`params.npz`."""
    folder.mkdir(parents=True, exist_ok=True)
    stored: dict[str, Any] = {name: given[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")}
    np.savez(folder / "params.npz", **stored)
    return folder


def slow_codes(rule: str, given: Arrays, x: Array, k: int = 0, subtract: bool = True) -> Array:
    """Codes [tokens, units], number by number, in float64."""
    d, units = given["W_enc"].shape
    codes = np.zeros((len(x), units))
    for token in range(len(x)):
        read = [float(x[token, i]) - (float(given["b_dec"][i]) if subtract else 0.0) for i in range(d)]
        before = [sum(read[i] * float(given["W_enc"][i, j]) for i in range(d)) for j in range(units)]
        for j in range(units):
            z = before[j] + float(given["b_enc"][j])
            if rule == "gated":
                large = before[j] * math.exp(float(given["r_mag"][j])) + float(given["b_mag"][j])
                codes[token, j] = max(0.0, large) if before[j] + float(given["b_gate"][j]) > 0 else 0.0
            elif rule == "jumprelu":
                codes[token, j] = max(0.0, z) if z > float(given["threshold"][j]) else 0.0
            else:
                codes[token, j] = max(0.0, z)
        if rule == "topk":
            kept = sorted(range(units), key=lambda j: -codes[token, j])[:k]
            codes[token] = [codes[token, j] if j in kept else 0.0 for j in range(units)]
    return codes.astype(np.float32)


def dictionary(found: Found, name: str = "brought") -> Dictionary:
    """As `bring` makes it, without a subject to check it against."""
    info = BasisInfo(
        name=name,
        subject="tiny",
        site=found.site or Site("resid", 1),
        family="sae" if found.d_out is None else "transcoder",
        rule=found.rule,
        d_in=found.d_in,
        units=found.units,
        head=found.head,
        d_out=found.d_out,
        writes_to=found.writes_to,
        k=found.k,
        tied=found.tied,
        subtract_decoder_bias=found.subtract_decoder_bias,
        prepare=found.prepare,
    )
    return Dictionary(info, found.tensors)


def random(rule: str, seed: int, **options: Any) -> Dictionary:
    """A dictionary of ours with every number random, biases and thresholds too."""
    generator = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.4

    d_out = options.get("d_out") or D
    tensors = {"encoder": some(UNITS, D), "bias": some(UNITS)}
    if not options.get("tied"):
        tensors |= {"decoder": some(UNITS, d_out), "decoder_bias": some(d_out)}
    if rule == "jumprelu":
        tensors["threshold"] = some(UNITS).abs()
    if rule == "gated":
        tensors |= {"gate_bias": some(UNITS), "magnitude": some(UNITS).exp()}
    recipe = {"corpus": {"source": "embedded", "length": 64, "bos": False}}
    site = options.pop("site", Site("resid", 1))
    family = "sae" if options.get("d_out") is None else "transcoder"
    info = BasisInfo("ours", "tiny", site, family, rule, D, UNITS, recipe=recipe, **options)  # pyright: ignore[reportArgumentType]
    return Dictionary(info, tensors)
