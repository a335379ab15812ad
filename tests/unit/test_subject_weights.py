"""Write directions and the direct logit effect, against what the running model does."""

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.subject import matmul
from core.subject.edits import Edit
from core.subject.matmul import MAX_ERROR, choose_matmul
from core.subject.subject import Subject
from core.subject.weights import norm_of, through_norm
from core.units import Site, SiteKind
from tests.models import load_tiny_model, random_tokens, tiny_variants

LAYERS = 2


@pytest.fixture(scope="module", params=tiny_variants())
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_tiny_model(tmp_path_factory.mktemp("subject"), request.param, LAYERS)


@pytest.fixture
def tokens() -> Tensor:
    return random_tokens(1, 6, seed=7)


def test_direct_logit_effect_is_the_slope_of_the_logits(subject: Subject, tokens: Tensor) -> None:
    """d logits = W_U · diag(gain) · C · v / size, exactly, for a direction v at right angles to the residual stream."""
    site = Site("resid", LAYERS - 1)
    stream = subject.capture(tokens, [site])[site][0, -1].double()
    cap = getattr(subject.model.config.get_text_config(), "final_logit_softcapping", None)

    def logits(change: Tensor | None = None) -> Tensor:
        edits = [] if change is None else [Edit(site, "add", change.float(), positions=torch.tensor([tokens.shape[1] - 1]))]
        with subject.edit(edits):
            out = subject.logits(tokens)[0, -1].double()
        return out if cap is None else cap * torch.atanh(out / cap)  # Gemma 2 bends large logits

    norm = subject._modules.final_norm  # pyright: ignore[reportPrivateUsage]
    direction = torch.randn(subject.info.d_model, generator=torch.Generator().manual_seed(8)).double()
    size = torch.tensor(1.0).double()
    if norm is not None:
        _, centred = norm_of(norm, subject.info.d_model)
        stream = stream - stream.mean() if centred else stream
        direction = direction - (direction @ stream) / (stream @ stream) * stream
        size = stream.square().mean().sqrt()
    step = 0.02
    slope = (logits(step * direction) - logits(-step * direction)) / (2 * step)
    expected = subject.unembedding().double() @ direction / size
    torch.testing.assert_close(slope, expected, rtol=2e-3, atol=2e-3)
    assert expected.abs().max() > 0.1


@pytest.mark.parametrize("kind", ["mlp", "attn"])
def test_a_units_write_direction_is_what_it_adds_to_the_stream(subject: Subject, tokens: Tensor, kind: SiteKind) -> None:
    """Exactly so where nothing stands between. A norm in between also scales, and takes out the part along its own input."""
    site, mlp, after = Site(kind, LAYERS - 1), Site("mlp", LAYERS - 1), Site("resid", LAYERS - 1)
    directions = subject.write_directions(site)
    assert directions.shape == (subject.info.widths[kind], subject.info.d_model)
    modules = subject._modules  # pyright: ignore[reportPrivateUsage]
    norms = (modules.mlp_norms if kind == "mlp" else modules.attn_norms)[LAYERS - 1]
    inputs: list[Tensor] = []
    handles = [norm.register_forward_pre_hook(lambda _, given: inputs.append(given[0].reshape(-1, 32)[5].clone())) for norm in norms]
    frozen = [] if kind == "mlp" else [Edit(mlp, "replace", subject.capture(tokens, [mlp])[mlp])]  # the MLP reads the attention
    inputs.clear()
    subject.capture(tokens, [after])
    for handle in handles:
        handle.remove()
    taken_out = [_through(vector, list(norms)[place:]) for place, vector in enumerate(inputs)]
    for unit in (0, subject.info.widths[kind] - 1):
        change = _slope(subject, tokens, frozen, site, unit, after)
        span = torch.stack([directions[unit], *taken_out], dim=1).double()
        shares = torch.linalg.lstsq(span, change[:, None]).solution
        torch.testing.assert_close((span @ shares)[:, 0], change, rtol=5e-3, atol=5e-3)
        if norms:
            assert shares[0] > 0
        else:
            torch.testing.assert_close(directions[unit].double(), change, rtol=5e-3, atol=2e-3)


def _through(vector: Tensor, norms: list[nn.Module]) -> Tensor:
    for norm in norms:
        vector = through_norm(vector[None], norm)[0]
    return vector


