"""A tiny model with planted units and a text for it: units that fire on one word, on “all” only right after “not”, and on digits.

The weights are edited; the model is then saved, loaded, indexed and explained as any other. A token's embedding has a constant, flags for
what the units look for, and noise that fills it to the same length, so that normalisation does the same everywhere. One head looks one
token back (by the phases that rotary positions give it) and notes whether “not” stands there.
"""

import json
import math
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

FIGHT, NOT_ALL, DIGITS = 0, 1, 2
"""Units of mlp.0; those after them are random."""
WIDTH, UNITS, HEAD = 64, 12, 16
_CONSTANT, _FIGHT, _NOT, _ALL, _DIGIT, _AFTER_NOT, _NOISE = range(7)
_FLAG, _SHARP = 4.0, 40.0
_NUMBERS = [str(digit) for digit in range(10)]
_PLAIN = ["the", "cat", "and", "a", "dog", "of", "house", "on", "it", "water", "no", "one", "river", "went", "red", "old", "they", "saw"]
_WORDS = [*_PLAIN, *_NUMBERS, "fight", "not", "all"]


def plant(folder: Path, contexts: int = 150) -> dict[str, Any]:
    """Write the model and the text into `folder`; return the parameters of a run that indexes them."""
    model = folder / "planted"
    vocabulary = _tokenizer(model)
    _model(model, vocabulary)
    rng = random.Random(0)
    lines: list[str] = []
    for _ in range(contexts):
        words: list[str] = []
        while len(words) < 15:
            kind = rng.random()
            words += ["not", "all"] if kind < 0.04 else [rng.choice(["fight", "not", "all", rng.choice(_NUMBERS)])] if kind < 0.2 else []
            words.append(rng.choice(_PLAIN))
        lines.append(json.dumps({"text": "".join(f" {word}" for word in words[:15])}))
    (folder / "text.jsonl").write_text("\n".join(lines), "utf8")
    corpus = {"source": str(folder / "text.jsonl"), "contexts": contexts, "length": 16}
    return {"model": str(model), "corpus": corpus, "sites": "mlp.0", "publish_seconds": 1000}


class QuietProgress:
    """Progress of a run that nobody watches."""

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None: ...

    def stage(self, name: str) -> None: ...

    def log(self, line: str) -> None: ...


def _tokenizer(folder: Path) -> dict[str, int]:
    """One token for each word with the blank before it. Returns the numbers of the tokens."""
    merges: dict[tuple[str, str], None] = {}
    for word in _WORDS:
        whole = "Ġ"
        for letter in word:
            merges[whole, letter] = None
            whole += letter
    tokens = ["<|bos|>", *sorted(ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    numbers = {token: number for number, token in enumerate(tokens)}
    backend = Tokenizer(BPE(vocab=numbers, merges=list(merges)))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteLevelDecoder()
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|bos|>", model_max_length=128).save_pretrained(folder)
    return numbers


@torch.no_grad()
def _model(folder: Path, vocabulary: dict[str, int]) -> None:
    config = AutoConfig.for_model(
        "llama", vocab_size=len(vocabulary), hidden_size=WIDTH, intermediate_size=UNITS, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=4, head_dim=HEAD, max_position_embeddings=128, bos_token_id=0, eos_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(0)
    layer = model.model.layers[0]
    for norm in (layer.input_layernorm, layer.post_attention_layernorm, model.model.norm):
        norm.weight.fill_(1.0)
    embeddings = model.model.embed_tokens.weight
    embeddings.zero_()
    for column, words in ((_FIGHT, ["fight"]), (_NOT, ["not"]), (_ALL, ["all"]), (_DIGIT, _NUMBERS)):
        embeddings[[vocabulary[f"Ġ{word}"] for word in words], column] = _FLAG
    embeddings[:, _CONSTANT] = 1.0
    noise = torch.randn(len(vocabulary), WIDTH - _NOISE, generator=generator)
    left = WIDTH - embeddings.square().sum(1, keepdim=True)
    embeddings[:, _NOISE:] = noise / noise.norm(dim=1, keepdim=True) * left.sqrt()
    # The first head's score is highest for the token before; the others look at nothing and write nothing.
    attention = layer.self_attn
    for weight in (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight, attention.o_proj.weight):
        weight.zero_()
    half = HEAD // 2
    for pair in range(3):
        turn = 10_000 ** (-2 * pair / HEAD)
        attention.q_proj.weight[pair, _CONSTANT] = _SHARP * math.cos(turn)
        attention.q_proj.weight[pair + half, _CONSTANT] = -_SHARP * math.sin(turn)
        attention.k_proj.weight[pair, _CONSTANT] = _SHARP**0.5
    attention.v_proj.weight[0, _NOT] = 1.0
    attention.o_proj.weight[_AFTER_NOT, 0] = 1.0
    gate, up, down = layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight, layer.mlp.down_proj.weight
    for weight in (gate, up, down, model.lm_head.weight):
        weight.copy_(torch.randn(weight.shape, generator=generator) / weight.shape[1] ** 0.5)
    gate[:3].zero_()
    up[:3].zero_()
    up[:3, _CONSTANT] = 1.0
    for unit, columns, floor in ((FIGHT, [_FIGHT], 0.5), (NOT_ALL, [_ALL, _AFTER_NOT], 1.5), (DIGITS, [_DIGIT], 0.5)):
        gate[unit, columns] = 4.0
        gate[unit, _CONSTANT] = -4.0 * _FLAG * floor
    model.save_pretrained(folder)
