"""The same page data by SAEDashboard: `PYTHON bench/feature_peer.py TOKENS.npy UNITS FEATURES SHARE`, in the Python that has sae-dashboard.

`python -m bench.features` calls it where ATLAS_SAEDASHBOARD_PYTHON names that Python. The model has SmolLM2's shape to block 9 and random
weights (TransformerLens does not know SmolLM2's), the dictionary random directions with biases for the same share of active units, so
that the work is the same. Prints one JSON object: seconds and CPU seconds for FEATURES features, and the share of non-zero codes.
"""

# What it imports is not in the project's own environment.
# pyright: reportMissingImports=false

import json
import sys
import time

import numpy as np
import torch
from sae_dashboard.sae_vis_data import SaeVisConfig
from sae_dashboard.sae_vis_runner import SaeVisRunner
from sae_lens import StandardSAE, StandardSAEConfig
from sae_lens.analysis.hooked_sae_transformer import HookedSAETransformer
from transformer_lens import HookedTransformerConfig

HOOK = "blocks.9.hook_resid_post"
LAYERS = 10
VOCABULARY = 49_152


def main() -> int:
    tokens = torch.from_numpy(np.load(sys.argv[1]).astype(np.int64))
    features = int(sys.argv[3])
    torch.manual_seed(0)
    shape = HookedTransformerConfig(
        n_layers=LAYERS, d_model=576, n_ctx=256, d_head=64, n_heads=9, n_key_value_heads=3, d_mlp=1536, d_vocab=VOCABULARY, act_fn="silu",
        gated_mlp=True, normalization_type="RMS", positional_embedding_type="rotary", rotary_dim=64, final_rms=True, device="cpu",
        init_weights=True,
    )  # fmt: skip
    model = HookedSAETransformer(shape)
    model.tokenizer = _Words()  # type: ignore[assignment]
    units = int(sys.argv[2])
    share = float(sys.argv[4])
    encoder = torch.nn.functional.normalize(torch.randn(units, 576), dim=1)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens[:32], names_filter=HOOK, stop_at_layer=LAYERS)
        bias = -torch.quantile(cache[HOOK].flatten(0, 1) @ encoder.T, 1 - share, dim=0)
        sae = StandardSAE(StandardSAEConfig(d_in=576, d_sae=units, apply_b_dec_to_input=False, device="cpu"))
        sae.W_enc.copy_(encoder.T)
        sae.W_dec.copy_(encoder)
        sae.b_enc.copy_(bias)
        sae.b_dec.zero_()
        active = float((sae.encode(cache[HOOK]) != 0).float().mean())
    config = SaeVisConfig(hook_point=HOOK, features=range(features), minibatch_size_features=256, minibatch_size_tokens=64)
    start, used = time.perf_counter(), time.process_time()
    SaeVisRunner(config).run(encoder=sae, model=model, tokens=tokens)
    wall, cpu = time.perf_counter() - start, time.process_time() - used
    start, used = time.perf_counter(), time.process_time()
    with torch.no_grad():
        for at in range(0, len(tokens), 32):
            model.run_with_cache(tokens[at : at + 32], names_filter=HOOK, stop_at_layer=LAYERS)
    bare = time.process_time() - used
    sys.stdout.write(json.dumps({"features": features, "seconds": wall, "cpu": cpu, "bare_cpu": bare, "active": active}) + "\n")
    return 0


class _Words:
    """As much of a tokenizer as the dashboard asks for: a word for every number."""

    bos_token_id, eos_token_id, pad_token_id, padding_side = 0, 0, 0, "right"

    def get_vocab(self) -> dict[str, int]:
        return {f"t{number}": number for number in range(VOCABULARY)}

    def decode(self, ids: object, **_: object) -> str:
        return f"t{ids}"

    def batch_decode(self, ids: list[int], **_: object) -> list[str]:
        return [f"t{each}" for each in ids]


if __name__ == "__main__":
    sys.exit(main())
