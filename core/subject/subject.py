"""A loaded language model: read its sites, intervene on them, and ask its weights where units write to."""

import copy
import platform
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from core.errors import AtlasError
from core.subject.architectures import Architecture
from core.subject.edits import Intervention
from core.subject.info import SubjectInfo
from core.subject.weights import fold_norm, matrix_of, through_norm
from core.units import Site, SiteKind

Handler = Callable[[Tensor], None]
_Change = Callable[[Tensor], Tensor | None]


class _Enough(Exception):
    """Raised out of the last hook, to stop a forward pass that has nothing more to say."""


@dataclass(frozen=True)
class Modules:
    """The modules that an architecture's row names, found in one model."""

    blocks: Sequence[nn.Module]
    mlp_writes: Sequence[nn.Module]
    attn_writes: Sequence[nn.Module]
    final_norm: nn.Module | None
    final_linear: nn.Module | None
    mlp_norms: Sequence[Sequence[nn.Module]]
    attn_norms: Sequence[Sequence[nn.Module]]
    mlps: Sequence[nn.Module]
    """The modules around the MLPs' down-projections; empty where these stand in the block itself."""

    @classmethod
    def find(cls, model: nn.Module, architecture: Architecture) -> "Modules":
        """Look up every path of the row. Raises AtlasError naming the path that leads nowhere."""
        blocks = _module(model, architecture.blocks, "the model")
        if not isinstance(blocks, nn.ModuleList) or not len(blocks):
            raise AtlasError(f"“{architecture.blocks}” is not a list of blocks in this model: name it with blocks=….")

        def each(path: str) -> list[nn.Module]:
            return [_module(block, path, f"block {layer}") for layer, block in enumerate(blocks)]

        def chain(paths: Iterable[str]) -> list[list[nn.Module]]:
            return [[_module(block, path, f"block {layer}") for path in paths] for layer, block in enumerate(blocks)]

        def one(path: str | None) -> nn.Module | None:
            return None if path is None else _module(model, path, "the model")

        return cls(
            list(blocks),
            each(architecture.mlp_write),
            each(architecture.attn_write),
            one(architecture.final_norm),
            one(architecture.final_linear),
            chain(architecture.mlp_norms),
            chain(architecture.attn_norms),
            each(around) if (around := architecture.mlp_write.rpartition(".")[0]) else (),
        )

    def widths(self, d_model: int) -> dict[SiteKind, int]:
        """Units of each kind of site. Raises AtlasError when layers differ or a matrix does not write to the stream."""
        found: dict[SiteKind, int] = {"resid": d_model}
        kinds: tuple[tuple[SiteKind, Sequence[nn.Module]], ...] = (("mlp", self.mlp_writes), ("attn", self.attn_writes))
        for kind, modules in kinds:
            shapes = {tuple(matrix_of(module).shape) for module in modules}
            if len(shapes) > 1:
                raise AtlasError(f"This model's layers differ in the width of {kind}: such models are not supported.")
            width, written = shapes.pop()
            if written != d_model:
                raise AtlasError(
                    f"The module named for {kind} writes {written} numbers, not the model's {d_model}: name its output projection."
                )
            found[kind] = width
        return found