def _slope(subject: Subject, tokens: Tensor, frozen: list[Edit], site: Site, unit: int, after: Site) -> Tensor:
    """How the stream at the last position moves with one unit, by central differences."""
    step = 0.02
    ends: list[Tensor] = []
    for value in (step, -step):
        nudge = Edit(site, "add", torch.tensor(value), units=torch.tensor([unit]), positions=torch.tensor([5]))
        with subject.edit([*frozen, nudge]):
            ends.append(subject.capture(tokens, [after])[after][0, 5].double())
    return (ends[0] - ends[1]) / (2 * step)


def test_the_axes_are_the_directions_of_the_stream(subject: Subject) -> None:
    assert torch.equal(subject.write_directions(Site("resid", 0)), torch.eye(subject.info.d_model))


@pytest.mark.parametrize("width", [8, 9, 33])
def test_a_norms_gain_is_read_off_its_answers(width: int) -> None:
    gain = torch.linspace(-2, 2, width)
    layer, rms = nn.LayerNorm(width), nn.RMSNorm(width, eps=1e-6)
    with torch.no_grad():
        layer.weight.copy_(gain)
        layer.bias.fill_(0.7)
        rms.weight.copy_(gain)
    for norm, subtracts in ((layer, True), (rms, False), (rms.bfloat16(), False)):
        found, centred = norm_of(norm, width)
        assert centred is subtracts
        torch.testing.assert_close(found, norm.weight.detach().float(), rtol=1e-5, atol=1e-6)


def test_the_chosen_matmul_is_float32() -> None:
    """Whatever was decided on this machine, products stay within float32's error."""
    name = choose_matmul("float32", torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    x, w = torch.randn(300, 700, generator=generator), torch.randn(500, 700, generator=generator)
    exact = nn.functional.linear(x.double(), w.double())
    assert ((nn.functional.linear(x, w).double() - exact).norm() / exact.norm()) < MAX_ERROR
    assert name.startswith(("oneDNN", "torch default"))
    assert choose_matmul("bfloat16", torch.device("cpu")) == "torch default"


@pytest.mark.parametrize(("error", "accepted"), [(4e-7, True), (2.4e-3, False)], ids=["exact", "bfloat16"])
def test_onednn_is_used_only_when_exact(monkeypatch: pytest.MonkeyPatch, error: float, accepted: bool) -> None:
    settings: Any = torch.backends.mkldnn
    before = settings.matmul.fp32_precision
    monkeypatch.setattr(matmul, "_error", lambda: error)
    try:
        name = matmul._float32_on_cpu.__wrapped__()  # pyright: ignore[reportPrivateUsage]
        assert name.startswith("oneDNN") is accepted
        assert settings.matmul.fp32_precision == ("bf16" if accepted else before)
    finally:
        settings.matmul.fp32_precision = before


@pytest.mark.parametrize("slow", ["bf16", "default"])
def test_a_slow_moment_does_not_change_which_product_is_used(monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    """A run that goes on in a new process, beside other work, must end with the numbers it would have had."""
    settings: Any = torch.backends.mkldnn
    before, linear, seconds = settings.matmul.fp32_precision, nn.functional.linear, 0.0
    choose = matmul._float32_on_cpu.__wrapped__  # pyright: ignore[reportPrivateUsage]

    def slowly(x: Tensor, w: Tensor) -> Tensor:
        time.sleep(seconds if (settings.matmul.fp32_precision == "bf16") is (slow == "bf16") else 0)
        return linear(x.double(), w.double()).to(x.dtype)  # exact on every machine: only the clock could refuse it

    monkeypatch.setattr(nn.functional, "linear", slowly)
    try:
        settings.matmul.fp32_precision = "ieee"
        quiet, seconds = choose(), 0.05
        settings.matmul.fp32_precision = "ieee"
        assert choose() == quiet
    finally:
        settings.matmul.fp32_precision = before


def test_bfloat16_is_read_in_only_where_the_cpu_and_torch_multiply_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known = torch.cpu.get_capabilities()
    if known["architecture"] == "x86_64":
        assert set(matmul.FAST_BFLOAT16) <= known.keys()
    for name in matmul.FAST_BFLOAT16:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda name=name: {name: True})
        assert matmul.bfloat16_pays() is torch.backends.mkldnn.is_available()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(matmul.FAST_BFLOAT16, False))
    assert not matmul.bfloat16_pays()
