"""Where each architecture keeps its blocks and the two matrices that write to the residual stream: one table.

A row says, by module path, where the blocks are, and inside a block which module writes the MLP's output and which the
attention's. The inputs of those two modules are the sites `mlp.L` and `attn.L`; the block's output is `resid.L`.
To support another architecture, add a row and a tiny variant of it in tests/models.py: the tests then hold the rest.
"""

from dataclasses import dataclass, replace
from typing import Any

from core.errors import AtlasError


@dataclass(frozen=True)
class Architecture:
    """Module paths of one family of decoder-only models."""

    name: str
    blocks: str
    """The list of blocks, from the causal language model."""
    mlp_write: str
    """The MLP's down-projection, from the block. Its input is `mlp.L`."""
    attn_write: str
    """The attention's output projection, from the block. Its input is `attn.L`."""
    final_norm: str | None = None
    """The norm before the unembedding, from the causal language model; None when there is none."""
    final_linear: str | None = None
    """A projection between the final norm and the unembedding (OPT-350m), from the causal language model."""
    mlp_norms: tuple[str, ...] = ()
    """Norms inside the block that the MLP's output passes before the next block reads it, in order."""
    attn_norms: tuple[str, ...] = ()
    """The same for the attention's output."""

    def __str__(self) -> str:
        return self.name


def _row(name: str, blocks: str, mlp: str, attn: str, norm: str) -> Architecture:
    return Architecture(name, blocks, mlp, attn, f"{blocks.rpartition('.')[0]}.{norm}")


def _llama_like(name: str, **changes: Any) -> Architecture:
    return replace(_row(name, "model.layers", "mlp.down_proj", "self_attn.o_proj", "norm"), **changes)


_SANDWICH: dict[str, Any] = {"mlp_norms": ("post_feedforward_layernorm",), "attn_norms": ("post_attention_layernorm",)}
"""Gemma 2, Gemma 3 and OLMo 2 normalise what a block's part writes before adding it to the stream."""

ARCHITECTURES: dict[str, Architecture] = {
    row.name: row
    for row in (
        _row("gpt2", "transformer.h", "mlp.c_proj", "attn.c_proj", "ln_f"),
        _row("gpt_neo", "transformer.h", "mlp.c_proj", "attn.attention.out_proj", "ln_f"),
        _row("gpt_neox", "gpt_neox.layers", "mlp.dense_4h_to_h", "attention.dense", "final_layer_norm"),
        _row("gptj", "transformer.h", "mlp.fc_out", "attn.out_proj", "ln_f"),
        _row("opt", "model.decoder.layers", "fc2", "self_attn.out_proj", "final_layer_norm"),
        _row("bloom", "transformer.h", "mlp.dense_4h_to_h", "self_attention.dense", "ln_f"),
        _row("falcon", "transformer.h", "mlp.dense_4h_to_h", "self_attention.dense", "ln_f"),
        _row("phi", "model.layers", "mlp.fc2", "self_attn.dense", "final_layernorm"),
        _llama_like("llama"),
        _llama_like("mistral"),
        _llama_like("qwen2"),
        _llama_like("qwen3"),
        _llama_like("phi3"),
        _llama_like("gemma"),
        _llama_like("olmo"),
        _llama_like("stablelm"),
        _llama_like("smollm3"),
        _llama_like("olmo2", **_SANDWICH),
        _llama_like("gemma2", **_SANDWICH),
        _llama_like("gemma3_text", **_SANDWICH),
        _llama_like("gemma3", blocks="model.language_model.layers", final_norm="model.language_model.norm", **_SANDWICH),
    )
}

_EXAMPLE = "--architecture blocks=model.layers,mlp=mlp.down_proj,attn=self_attn.o_proj"
_KEYS = ("blocks", "mlp", "attn", "norm")


def architecture_by_hand(text: str) -> Architecture:
    """Read `blocks=model.layers,mlp=mlp.down_proj,attn=self_attn.o_proj[,norm=model.norm]`.

    Without `norm`, the direct logit effect uses the unembedding as it is. Raises AtlasError for anything else.
    """
    found: dict[str, str] = {}
    for item in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, path = (part.strip() for part in item.partition("="))
        if key not in _KEYS or not equals or not path or key in found:
            raise AtlasError(f"“{item[:60]}” does not name a module: write {_EXAMPLE}.")
        found[key] = path
    missing = [key for key in ("blocks", "mlp", "attn") if key not in found]
    if missing:
        raise AtlasError(f"The architecture lacks {' and '.join(missing)}: write {_EXAMPLE}.")
    name = ",".join(f"{key}={found[key]}" for key in _KEYS if key in found)
    return Architecture(name, found["blocks"], found["mlp"], found["attn"], found.get("norm"))


def named_architecture(text: str) -> Architecture:
    """A row of the table by its name, or the paths of `architecture_by_hand`. Raises AtlasError."""
    return ARCHITECTURES.get(text) or architecture_by_hand(text)


def architecture_of(config: Any, by_hand: str | None = None) -> Architecture:
    """The row for a model's configuration, or the paths given `by_hand` (a row's name is accepted too).

    Raises AtlasError for an architecture that is not in the table, saying how to name its modules.
    """
    kind = str(config.model_type)
    if by_hand is not None:
        return named_architecture(by_hand)
    row = ARCHITECTURES.get(kind)
    if row is None:
        raise AtlasError(
            f"The architecture “{kind}” is not in the table: name the paths of its blocks, of the MLP's down-projection and of the"
            f" attention's output projection by hand, for example {_EXAMPLE}."
        )
    if kind == "opt":
        return _opt(row, config)
    if kind == "bloom" and config.apply_residual_connection_post_layernorm:
        return replace(row, attn_norms=("post_attention_layernorm",))  # its output becomes the stream
    return row


def _opt(row: Architecture, config: Any) -> Architecture:
    """OPT-350m normalises after adding instead of before reading, has no final norm, and embeds in a smaller space."""
    if config.word_embed_proj_dim != config.hidden_size:
        row = replace(row, final_linear="model.decoder.project_out")
    if config.do_layer_norm_before:
        return replace(row, final_norm=None) if getattr(config, "_remove_final_layer_norm", False) else row
    return replace(row, final_norm=None, mlp_norms=("final_layer_norm",), attn_norms=("self_attn_layer_norm", "final_layer_norm"))
