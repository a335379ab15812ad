"""What the weights alone say: where a unit writes to, and what a direction does to the logits."""

import copy

import torch
from torch import Tensor, nn

from core.errors import AtlasError

_PROBE = 1e3
"""Size of the vector a norm is probed with: its epsilon (at most 1e-5) then changes nothing in float32."""


def matrix_of(module: nn.Module) -> Tensor:
    """The matrix of a projection as [in, out] float32, whichever way the module stores it.

    torch's Linear stores [out, in], GPT-2's Conv1D [in, out]. Raises AtlasError for a module without such a matrix.
    """
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise AtlasError(
            f"The module {type(module).__name__} holds no plain matrix: name the projection itself (quantised models cannot be read)."
        )
    stored = weight.detach().float()
    return stored if type(module).__name__ == "Conv1D" else stored.T


@torch.no_grad()
def norm_of(module: nn.Module, d_model: int) -> tuple[Tensor, bool]:
    """The gain of a norm, shape [d_model] float32, and whether it subtracts the mean (LayerNorm) or not (RMSNorm).

    Measured by feeding it two vectors rather than read from its parameters, because families keep the gain differently
    (Gemma stores gain − 1, OLMo has none). norm(x) = gain · x̂ + bias, so gain · x̂ = (norm(x) − norm(−x)) / 2.
    """
    norm = copy.deepcopy(module).float()
    device = next((p.device for p in norm.parameters()), torch.device("cpu"))
    x = torch.ones(d_model, device=device)
    x[1::2] = -1
    if d_model % 2:  # keep the mean at zero and every entry away from it
        x[-3:] = torch.tensor([1.0, 1.0, -2.0], device=device)
    x = x * _PROBE
    odd_part = (norm(x) - norm(-x)) / 2
    gain = odd_part * x.square().mean().sqrt() / x
    centred = torch.allclose(norm(x + _PROBE), norm(x), rtol=1e-3, atol=1e-3)
    return gain, centred


def through_norm(directions: Tensor, norm: nn.Module) -> Tensor:
    """Directions [n, d_model] after a norm's linear part: centred for a LayerNorm, times the gain.

    A norm also divides by the vector's size, which depends on the text; that factor is left out. This is the linear
    approximation meant wherever a write direction or a direct logit effect is shown.
    """
    gain, centred = norm_of(norm, directions.shape[-1])
    if centred:
        directions = directions - directions.mean(dim=-1, keepdim=True)
    return directions * gain.to(directions.device)


def fold_norm(unembedding: Tensor, norm: nn.Module) -> Tensor:
    """W with the linear part of the norm before it folded in: row v of W·diag(gain)·C, where C subtracts the mean.

    unembedding: [vocabulary, d_model] float32. `fold_norm(W, norm) @ r` is what residual r adds to the logits, up to the
    norm's division by the size of the whole residual.
    """
    gain, centred = norm_of(norm, unembedding.shape[-1])
    folded = unembedding * gain.to(unembedding.device)
    return folded - folded.mean(dim=-1, keepdim=True) if centred else folded
