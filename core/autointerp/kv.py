"""Beginnings of prompts whose keys and values are kept, and forward passes that continue them. Loads torch.

What is kept is never written to: each pass gets a cache of its own, made from the kept tensors.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_HEAD_ROWS = 16_384
"""Rows of the unembedding made float32 at a time."""


@dataclass(frozen=True)
class Kept:
    """A stretch of a prompt that has been read: its ids, and for each layer keys and values [1, heads, len(ids), head size]."""

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]

    def first(self, n: int) -> "Kept":
        """Its first `n` ids, sharing memory."""
        return Kept(self.ids[:n], tuple((keys[..., :n, :], values[..., :n, :]) for keys, values in self.layers))


class Passes:
    """Forward passes of one causal language model over single prompts. Not for several threads at once."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model, self.device = model, device
        self._config: Any = model.config.get_text_config(decoder=True)
        self._selects = "logits_to_keep" in signature(model.forward).parameters

    def keep(self, before: Sequence[Kept], ids: Sequence[int]) -> Kept:
        """Read `ids` behind what was kept before, and keep them."""
        cache = fresh_cache(before)
        self.read(cache, ids)
        done = sum(len(kept.ids) for kept in before)
        layers: Any = cache.layers
        # The slices are copied, or each would hold the whole cache's memory.
        return Kept(tuple(ids), tuple((layer.keys[..., done:, :].clone(), layer.values[..., done:, :].clone()) for layer in layers))

    def read(self, cache: DynamicCache, ids: Sequence[int]) -> Tensor:
        """What the model expects after `ids`, which are added to the cache: [vocabulary], float32."""
        return self._forward(ids, cache, [len(ids) - 1])[0]

    def logits(self, before: Sequence[Kept], ids: Sequence[int], at: Sequence[int]) -> Tensor:
        """What the model expects after the positions `at` of `ids`, which follow what was kept: [len(at), vocabulary], float32."""
        return self._forward(ids, _continued(before), at)

    def branches(self, before: Sequence[Kept], ids: Sequence[int], at: Sequence[int], token: int) -> tuple[Tensor, Tensor]:
        """The same, and what the model expects had `token` come after each of these positions: two of [len(at), vocabulary], float32.

        One pass: the alternatives stand at the end, each at the place in the text that it would have, and sees only what comes before that
        place and itself (as in tree attention, Miao et al. 2023, SpecInfer). Right only for models that take positions and masks as they
        are given; `branches_are_exact` finds out.
        """
        done, n = sum(len(kept.ids) for kept in before), len(ids)
        places = torch.tensor([*range(n), *(place + 1 for place in at)], device=self.device)
        seen = torch.zeros(n + len(at), n + len(at), dtype=torch.bool, device=self.device)
        seen[:n, :n] = torch.ones(n, n, dtype=torch.bool, device=self.device).tril()
        rows = torch.arange(len(at), device=self.device) + n
        seen[n:, :n] = torch.arange(n, device=self.device) <= torch.tensor(list(at), device=self.device)[:, None]
        seen[rows, rows] = True
        seen = functional.pad(seen, (done, 0), value=True)
        places = places + done
        keys = torch.cat([torch.arange(done, device=self.device), places])
        both = self._forward(
            [*ids, *[token] * len(at)],
            _continued(before),
            [*at, *range(n, n + len(at))],
            attention_mask=self._masks(seen, places[:, None] - keys),
            position_ids=places[None],
        )
        return both[: len(at)], both[len(at) :]

    def steps(self, before: Sequence[Kept], ids: Sequence[int], at: Sequence[int], token: int) -> Tensor:
        """The second of `branches` by plain passes, one for each position: [len(at), vocabulary], float32. For every model."""
        rest = self.keep(before, ids)
        return torch.stack([self.read(fresh_cache([*before, rest.first(place + 1)]), [token]) for place in at])

    def branches_are_exact(self, before: Sequence[Kept], ids: Sequence[int], at: Sequence[int], token: int) -> bool:
        """Whether `branches` agrees with plain passes on this prompt, within what the model's number format allows."""
        if "position_ids" not in signature(self.model.forward).parameters:
            return False
        try:
            here, after = self.branches(before, ids, at, token)
        except (RuntimeError, TypeError, ValueError):  # a model that does not take such a mask
            return False
        allowed = 1e-3 if self.model.dtype == torch.float32 else 0.1
        pairs = ((after, self.steps(before, ids, at, token)), (here, self.logits(before, ids, at)))
        return all(float((one - other).norm()) <= allowed * float((other - other.mean()).norm()) for one, other in pairs)

    def _masks(self, seen: Tensor, distance: Tensor) -> Any:
        """Additive masks [1, 1, queries, keys] as the model's layers want them: with a sliding window where they have one."""
        kinds = set(getattr(self._config, "layer_types", None) or ())
        window = getattr(self._config, "sliding_window", None)
        near = seen & (distance < window) if window else seen
        if kinds <= {"full_attention"}:
            return self._additive(near if not kinds else seen)
        return {"full_attention": self._additive(seen), "sliding_attention": self._additive(near)}

    def _additive(self, seen: Tensor) -> Tensor:
        mask = torch.zeros(seen.shape, dtype=self.model.dtype, device=self.device)
        return mask.masked_fill(~seen, torch.finfo(mask.dtype).min)[None, None]

    def _forward(self, ids: Sequence[int], cache: DynamicCache | None, at: Sequence[int], **more: Any) -> Tensor:
        wanted = torch.tensor(list(at), device=self.device)
        if self._selects:
            more["logits_to_keep"] = wanted
        tokens = torch.tensor([list(ids)], device=self.device)
        with torch.inference_mode(), _float32_head(self.model):
            logits: Tensor = self.model(input_ids=tokens, past_key_values=cache, use_cache=cache is not None, **more).logits[0]
        return (logits if self._selects else logits[wanted]).float()


def joined(parts: Sequence[Kept]) -> Kept:
    """Stretches that follow one another as one. A single one is itself; several are copied."""
    if len(parts) == 1:
        return parts[0]
    layers = zip(*(part.layers for part in parts), strict=True)
    return Kept(
        tuple(token for part in parts for token in part.ids),
        tuple((torch.cat([keys for keys, _ in layer], -2), torch.cat([values for _, values in layer], -2)) for layer in layers),
    )


def fresh_cache(before: Sequence[Kept]) -> DynamicCache:
    """A cache of its own that begins with what was kept.

    It starts from the kept tensors themselves: its layers grow by making new, longer ones. They keep every position, whatever the model's
    attention, as sliding layers could not be continued from the middle.
    """
    cache = DynamicCache()
    for keys, values in joined(before).layers if before else ():
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def _continued(before: Sequence[Kept]) -> DynamicCache | None:
    return fresh_cache(before) if before else None


@contextmanager
def _float32_head(model: Any) -> Generator[None]:
    """While open, the unembedding multiplies in float32: in bfloat16 a logit of 20 is only known to within 0.06."""
    head: Any = model.get_output_embeddings()
    if head.weight.dtype == torch.float32:
        yield
        return

    def exact(module: Any, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
        hidden = inputs[0].float()
        parts = [functional.linear(hidden, rows.float()) for rows in module.weight.split(_HEAD_ROWS)]
        logits = torch.cat(parts, -1)
        return logits if module.bias is None else logits + module.bias.float()

    handle = head.register_forward_hook(exact)
    try:
        yield
    finally:
        handle.remove()
