"""A dictionary with its weights: from activations to codes and back. Four encode rules, one decoder.

With x prepared as `Prepare` says, s = x − b_dec or x, and rows eⱼ of the encoder and dⱼ of the decoder:

* relu      c = ReLU(E s + b)                                  Cunningham et al. 2023, eq. 1; Bricken et al. 2023
* topk      the k largest of ReLU(E s + b), zero elsewhere     Gao et al. 2024, eq. 3
* gated     c = 1[E s + b_gate > 0] · ReLU((e^r ⊙ E) s + b_mag)   Rajamanoharan et al. 2024a, eq. 6 (tied gate and magnitude)
* jumprelu  c = z · 1[z > θ], z = E s + b, codes that are not positive zero    Rajamanoharan et al. 2024b, eq. 3

Reconstruction: x̂ = Dᵀ c + b_dec (+ skip · x for a skip transcoder), and then what preparing did is undone.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.bases.info import BasisInfo, Prepare
from core.bases.shelf import Shelved, check_weights, put
from core.errors import AtlasError
from core.workspace import Workspace

_EPSILON = 1e-5
"""Added to the standard deviation by `layer_norm`, as SAELens does."""


@dataclass(frozen=True)
class Prepared:
    """Activations as the encoder reads them, and what it takes to undo that."""

    x: Tensor
    mean: Tensor | None
    factor: Tensor | float
    """What x was multiplied by."""


class Dictionary:
    """Weights as float32 tensors on one device.

    encoder: [units, d_in]. bias: [units]. decoder: [units, d_out], the same tensor as encoder when tied. decoder_bias: [d_out] or None.
    threshold: [units], jumprelu only. gate_bias: [units] and magnitude: [units] (e^r), gated only, whose `bias` is b_mag.
    skip: [d_out, d_in] or None.
    """

    def __init__(self, info: BasisInfo, tensors: Mapping[str, Tensor]) -> None:
        """tensors: by the names above; `decoder` is left out when tied. Raises AtlasError for a wrong shape, a missing or a strange one."""
        self.info = info
        d_out = info.d_out or info.d_in
        shapes: dict[str, tuple[int, ...]] = {"encoder": (info.units, info.d_in), "bias": (info.units,)}
        if not info.tied:
            shapes["decoder"] = (info.units, d_out)
        if info.rule == "jumprelu":
            shapes["threshold"] = (info.units,)
        if info.rule == "gated":
            shapes |= {"gate_bias": (info.units,), "magnitude": (info.units,)}
        optional: dict[str, tuple[int, ...]] = {"decoder_bias": (d_out,), "skip": (d_out, info.d_in)}
        for name, shape in {**shapes, **{name: shape for name, shape in optional.items() if name in tensors}}.items():
            if name not in tensors:
                raise AtlasError(f"The dictionary {info.name} has no weights “{name}”.")
            if tuple(tensors[name].shape) != shape:
                found = "×".join(map(str, tensors[name].shape))
                raise AtlasError(f"“{name}” of the dictionary {info.name} is {found} and should be {'×'.join(map(str, shape))}.")
        if strange := sorted(tensors.keys() - shapes.keys() - optional.keys()):
            raise AtlasError(f"The dictionary {info.name} has weights “{strange[0]}” that its rule {info.rule} has no use for.")
        for name, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise AtlasError(f"“{name}” of the dictionary {info.name} holds numbers that are not finite.")
        if info.subtract_decoder_bias and "decoder_bias" not in tensors:
            raise AtlasError(f"The dictionary {info.name} has no decoder bias to subtract.")
        self._tensors = {name: tensor.float().contiguous() for name, tensor in tensors.items()}

    @property
    def encoder(self) -> Tensor:
        return self._tensors["encoder"]

    @property
    def decoder(self) -> Tensor:
        return self._tensors["encoder" if self.info.tied else "decoder"]

    @property
    def bias(self) -> Tensor:
        return self._tensors["bias"]

    @property
    def decoder_bias(self) -> Tensor | None:
        return self._tensors.get("decoder_bias")

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """By name, as they are saved."""
        return self._tensors

    def to(self, device: torch.device | str) -> "Dictionary":
        return Dictionary(self.info, {name: tensor.to(device) for name, tensor in self._tensors.items()})

    def cut(self, activations: Tensor) -> Tensor:
        """The part of a site's activations [..., width] that the dictionary reads: all of it, or one head's. float32."""
        return (activations if self.info.head is None else activations[..., self.info.reads]).float()

    def prepare(self, x: Tensor) -> Prepared:
        """x: [..., d_in], cut."""
        return prepare(self.info.prepare, x)

    def undo(self, x: Tensor, prepared: Prepared) -> Tensor:
        """Back from prepared coordinates to the site's. A transcoder's output never was prepared and stays."""
        if self.info.d_out is not None:
            return x
        x = x if isinstance(prepared.factor, float) and prepared.factor == 1.0 else x / prepared.factor
        return x if prepared.mean is None else x + prepared.mean

    def codes(self, prepared: Tensor) -> Tensor:
        """Codes [..., units] of prepared activations [..., d_in]."""
        source = prepared
        if self.info.subtract_decoder_bias:
            source = source - self._tensors["decoder_bias"]
        before = source @ self.encoder.T
        if self.info.rule == "gated":
            active = before + self._tensors["gate_bias"] > 0
            return torch.relu(before * self._tensors["magnitude"] + self.bias) * active
        before = before + self.bias
        if self.info.rule == "jumprelu":
            return torch.relu(before) * (before > self._tensors["threshold"])
        codes = torch.relu_(before)
        return codes if self.info.k is None else keep_largest(codes, self.info.k)

    def encode(self, x: Tensor) -> Tensor:
        """Codes [..., units] of activations [..., d_in], cut."""
        return self.codes(self.prepare(x).x)

    def decode(self, codes: Tensor) -> Tensor:
        """Dᵀ c + b_dec [..., d_out], in prepared coordinates."""
        written = codes @ self.decoder
        return written if self.decoder_bias is None else written + self.decoder_bias

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [..., units] and x̂ [..., d_out] of activations [..., d_in], cut; x̂ in the coordinates that x came in."""
        prepared = self.prepare(x)
        codes = self.codes(prepared.x)
        written = self.decode(codes)
        if "skip" in self._tensors:
            written = written + prepared.x @ self._tensors["skip"].T
        return codes, self.undo(written, prepared)

    def directions(self, width: int) -> Tensor:
        """What one unit of each code adds at the site: rows [units, width]. `layer_norm` and `constant_norm` scale by the token: left out.

        A head's directions have zeros where the other heads are. Raises AtlasError for a transcoder, which writes elsewhere.
        """
        if self.info.d_out is not None:
            raise AtlasError(f"{self.info.name} is a transcoder: its units write to {self.info.writes_to or 'another place'}.")
        rows = self.decoder / self.info.prepare.scale
        if self.info.head is None:
            return rows
        whole = rows.new_zeros(self.info.units, width)
        whole[:, self.info.reads] = rows
        return whole

    def save(self, workspace: Workspace) -> Shelved:
        """Put the dictionary on the shelf, whole or not at all."""
        path = workspace.scratch / f"{self.info.key.replace('/', '-')}.{os.getpid()}.safetensors.tmp"
        try:
            save_file({name: tensor.cpu() for name, tensor in self._tensors.items()}, path)
            return put(workspace, self.info, path)
        finally:
            path.unlink(missing_ok=True)


def load(one: Shelved, device: torch.device | str = "cpu") -> Dictionary:
    """The dictionary with its weights. Raises AtlasError when they are missing or damaged."""
    check_weights(one)
    return Dictionary(one.info, read_tensors(one.weights, device))


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises AtlasError."""
    try:
        return load_file(path, device=str(device))
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise AtlasError(f"{path.name} is not a readable safetensors file ({str(error).splitlines()[0][:100]}).") from None


def keep_largest(codes: Tensor, k: int) -> Tensor:
    """The k largest codes of each token, zeros elsewhere."""
    found: Any = codes.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(codes).scatter_(-1, found.indices, found.values)


def prepare(how: Prepare, x: Tensor) -> Prepared:
    """Prepare x [..., d], see `Prepare`."""
    mean: Tensor | None = None
    factor: Tensor | float = how.scale
    if how.centre == "per_token" or how.normalise == "layer_norm":
        mean = x.mean(-1, keepdim=True)
        x = x - mean
    if how.normalise == "layer_norm":
        factor = how.scale / (x.std(-1, keepdim=True) + _EPSILON)
    elif how.normalise == "constant_norm":
        factor = how.scale * x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return Prepared(x if isinstance(factor, float) and factor == 1.0 else x * factor, mean, factor)
