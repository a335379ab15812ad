"""The other side of test_bases_formats_parity.py: sae-lens, dictionary_learning or sparsify, in a Python that has it and nothing of ours.

A question is a line of JSON, {"ask": name, ...}, and so is its answer: {"answer": ...}, or {"raised": the exception's name, "text": ...}.
Tensors are nested lists; float32 survives JSON exactly. Opens no connection.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false
import contextlib
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

TOKENS = 24


def _randomise(module: Any, seed: int) -> None:
    """Every parameter becomes random, biases too: defaults of zero would hide what they do. Thresholds stay positive."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        values = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.data = (values.abs() if "threshold" in name else values).to(parameter.dtype)


def _x(seed: int, *shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + 1)) * 2 + 0.5


def hello(package: str) -> str:
    return version(package)


@torch.no_grad()
def saelens_write(folder: str, config: dict[str, Any], metadata: dict[str, Any], seed: int, heads: int = 0) -> dict[str, Any]:
    """Save a random dictionary of theirs, load it as their users do, and say what it makes of random activations."""
    from sae_lens import SAE
    from sae_lens.registry import get_sae_class
    from sae_lens.saes.sae import SAEMetadata

    sae_class, config_class = get_sae_class(config["architecture"])
    given = {name: value for name, value in config.items() if name != "architecture"}
    sae = sae_class(config_class(**given, metadata=SAEMetadata(**metadata)))
    _randomise(sae, seed)
    sae.save_model(folder)
    x = _x(seed, TOKENS, config["d_in"])
    loaded = SAE.load_from_disk(folder)
    shaped = x.reshape(TOKENS, heads, -1) if heads else x
    return {"x": x.tolist(), "codes": loaded.encode(shaped).tolist(), "out": loaded(shaped).reshape(TOKENS, -1).tolist()}


@torch.no_grad()
def saelens_load(folder: str, x: Any, heads: int = 0) -> dict[str, Any]:
    """What they make of a file of ours, and what they understand of it."""
    from sae_lens import SAE

    loaded = SAE.load_from_disk(folder)
    given = torch.tensor(x)
    given = given.reshape(len(given), heads, -1) if heads else given
    out = loaded(given)
    metadata = loaded.cfg.metadata
    return {
        "codes": loaded.encode(given).tolist(),
        "out": out.reshape(len(out), -1).tolist(),
        "architecture": loaded.cfg.architecture(),
        "model_name": metadata.model_name,
        "hook_name": metadata.hook_name,
        "context_size": metadata.context_size,
        "prepend_bos": metadata.prepend_bos,
    }


@torch.no_grad()
def saelens_resave(folder: str, to: str, change: float = 0.0) -> bool:
    """Load a file of ours and save it as their users do, its encoder moved by `change`."""
    from sae_lens import SAE

    loaded = SAE.load_from_disk(folder)
    loaded.W_enc += change
    loaded.save_model(to)
    return True


@torch.no_grad()
def dictlearn_write(folder: str, kind: str, d_in: int, units: int, k: int, seed: int, unit_norm: bool) -> dict[str, Any]:
    """Save a random dictionary as their trainers do, load it as their users do, and say what it makes of random activations."""
    from dictionary_learning import dictionary
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK
    from dictionary_learning.utils import load_dictionary

    own = {"AutoEncoderTopK": AutoEncoderTopK, "BatchTopKSAE": BatchTopKSAE}
    if kind == "MatryoshkaBatchTopKSAE":
        made: Any = MatryoshkaBatchTopKSAE(d_in, units, k, [units // 4, units - units // 4])
    elif kind in own:
        made = own[kind](d_in, units, k)
    else:
        made = getattr(dictionary, kind)(d_in, units)
    _randomise(made, seed)
    if unit_norm:
        made.decoder.weight.data /= made.decoder.weight.data.norm(dim=0)
    if "BatchTopK" in kind:
        made.threshold.fill_(0.4)
    Path(folder).mkdir(parents=True)
    torch.save(made.state_dict(), f"{folder}/ae.pt")
    trainer = {"dict_class": kind, "activation_dim": d_in, "dict_size": units, "k": k, "layer": 1, "lm_name": "EleutherAI/tiny"}
    config = {"trainer": trainer | {"submodule_name": "resid_post_layer_1"}, "buffer": {"ctx_len": 128, "io": "out", "d_submodule": d_in}}
    Path(folder, "config.json").write_text(json.dumps(config))
    loaded, _ = load_dictionary(folder, "cpu")
    x = _x(seed, TOKENS, d_in)
    return {"x": x.tolist(), "codes": loaded.encode(x).tolist(), "out": loaded(x).tolist()}


@torch.no_grad()
def sparsify_write(folder: str, config: dict[str, Any], d_in: int, seed: int) -> dict[str, Any]:
    """Save a random dictionary of theirs, load it again, and say what it makes of random activations."""
    from sparsify import SparseCoder
    from sparsify.config import SparseCoderConfig

    made = SparseCoder(d_in, SparseCoderConfig(**config))
    _randomise(made, seed)
    made.save_to_disk(folder)
    loaded = SparseCoder.load_from_disk(folder)
    x = _x(seed, TOKENS, d_in)
    encoded = loaded.encode(x)
    codes = torch.zeros(TOKENS, loaded.num_latents).scatter_(1, encoded.top_indices, encoded.top_acts)
    return {"x": x.tolist(), "codes": codes.tolist(), "out": loaded(x).sae_out.tolist()}


ASKED = {function.__name__: function for function in (hello, saelens_write, saelens_load, saelens_resave, dictlearn_write, sparsify_write)}


def main() -> None:
    answers = sys.stdout
    torch.set_num_threads(1)
    # Whatever they print must not get between the answers.
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            question = json.loads(line)
            try:
                answer = {"answer": ASKED[question.pop("ask")](**question)}
            except Exception as error:  # noqa: BLE001 - which exception it is, is the answer
                answer = {"raised": type(error).__name__, "text": str(error)}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
