"""Tiny random language models of every architecture, with a byte-level tokenizer that can encode any text.

Everything is made here, from a seed, without a network: a model folder holds what a real one would (config.json,
model.safetensors, tokenizer.json, tokenizer_config.json), so that tests go through the same loader as people do.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from core.subject.load import load_subject
from core.subject.subject import Subject
from core.workspace import Workspace

logging.disable_progress_bar()

D_MODEL = 32
MLP_WIDTH = 48
HEADS = 4
CONTEXT_LIMIT = 128
BOS, EOS = 0, 1
VOCABULARY = 290

_MERGES = (
    "Ġ t|Ġ a|h e|i n|r e|o n|Ġt he|e r|a t|e n|Ġ s|Ġ o|o r|n d|Ġ w|e s|i s|i t|o u|Ġ c|in g|Ġ f|Ġ i|Ġ b|a r|a n|Ġo f|Ġ p|e d|Ġa nd|a l|Ġt o"
)

_LLAMA = {
    "hidden_size": D_MODEL,
    "intermediate_size": MLP_WIDTH,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_LIMIT,
    "tie_word_embeddings": False,
}
_GEMMA = _LLAMA | {"head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 8, "tie_word_embeddings": True}
_GPT2 = {"n_embd": D_MODEL, "n_head": HEADS, "n_positions": CONTEXT_LIMIT, "n_inner": MLP_WIDTH}
_FALCON = {"hidden_size": D_MODEL, "num_attention_heads": HEADS, "ffn_hidden_size": MLP_WIDTH, "max_position_embeddings": CONTEXT_LIMIT}
_OPT = {"hidden_size": D_MODEL, "ffn_dim": MLP_WIDTH, "num_attention_heads": HEADS, "max_position_embeddings": CONTEXT_LIMIT}

# Variant -> (model_type, what its config is made of). A model_type is its own plainest variant.
_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", _GPT2),
    "gpt_neo": (
        "gpt_neo",
        {
            "hidden_size": D_MODEL,
            "intermediate_size": MLP_WIDTH,
            "num_heads": HEADS,
            "max_position_embeddings": CONTEXT_LIMIT,
            "window_size": 8,
        },
    ),
    "gpt_neox": ("gpt_neox", {k: v for k, v in _LLAMA.items() if k != "num_key_value_heads"}),
    "gpt_neox-sequential": ("gpt_neox", {k: v for k, v in _LLAMA.items() if k != "num_key_value_heads"} | {"use_parallel_residual": False}),
    "gptj": ("gptj", _GPT2 | {"rotary_dim": 4, "tie_word_embeddings": False}),
    "opt": ("opt", _OPT | {"word_embed_proj_dim": D_MODEL}),
    "opt-350m": ("opt", _OPT | {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "bloom": ("bloom", {"hidden_size": D_MODEL, "n_head": HEADS}),
    "bloom-post": ("bloom", {"hidden_size": D_MODEL, "n_head": HEADS, "apply_residual_connection_post_layernorm": True}),
    "llama": ("llama", _LLAMA),
    "mistral": ("mistral", _LLAMA | {"sliding_window": 8}),
    "qwen2": ("qwen2", _LLAMA),
    "qwen3": ("qwen3", _LLAMA | {"head_dim": 12}),
    "gemma": ("gemma", _LLAMA | {"head_dim": 12, "tie_word_embeddings": True}),
    "gemma2": ("gemma2", _GEMMA),
    "gemma3_text": ("gemma3_text", _GEMMA),
    "phi": ("phi", _LLAMA),
    "phi3": ("phi3", _LLAMA | {"pad_token_id": EOS}),
    "olmo": ("olmo", _LLAMA),
    "olmo2": ("olmo2", _LLAMA),
    "falcon": ("falcon", _FALCON | {"multi_query": True, "parallel_attn": True}),
    "falcon-new": ("falcon", _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-alibi": ("falcon", _FALCON | {"multi_query": False, "parallel_attn": False, "alibi": True, "bias": True}),
    "stablelm": ("stablelm", _LLAMA),
    "smollm3": ("smollm3", _LLAMA | {"pad_token_id": EOS}),
    "gemma3": ("gemma3", _GEMMA | {"tie_word_embeddings": True}),
}

# Models that the program does not know: one it can be told about, and some that it has to refuse.
_STRANGERS: dict[str, tuple[str, dict[str, Any]]] = {
    "starcoder2": ("starcoder2", _LLAMA),
    "bert": ("bert", {"hidden_size": D_MODEL, "intermediate_size": MLP_WIDTH, "num_attention_heads": HEADS}),
    "t5": ("t5", {"d_model": D_MODEL, "d_ff": MLP_WIDTH, "num_heads": HEADS, "d_kv": 8, "num_layers": 1}),
    "vit": ("vit", {"hidden_size": D_MODEL, "intermediate_size": MLP_WIDTH, "num_attention_heads": HEADS, "image_size": 32}),
}


def make_tiny_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Save a byte-level BPE tokenizer of 290 tokens into `folder`. Tokens 0 and 1 are `<|bos|>` and `<|endoftext|>`."""
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in _MERGES.split("|"))]
    words = ["<|bos|>", "<|endoftext|>", *sorted(ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    backend = Tokenizer(BPE(vocab={word: index for index, word in enumerate(words)}, merges=merges))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|bos|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT_LIMIT,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def tiny_variants() -> list[str]:
    """Every name that `make_tiny_model` takes as its model_type."""
    return list(_VARIANTS)


def load_tiny_model(folder: Path, model_type: str, n_layers: int) -> Subject:
    """Make a tiny model in `folder` (see `make_tiny_model`) and load it from there as people do, into a workspace beside it."""
    make_tiny_model(folder / model_type, model_type, n_layers)
    return load_subject(Workspace.open(folder / "ws"), str(folder / model_type), device="cpu")


def random_tokens(contexts: int, length: int, seed: int) -> Tensor:
    """Tokens of the tiny tokenizer, none of them special: [contexts, length]."""
    return torch.randint(2, VOCABULARY, (contexts, length), generator=torch.Generator().manual_seed(seed))


def make_tiny_model(folder: Path, model_type: str = "llama", n_layers: int = 2, seed: int = 0) -> Path:
    """Save a tiny random model and its tokenizer into `folder` (created when missing) and return it.

    model_type: one of `tiny_variants()`, or `starcoder2`, `bert`, `t5`, `vit`, which are not in the table.
    The weights are large enough that every part of a block matters: matrices have a variance of 1 / fan-in, gains and biases
    differ from one and zero.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tiny_tokenizer(folder)
    kind, settings = (_VARIANTS | _STRANGERS)[model_type]
    settings = settings | {"vocab_size": len(tokenizer), "bos_token_id": BOS, "eos_token_id": EOS}
    if kind == "gpt_neo":
        settings |= {"num_layers": n_layers, "attention_types": [[[("global", "local")[layer % 2]], 1] for layer in range(n_layers)]}
    elif kind in ("gpt2", "gptj", "bloom"):
        settings |= {"n_layer": n_layers}
    else:
        settings |= {"num_hidden_layers": n_layers}
    if kind == "gemma3":  # the language model of one that also sees
        vision = {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        }
        settings = {"text_config": settings, "vision_config": vision, "mm_tokens_per_image": 1, "tie_word_embeddings": True}
    config = AutoConfig.for_model(kind, **settings)
    make: Any = AutoModel if kind in ("bert", "t5", "vit") else AutoModelForCausalLM
    model: PreTrainedModel = make.from_config(config)
    randomise(model, seed)
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def randomise(model: PreTrainedModel, seed: int) -> None:
    """Fill every parameter from `seed`, in the order of their names."""
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2:
            parameter.copy_(noise / parameter.shape[-1] ** 0.5)
        else:
            parameter.add_(0.2 * noise)