class Subject:
    """A decoder-only model and its tokenizer, on one device, ready to be read. Made by `load_subject`."""

    def __init__(
        self, info: SubjectInfo, model: Any, tokenizer: Any, modules: Modules, device: torch.device, dtype_name: str, matmul: str
    ) -> None:
        """model: the causal language model, in evaluation mode. matmul: how its products are computed, for provenance."""
        self.info = info
        self.model = model
        self.tokenizer = tokenizer
        self.device = device
        self.dtype_name = dtype_name
        self._modules = modules
        self._matmul = matmul
        self._outputs: list[int] = []
        """For each block, how many things it returns in a tuple, or 0 when it returns the residual stream itself. Found when wanted."""
        self._probing = False
        self._batch = 0
        """Texts in the pass under way, to give flattened activations their shape back."""

    def twin(self) -> "Subject":
        """The same model over the same weights, for a pass at the same time in another thread. Not while an edit is open."""
        weights = (*self.model.parameters(), *self.model.buffers())
        shared = {id(one): one for one in (*weights, self.info, self.tokenizer)}
        return copy.deepcopy(self, shared)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text. Nothing is added, nothing is cut. Raises AtlasError for a token that the model lacks."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        size = self.info.vocab_size
        if len(self.tokenizer) > size:  # a tokenizer with tokens that its model was never given
            strange = next((token for text in ids for token in text if token >= size), None)
            if strange is not None:
                word = self.tokenizer.convert_ids_to_tokens(strange)
                raise AtlasError(f"The text holds “{word}”, a token that {self.info.slug} has no embedding for: take it out.")
        return ids

    def read(self, tokens: Tensor, handlers: Mapping[Site, Handler]) -> None:
        """Run the model over `tokens` [batch, length] and give each site's activations [batch, length, width] to its handler.

        A handler is called once, as the pass goes by; what it gets is only sure to stay unchanged until it returns. The pass
        stops after the last site asked for and never reaches the unembedding. Shorter texts are padded on the right with
        any token: attention is causal, so padding changes nothing before it.
        Raises AtlasError for a site the model does not have.
        """
        if not handlers:
            return
        waiting = set(handlers)

        def hand_over(site: Site, activations: Tensor) -> None:
            handlers[site](activations)
            waiting.discard(site)
            if not waiting:
                raise _Enough

        def watch(site: Site) -> _Change:
            return lambda activations: hand_over(site, activations)

        with ExitStack() as stack:
            for site in handlers:
                stack.enter_context(_hooked(self._hook(site, watch(site))))
            try:
                self._run(self.model.base_model, tokens)
            except _Enough:
                return
        raise AtlasError(f"{min(waiting)} was never computed: this model does not call the module named for it.")

    @contextmanager
    def watched(self, site: Site, handler: Handler) -> Generator[None]:
        """While the context is open, every pass that comes to the site gives its activations [batch, length, width] to the handler."""
        with _hooked(self._hook(site, handler)):
            yield

    def capture(self, tokens: Tensor, sites: Iterable[Site]) -> dict[Site, Tensor]:
        """Activations [batch, length, width] of several sites from one pass, in the model's dtype, on its device."""
        found: dict[Site, Tensor] = {}

        def keep(site: Site) -> Handler:
            return lambda activations: found.__setitem__(site, activations.clone())

        self.read(tokens, {site: keep(site) for site in sites})
        return found

    def logits(self, tokens: Tensor, at: Tensor | None = None, *, gradient: bool = False, past: Any = None) -> Tensor:
        """The model's output, shape [batch, length, vocabulary], for `tokens` [batch, length].

        at: only at these positions of each text, [batch, n]; the output is [batch, n, vocabulary], and the unembedding, a fifth of a small
        model's work, is spared elsewhere. gradient: keep what differentiating by an intervention's value takes. past: keys and values of
        what stands before these tokens (a cache of transformers); those of the tokens are added to it.
        """
        if at is None:
            return self._run(self.model, tokens, gradient, past).logits
        rows, columns = torch.arange(at.shape[0], device=self.device)[:, None], at.to(self.device)

        def chosen(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (inputs[0][rows, columns], *inputs[1:])

        with _hooked(self._head().register_forward_pre_hook(chosen)):
            return self._run(self.model, tokens, gradient, past).logits

    @contextmanager
    def edit(self, edits: Sequence[Intervention]) -> Generator[None]:
        """While the context is open, every pass (`read`, `capture`, `logits`) runs with these interventions, in their order.

        A site that is edited and captured is captured as edited. Raises AtlasError for a site the model does not have.
        """
        with ExitStack() as stack:
            for edit in edits:
                stack.enter_context(_hooked(self._hook(edit.site, edit.apply)))
            yield

    @contextmanager
    def going_on_from(self, layer: int, residual: Tensor) -> Generator[None]:
        """While the context is open, passes leave out blocks 0 to `layer` and go on from `residual` [batch, length, d_model] after them.

        What is captured or edited at `resid.<layer>` is `residual`; sites below it are not there. The tokens given to a pass still say
        how many texts there are and how long.
        """
        self._check(Site("resid", layer))
        if not self._outputs:
            self._outputs = self._probe()

        def skipping(output: int, last: bool) -> Callable[..., Any]:
            def forward(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
                stands = residual.to(hidden_states) if last else hidden_states
                return (stands, *([None] * (output - 1))) if output else stands

            return forward

        with ExitStack() as stack:
            for number, block in enumerate(self._modules.blocks[: layer + 1]):
                stack.enter_context(_forward(block, skipping(self._outputs[number], number == layer)))
            yield

    def mlp_at(self, site: Site) -> tuple[nn.Module, nn.Module] | None:
        """The module around the down-projection of an `mlp` site, and the down-projection; None for other sites and where there is none."""
        self._check(site)
        if site.kind != "mlp" or not self._modules.mlps:
            return None
        return self._modules.mlps[site.layer], self._modules.mlp_writes[site.layer]

    def write_directions(self, site: Site) -> Tensor:
        """What each unit of a site writes to the residual stream: rows of [width, d_model], float32.

        For `mlp` and `attn` these are the columns of the block's output projection, for `resid` the axes themselves. Where the
        block normalises before adding to the stream (Gemma 2 and 3, OLMo 2, OPT-350m) the row is multiplied by that norm's
        gain: a linear approximation, as the norm also divides by the size of the whole output.
        """
        self._check(site)
        if site.kind == "resid":
            return torch.eye(self.info.d_model, device=self.device)
        modules = self._modules
        writes, norms = (modules.mlp_writes, modules.mlp_norms) if site.kind == "mlp" else (modules.attn_writes, modules.attn_norms)
        directions = matrix_of(writes[site.layer])
        for norm in norms[site.layer]:
            directions = through_norm(directions, norm)
        return directions.contiguous()

    def unembedding(self) -> Tensor:
        """Rows [vocabulary, d_model], float32: `unembedding() @ direction` is a direction's direct effect on the logits.

        The final norm's gain is folded in, and rows are centred where that norm subtracts the mean. The norm's division by the
        size of the residual stream is left out, as are caps on the logits (Gemma 2).
        """
        rows = matrix_of(self._head()).T
        if self._modules.final_linear is not None:
            rows = rows @ matrix_of(self._modules.final_linear).T
        if self._modules.final_norm is not None:
            rows = fold_norm(rows, self._modules.final_norm)
        return rows.contiguous()

    def provenance(self) -> dict[str, Any]:
        """What a number made with this subject has to say about it."""
        info = self.info
        return {
            "slug": info.slug,
            "source": info.source,
            "name_or_path": info.name_or_path,
            "revision": info.revision,
            "weights_hash": info.weights_hash,
            "tokenizer_hash": info.tokenizer_hash,
            "dtype": self.dtype_name,
            "device": str(self.device),
            "matmul": self._matmul,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version()},
        }

    def _run(self, model: Any, tokens: Tensor, gradient: bool = False, past: Any = None) -> Any:
        self._batch = tokens.shape[0]
        with torch.enable_grad() if gradient else torch.inference_mode():
            kept: dict[str, Any] = {"use_cache": False} if past is None else {"use_cache": True, "past_key_values": past}
            return model(input_ids=tokens.to(self.device), **kept)

    def _head(self) -> nn.Module:
        head = self.model.get_output_embeddings()
        if head is None:
            raise AtlasError("This model has no unembedding: it cannot predict tokens.")
        return head

    def _probe(self) -> list[int]:
        """A pass over one token, in which no intervention that may be open takes part, to see what the blocks return."""
        found: dict[int, int] = {}

        def note(number: int) -> Callable[[nn.Module, Any, Any], None]:
            def after(_: nn.Module, __: Any, output: Any) -> None:
                found[number] = 0 if isinstance(output, Tensor) else len(output)

            return after

        with ExitStack() as stack:
            for number, block in enumerate(self._modules.blocks):
                stack.enter_context(_hooked(block.register_forward_hook(note(number))))
            self._probing = True
            try:
                self._run(self.model.base_model, torch.zeros(1, 1, dtype=torch.long))
            finally:
                self._probing = False
        return [found[number] for number in range(len(self._modules.blocks))]

    def _check(self, site: Site) -> None:
        if site.layer >= self.info.n_layers:
            raise AtlasError(f"{site} is out of range: the layers of {self.info.slug} are 0 to {self.info.n_layers - 1}.")

    def _hook(self, site: Site, change: _Change) -> RemovableHandle:
        """Call `change` on the site's activations [batch, length, width]; a tensor it returns takes their place."""
        self._check(site)

        def changed(stands: Tensor) -> Tensor | None:
            if self._probing:
                return None
            # OPT flattens [batch, length] into one dimension inside its blocks.
            shaped = stands if stands.ndim == 3 else stands.reshape(self._batch, -1, stands.shape[-1])
            result = change(shaped)
            return None if result is None else result.reshape(stands.shape)

        def before(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
            result = changed(inputs[0])
            return None if result is None else (result, *inputs[1:])

        def after(_: nn.Module, __: Any, output: Any) -> Any:
            whole = isinstance(output, Tensor)
            result = changed(output if whole else output[0])
            if result is None:
                return None
            return result if whole else (result, *output[1:])

        if site.kind == "resid":
            return self._modules.blocks[site.layer].register_forward_hook(after)
        writes = self._modules.mlp_writes if site.kind == "mlp" else self._modules.attn_writes
        return writes[site.layer].register_forward_pre_hook(before)


@contextmanager
def _forward(block: nn.Module, instead: Callable[..., Any]) -> Generator[None]:
    """`instead` takes the place of the block's own computation."""
    block.forward = instead
    try:
        yield
    finally:
        del block.forward  # the class's own is there again


@contextmanager
def _hooked(handle: RemovableHandle) -> Generator[None]:
    try:
        yield
    finally:
        handle.remove()


def _module(root: nn.Module, path: str, where: str) -> nn.Module:
    try:
        return root.get_submodule(path)
    except AttributeError:
        raise AtlasError(f"There is no module “{path}” in {where} of this model: name the right path with --architecture.") from None
