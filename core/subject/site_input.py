"""What a site's activations follow from token by token, and how: kept, it spares all later readings of the site the model's pass.

An MLP's activations follow from the MLP's input, which is a few times narrower. Those of the residual stream and of the attention follow
from nothing narrower that stands at the same token, so they are kept themselves.
"""

import copy
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from core.subject.subject import Handler, Subject
from core.units import Site

Of = Literal["mlp", "site"]
Read = Callable[[Tensor], Tensor]
_PROBED = 8
"""Tokens that a module is tried on."""
_AGREE = {torch.float32: 1e-4}
_AGREE_ROUGHLY = 0.03
"""By how much of a token's activations (their norms) two ways to compute them may differ, in float32 and in shorter numbers."""


@dataclass(frozen=True)
class SiteInput:
    """of: `mlp` for the input of the MLP, `site` for the activations themselves. width: numbers a token."""

    site: Site
    of: Of
    width: int

    @contextmanager
    def watched(self, subject: Subject, handler: Handler) -> Generator[None]:
        """While the context is open, every pass that comes to the site gives its input [batch, length, width] to the handler."""
        if self.of == "site":
            with subject.watched(self.site, handler):
                yield
            return
        found = subject.mlp_at(self.site)
        assert found is not None  # or it would be `site`

        def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            handler(inputs[0])

        handle = found[0].register_forward_pre_hook(before)
        try:
            yield
        finally:
            handle.remove()


def input_of(subject: Subject, site: Site) -> SiteInput:
    """What the site's activations follow from, as tried on a few tokens. Raises AtlasError for a site that is not there."""
    units = subject.info.widths[site.kind]
    itself = SiteInput(site, "site", units)
    if subject.mlp_at(site) is None:
        return itself
    found = _probe(subject, site)
    if found is None or found[0].shape[-1] >= units:
        return itself
    return SiteInput(site, "mlp", found[0].shape[-1]) if _agree(_mlp(subject, site, None), *found) else itself


def reader_of(subject: Subject, given: SiteInput, units: Sequence[int] | None = None) -> Read:
    """What makes activations [tokens, units] of inputs [tokens, width], in the subject's numbers; without `units` those of all.

    Where the MLP's own matrices can be cut down to the units asked for, and give the same then, only these are computed.
    """
    columns = None if units is None else torch.tensor(list(units), device=subject.device)
    if given.of == "site":
        return (lambda stands: stands) if columns is None else (lambda stands: stands[:, columns])
    if columns is None:
        return _mlp(subject, given.site, None)
    found = _probe(subject, given.site)
    narrow = _mlp(subject, given.site, columns)
    if found is not None and _agree(narrow, found[0], found[1][:, columns]):
        return narrow
    whole = _mlp(subject, given.site, None)
    return lambda stands: whole(stands)[:, columns]


def _mlp(subject: Subject, site: Site, columns: Tensor | None) -> Read:
    """A copy of the MLP without its down-projection; of the matrices that make one number a unit only the rows of some units."""
    found = subject.mlp_at(site)
    assert found is not None  # asked before
    mlp, write = found
    shared = {id(one): one for one in (*mlp.parameters(), *mlp.buffers())}
    instead: dict[int, nn.Module] = {id(write): nn.Identity()}
    if columns is not None:
        width = subject.info.widths["mlp"]
        instead |= {id(one): narrow for one in mlp.modules() if one is not write and (narrow := _narrowed(one, columns, width))}
    twin = copy.deepcopy(mlp, {**shared, **instead})

    def read(stands: Tensor) -> Tensor:
        with torch.inference_mode():
            return twin(stands[None])[0]

    return read


def _narrowed(module: nn.Module, columns: Tensor, width: int) -> nn.Module | None:
    """A projection to `width` numbers cut down to some of them; None for any other module."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        return None
    rows = weight.detach() if isinstance(module, nn.Linear) else weight.detach().T if type(module).__name__ == "Conv1D" else None
    if rows is None or rows.shape[0] != width:
        return None
    narrow = nn.Linear(rows.shape[1], len(columns), bias=bias is not None, device=rows.device, dtype=rows.dtype)
    narrow.weight = nn.Parameter(rows[columns].contiguous(), requires_grad=False)
    if isinstance(bias, Tensor):
        narrow.bias = nn.Parameter(bias.detach()[columns], requires_grad=False)
    return narrow


def _probe(subject: Subject, site: Site) -> tuple[Tensor, Tensor] | None:
    """The MLP's input [tokens, width] and the site's activations [tokens, units] on a few tokens; None where it is not called with one
    tensor of a number of its own for each token."""
    found = subject.mlp_at(site)
    assert found is not None  # asked before
    given: list[Tensor] = []

    def before(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        if len(inputs) == 1 and not named and isinstance(inputs[0], Tensor) and inputs[0].shape[:2] == tokens.shape:
            given.append(inputs[0][0].clone())

    tokens = torch.linspace(0, subject.info.vocab_size - 1, _PROBED).long()[None]
    handle = found[0].register_forward_pre_hook(before, with_kwargs=True)
    try:
        activations = subject.capture(tokens, [site])[site][0]
    finally:
        handle.remove()
    return (given[0], activations) if len(given) == 1 else None


def _agree(read: Read, stands: Tensor, activations: Tensor) -> bool:
    """Whether the copy gives what the pass gave, for each token, and the same whatever stands beside it."""
    try:
        made, turned = read(stands), read(stands.flip(0)).flip(0)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, IndexError, AttributeError, ValueError):
        return False  # a module of another build, which takes or gives more than this
    if made.shape != activations.shape:
        return False
    allowed = _AGREE.get(activations.dtype, _AGREE_ROUGHLY) * activations.float().norm(dim=-1)
    return all(bool(((one - activations).float().norm(dim=-1) <= allowed).all()) for one in (made, turned))
