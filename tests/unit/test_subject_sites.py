"""What is captured at a site is what the model itself computes there, in every architecture of the table."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.errors import AtlasError
from core.subject.architectures import ARCHITECTURES
from core.subject.subject import Subject
from core.units import SITE_KINDS, Site
from tests.models import load_tiny_model, random_tokens, tiny_variants

LAYERS = 3
SITES = [Site(kind, layer) for layer in range(LAYERS) for kind in SITE_KINDS]

# The blocks, and in each the module whose output is the MLP's and the attention's, found by reading each model's code.
_PARTS = {
    "gpt2": ("transformer.h", "mlp", "attn"),
    "gpt_neo": ("transformer.h", "mlp", "attn"),
    "gpt_neox": ("gpt_neox.layers", "mlp", "attention"),
    "gptj": ("transformer.h", "mlp", "attn"),
    "opt": ("model.decoder.layers", "fc2", "self_attn"),
    "bloom": ("transformer.h", "mlp", "self_attention"),
    "falcon": ("transformer.h", "mlp", "self_attention"),
    "gemma3": ("model.language_model.layers", "mlp", "self_attn"),
}
_SANDWICHED = ("gemma2", "gemma3_text", "gemma3", "olmo2")


@pytest.fixture(scope="module", params=tiny_variants())
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_tiny_model(tmp_path_factory.mktemp("subject"), request.param, LAYERS)


@pytest.fixture
def tokens() -> Tensor:
    return random_tokens(3, 21, seed=5)


def name_of(subject: Subject) -> str:
    return Path(subject.info.name_or_path).name


def blocks_of(subject: Subject) -> tuple[nn.ModuleList, str, str]:
    path, mlp, attention = _PARTS.get(subject.model.config.model_type, ("model.layers", "mlp", "self_attn"))
    blocks = subject.model.get_submodule(path)
    assert isinstance(blocks, nn.ModuleList)
    return blocks, mlp, attention


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_every_row_of_the_table_has_a_tiny_model() -> None:
    assert set(ARCHITECTURES) <= set(tiny_variants())


def test_sites_give_the_outputs_of_the_models_own_modules(subject: Subject, tokens: Tensor) -> None:
    blocks, mlp, attention = blocks_of(subject)
    own: dict[tuple[str, int], Tensor] = {}

    def keep(kind: str, layer: int) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            output = (output if isinstance(output, Tensor) else output[0]).clone()  # Falcon adds to it in place
            if subject.model.config.model_type == "bloom":  # its parts add the residual, their second argument, themselves
                output = output - inputs[1]
            own[kind, layer] = output.reshape(*tokens.shape, -1)

        return hook

    handles = [blocks[layer].get_submodule(mlp).register_forward_hook(keep("mlp", layer)) for layer in range(LAYERS)]
    handles += [blocks[layer].get_submodule(attention).register_forward_hook(keep("attn", layer)) for layer in range(LAYERS)]
    found = subject.capture(tokens, [Site("resid", LAYERS - 1)] + [site for site in SITES if site.kind != "resid"])
    for handle in handles:
        handle.remove()
    row = ARCHITECTURES[subject.info.architecture]
    for layer in range(LAYERS):
        with torch.no_grad():
            close(blocks[layer].get_submodule(row.mlp_write)(found[Site("mlp", layer)]), own["mlp", layer])
            close(blocks[layer].get_submodule(row.attn_write)(found[Site("attn", layer)]), own["attn", layer])


def test_the_next_blocks_input_is_resid(subject: Subject, tokens: Tensor) -> None:
    found = subject.capture(tokens, SITES)
    with torch.no_grad():
        hidden = subject.model(tokens, output_hidden_states=True, use_cache=False).hidden_states
    assert len(hidden) == LAYERS + 1
    for layer in range(LAYERS - 1):  # the last of `hidden` has passed the final norm
        close(found[Site("resid", layer)], hidden[layer + 1])


def test_the_three_sites_together_rebuild_the_block(subject: Subject, tokens: Tensor) -> None:
    """Nothing else writes to the stream: what a block gives out is what came in plus what its two matrices write."""
    found = subject.capture(tokens, SITES)
    blocks, _, _ = blocks_of(subject)
    row = ARCHITECTURES[subject.info.architecture]
    for layer in range(1, LAYERS):
        block: Any = blocks[layer]
        before, after = found[Site("resid", layer - 1)], found[Site("resid", layer)]
        with torch.no_grad():
            mlp = block.get_submodule(row.mlp_write)(found[Site("mlp", layer)])
            attention = block.get_submodule(row.attn_write)(found[Site("attn", layer)])
            if subject.info.architecture in _SANDWICHED:
                rebuilt = before + block.post_attention_layernorm(attention) + block.post_feedforward_layernorm(mlp)
            elif name_of(subject) == "opt-350m":
                rebuilt = block.final_layer_norm(block.self_attn_layer_norm(before + attention) + mlp)
            elif name_of(subject) == "bloom-post":
                rebuilt = block.post_attention_layernorm(block.input_layernorm(before) + attention) + mlp
            else:
                rebuilt = before + attention + mlp
        close(rebuilt, after)


def test_stopping_early_changes_nothing_and_skips_later_blocks(subject: Subject, tokens: Tensor) -> None:
    whole = subject.capture(tokens, SITES)
    blocks, _, _ = blocks_of(subject)
    ran: list[int] = []
    handles = [block.register_forward_hook(lambda *_, layer=layer: ran.append(layer)) for layer, block in enumerate(blocks)]
    for site in SITES:
        ran.clear()
        assert torch.equal(subject.capture(tokens, [site])[site], whole[site])
        assert ran == list(range(site.layer + (site.kind == "resid")))
    for handle in handles:
        handle.remove()


def test_reading_never_runs_the_unembedding(subject: Subject, tokens: Tensor) -> None:
    ran: list[int] = []
    handle = subject.model.get_output_embeddings().register_forward_hook(lambda *_: ran.append(1))
    subject.capture(tokens, SITES)
    assert ran == []
    subject.logits(tokens)
    handle.remove()
    assert ran == [1]


def test_padding_on_the_right_changes_nothing_before_it(subject: Subject, tokens: Tensor) -> None:
    whole = subject.capture(tokens, SITES)
    padded = tokens.clone()
    padded[:, 9:] = 1
    cut = subject.capture(padded, SITES)
    alone = subject.capture(tokens[:1, :9], SITES)
    for site in SITES:
        close(cut[site][:, :9], whole[site][:, :9])
        close(alone[site], whole[site][:1, :9])


def test_widths_are_those_of_the_activations(subject: Subject, tokens: Tensor) -> None:
    for site, activations in subject.capture(tokens, SITES).items():
        assert activations.shape == (*tokens.shape, subject.info.widths[site.kind])


def test_a_layer_that_is_not_there_is_refused(subject: Subject, tokens: Tensor) -> None:
    with pytest.raises(AtlasError, match=r"mlp\.3 is out of range"):
        subject.capture(tokens, [Site("resid", 0), Site("mlp", LAYERS)])
    assert set(subject.capture(tokens, [Site("resid", 0)])) == {Site("resid", 0)}  # no hook was left behind


def test_an_error_in_a_handler_reaches_the_caller(subject: Subject, tokens: Tensor) -> None:
    def fail(_: Tensor) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        subject.read(tokens, {Site("mlp", 0): fail})
    assert torch.isfinite(subject.logits(tokens)).all()  # the failing hook is gone
