"""What is measured of a dictionary agrees with closed forms and with slow computations."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core.bases.dictionary import Dictionary
from core.bases.held_out import Ranks
from core.bases.info import BasisInfo
from core.bases.metric_names import BY_NAME, METRICS, OUTPUTS
from core.bases.metrics import measure
from core.bases.mmcs import max_cosines, mmcs, similarity
from core.bases.reconstruction import Spread, density
from core.corpus.slice import Slice
from core.errors import AtlasError
from core.subject.edits import Edit
from core.subject.subject import Subject
from core.units import Site
from core.workspace import Workspace
from tests.job_text import slice_of
from tests.models import D_MODEL, load_tiny_model

SITE = Site("resid", 0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Subject, Slice]:
    folder = tmp_path_factory.mktemp("metrics")
    subject = load_tiny_model(folder, "llama", 2)
    piece = slice_of(Workspace.open(folder / "ws"), subject, contexts=24, length=16, bos=True)
    continue_by_itself(subject, piece)
    return subject, piece


def continue_by_itself(subject: Subject, piece: Slice) -> None:
    """Put the model's own samples in place of the words: a random model predicts those better than it would when damaged."""
    generator = torch.Generator().manual_seed(0)
    for at in range(2, piece.tokens.shape[1]):
        logits = subject.logits(torch.from_numpy(piece.tokens[:, :at].astype(np.int64)))[:, -1]
        piece.tokens[:, at] = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0].numpy()


def everything(piece: Slice) -> Ranks:
    return np.arange(len(piece))


def described(model: Subject, site: Site = SITE, **changes: Any) -> BasisInfo:
    card = model.info
    given: dict[str, Any] = {"name": "a", "subject": card.slug, "site": site, "family": "sae", "rule": "relu", "d_in": D_MODEL, "units": 64}
    merged: dict[str, Any] = given | {"weights_hash": card.weights_hash} | changes
    return BasisInfo(**merged)


def identity(subject: Subject) -> Dictionary:
    rows = torch.cat([torch.eye(D_MODEL), -torch.eye(D_MODEL)])
    return Dictionary(described(subject, tied=True, units=2 * D_MODEL), {"encoder": rows, "bias": torch.zeros(2 * D_MODEL)})


def constant(subject: Subject, value: Tensor) -> Dictionary:
    """Codes that are never active, and `value` for every token."""
    tensors = {"encoder": torch.zeros(4, D_MODEL), "bias": -torch.ones(4), "decoder": torch.zeros(4, D_MODEL), "decoder_bias": value}
    return Dictionary(described(subject, units=4), tensors)


def noisy(subject: Subject, seed: int = 0, units: int = 40) -> Dictionary:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(units, D_MODEL, generator=generator) / D_MODEL**0.5
    tensors = {"encoder": rows, "bias": torch.zeros(units), "decoder": rows + 0.02 * torch.randn(units, D_MODEL, generator=generator)}
    return Dictionary(described(subject, units=units), tensors)


def activations(subject: Subject, piece: Slice, site: Site = SITE) -> Tensor:
    """Every counted token's, one context at a time: float64 [tokens, width]."""
    rows: list[Tensor] = []
    for tokens, length in zip(piece.tokens, piece.lengths, strict=True):
        read = subject.capture(torch.from_numpy(tokens[None, :length].astype(np.int64)), [site])[site]
        rows.append(read[0, piece.first :].double())
    return torch.cat(rows)


def one(tiny: tuple[Subject, Slice], dictionary: Dictionary, *, outputs: bool = True) -> dict[str, Any]:
    subject, piece = tiny
    return measure(subject, [dictionary], piece, everything(piece), lambda *_: None, outputs=outputs)[0]


def test_a_perfect_reconstruction_explains_all_and_costs_nothing(tiny: tuple[Subject, Slice]) -> None:
    found = one(tiny, identity(tiny[0]))
    assert found["explained_variance"] == pytest.approx(1, abs=1e-9)
    assert found["loss_recovered"] == pytest.approx(1, abs=1e-6)
    assert found["loss_recovered_mean"] == pytest.approx(1, abs=1e-6)
    assert found["kl"] == pytest.approx(0, abs=1e-9)
    assert found["ce_difference"] == pytest.approx(0, abs=1e-7)
    assert found["shrinkage"] == pytest.approx(1)
    assert found["relative_bias"] == pytest.approx(1)
    assert found["l0"] == pytest.approx(D_MODEL, abs=0.01)
    assert found["undefined"] == {}


def test_the_mean_explains_nothing_and_recovers_nothing_against_the_mean(tiny: tuple[Subject, Slice]) -> None:
    subject, piece = tiny
    x = activations(subject, piece)
    found = one(tiny, constant(subject, x.mean(0).float()))
    assert found["explained_variance"] == pytest.approx(0, abs=1e-6)
    assert found["loss_recovered_mean"] == pytest.approx(0, abs=1e-5)
    assert found["squared_error"] == pytest.approx(float((x - x.mean(0)).square().sum(1).mean()), rel=1e-6)
    assert found["mse"] == pytest.approx(found["squared_error"] / D_MODEL)
    assert (found["l0"], found["dead"], found["dense_1"]) == (0, 1, 0)
    zero = one(tiny, constant(subject, torch.zeros(D_MODEL)))
    assert zero["loss_recovered"] == pytest.approx(0, abs=1e-6)
    assert zero["ce_spliced"] == pytest.approx(zero["ce_zero"], abs=1e-6)


def test_sums_agree_with_a_plain_computation_over_all_tokens_at_once(tiny: tuple[Subject, Slice]) -> None:
    subject, piece = tiny
    dictionary = noisy(subject)
    x = activations(subject, piece)
    codes, written = dictionary.reconstruct(x.float())
    written = written.double()
    found = one(tiny, dictionary, outputs=False)
    assert found["tokens"] == len(x) == int((piece.lengths.astype(int) - 1).sum())
    error = (x - written).square().sum()
    assert found["explained_variance"] == pytest.approx(float(1 - error / (x - x.mean(0)).square().sum()), rel=1e-6)
    assert found["mse"] == pytest.approx(float(error) / x.numel(), rel=1e-6)
    assert found["shrinkage"] == pytest.approx(float((written.norm(dim=1) / x.norm(dim=1)).mean()), rel=1e-6)
    assert found["relative_bias"] == pytest.approx(float(written.square().sum() / (x * written).sum()), rel=1e-6)
    assert found["l0"] == pytest.approx(float((codes != 0).sum(1).double().mean()), abs=0.01)
    assert found["l1"] == pytest.approx(float(codes.abs().sum(1).double().mean()), rel=1e-6)
    share = (codes != 0).double().mean(0)
    assert found["dense_10"] == pytest.approx(float((share > 0.1).double().mean()), abs=0.03)
    cosine = torch.cosine_similarity(dictionary.encoder, dictionary.decoder, dim=1)
    assert found["encoder_decoder_cosine"]["q50"] == pytest.approx(float(cosine.median()), abs=0.01)
    assert all(found[name] is None and name in found["undefined"] for name in OUTPUTS)


def test_cross_entropies_and_kl_agree_with_a_slow_computation(tiny: tuple[Subject, Slice]) -> None:
    """One context at a time, one position at a time, the whole logits in torch's own functions; the BOS keeps its activation."""
    subject, piece = tiny
    dictionary = noisy(subject)
    x = activations(subject, piece)
    sums: dict[str, float] = {"clean": 0.0, "spliced": 0.0, "zero": 0.0, "mean": 0.0, "kl": 0.0}
    count = 0
    for tokens, length in zip(piece.tokens, piece.lengths, strict=True):
        context = torch.from_numpy(tokens[None, :length].astype(np.int64))
        stands = subject.capture(context, [SITE])[SITE]
        changed = {
            "spliced": dictionary.reconstruct(stands)[1],
            "zero": torch.zeros_like(stands),
            "mean": x.mean(0).float().expand_as(stands).clone(),
        }
        clean = torch.log_softmax(subject.logits(context)[0].double(), -1)
        for name, value in changed.items():
            value[:, 0] = stands[:, 0]
            with subject.edit([Edit(SITE, "replace", value)]):
                new = torch.log_softmax(subject.logits(context)[0].double(), -1)
            sums[name] -= sum(float(new[at, tokens[at + 1]]) for at in range(1, length - 1))
            if name == "spliced":
                sums["kl"] += float(torch.nn.functional.kl_div(new[1:-1], clean[1:-1], log_target=True, reduction="sum"))
        sums["clean"] -= sum(float(clean[at, tokens[at + 1]]) for at in range(1, length - 1))
        count += int(length) - 2
    found = one(tiny, dictionary)
    assert found["output_tokens"] == count
    for name in ("clean", "spliced", "zero", "mean"):
        assert found[f"ce_{name}"] == pytest.approx(sums[name] / count, rel=1e-6)
    assert found["kl"] == pytest.approx(sums["kl"] / count, rel=1e-5)
    assert found["kl"] > 0
    expected = (sums["zero"] - sums["spliced"]) / (sums["zero"] - sums["clean"])
    assert found["loss_recovered"] == pytest.approx(expected, rel=1e-4)


def test_several_sites_in_one_pass_give_what_each_gives_alone(tiny: tuple[Subject, Slice]) -> None:
    subject, piece = tiny
    other = Dictionary(described(subject, Site("resid", 1), name="b", units=40), noisy(subject, 3).tensors)
    head = D_MODEL // 4
    part = Dictionary(
        described(subject, Site("attn", 1), name="c", units=head, d_in=head, head=2, tied=True),
        {"encoder": torch.eye(head), "bias": torch.zeros(head)},
    )
    three = [noisy(subject), other, part]
    together = measure(subject, three, piece, everything(piece), lambda *_: None)
    for dictionary, found in zip(three, together, strict=True):
        alone = one(tiny, dictionary)
        assert {name: value for name, value in found.items() if isinstance(value, float)} == pytest.approx(
            {name: value for name, value in alone.items() if isinstance(value, float)}
        )
    x = activations(subject, piece, Site("attn", 1))[:, 2 * head : 3 * head]
    expected = 1 - (x - x.clamp_min(0)).square().sum() / (x - x.mean(0)).square().sum()
    assert together[2]["explained_variance"] == pytest.approx(float(expected), rel=1e-6)


def test_a_head_is_replaced_without_touching_its_neighbours(tiny: tuple[Subject, Slice]) -> None:
    subject, _ = tiny
    head = D_MODEL // 4
    rows = torch.cat([torch.eye(head), -torch.eye(head)])
    exact = Dictionary(
        described(subject, Site("attn", 0), units=2 * head, d_in=head, head=1, tied=True), {"encoder": rows, "bias": torch.zeros(2 * head)}
    )
    assert one(tiny, exact)["kl"] == pytest.approx(0, abs=1e-9)


def test_a_transcoder_has_firing_rates_and_says_why_it_has_no_reconstruction(tiny: tuple[Subject, Slice]) -> None:
    subject, _ = tiny
    info = described(subject, family="transcoder", units=8, d_out=D_MODEL, writes_to="the MLP's output")
    tensors = {"encoder": torch.randn(8, D_MODEL), "bias": torch.zeros(8), "decoder": torch.randn(8, D_MODEL)}
    found = one(tiny, Dictionary(info, tensors))
    assert found["l0"] > 0
    assert found["explained_variance"] is None
    assert "the MLP's output" in found["undefined"]["explained_variance"]
    assert found["kl"] is None


def test_every_number_is_ready_for_json_and_has_a_formula(tiny: tuple[Subject, Slice]) -> None:
    found = one(tiny, noisy(tiny[0]))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {metric.name for metric in METRICS} - {"mmcs"} <= set(found)
    assert "keep their own" in found["excluded"]
    assert BY_NAME["kl"].better == "down"


def test_numbers_that_are_not_finite_are_none_with_a_reason(tiny: tuple[Subject, Slice]) -> None:
    most = torch.full((1, D_MODEL), 3e38)
    huge = Dictionary(described(tiny[0], units=1), {"encoder": torch.zeros(1, D_MODEL), "bias": most[0, :1], "decoder": most})
    found = one(tiny, huge, outputs=False)
    assert found["explained_variance"] is None
    assert "finite" in found["undefined"]["explained_variance"]
    json.dumps(found, allow_nan=False)


def test_progress_reaches_its_total_and_may_stop_the_work(tiny: tuple[Subject, Slice]) -> None:
    subject, piece = tiny
    seen: list[tuple[int, int]] = []
    measure(subject, [noisy(subject)], piece, everything(piece), lambda done, total: seen.append((done, total)))
    assert seen[0][0] == 0
    assert seen[-1] == (6 * len(piece), 6 * len(piece))

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done:
            raise Stop

    with pytest.raises(Stop):
        measure(subject, [noisy(subject)], piece, everything(piece), stop)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subject": "another"}, "another model"),
        ({"weights_hash": "0" * 64}, "another model"),
        ({"site": Site("resid", 9)}, "out of range"),
        ({"site": Site("mlp", 0)}, "has 48"),
        ({"site": Site("attn", 0), "head": 3}, "head 3"),
    ],
)
def test_a_dictionary_that_does_not_fit_is_refused_in_a_sentence(
    tiny: tuple[Subject, Slice], changes: Mapping[str, Any], words: str
) -> None:
    subject, piece = tiny
    misfit = Dictionary(described(subject, tied=True, **changes), {"encoder": torch.ones(64, D_MODEL), "bias": torch.zeros(64)})
    with pytest.raises(AtlasError, match=words):
        measure(subject, [misfit], piece, everything(piece), lambda *_: None)


def test_the_density_histogram_and_the_dead_sum_to_the_units() -> None:
    fired = torch.tensor([0, 0, 1, 10, 100, 999, 1000])
    found = density(fired, 1000)
    assert found["dead"] == 2
    assert sum(found["counts"]) + found["dead"] == len(fired)
    edges = found["edges"]
    assert len(edges) == len(found["counts"]) + 1
    placed = [edges[index + 1] for index, count in enumerate(found["counts"]) for _ in range(count)]
    assert placed == pytest.approx([-3, -2, -1, 0, 0], abs=1e-9)


def test_a_spread_keeps_its_digits_beside_a_large_offset() -> None:
    x = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0)).double() + 1e6
    spread = Spread(5)
    for part in x.split(37):
        spread.add(part)
    assert spread.scatter == pytest.approx(float((x - x.mean(0)).square().sum()), rel=1e-9)
    assert spread.mean.numpy() == pytest.approx(x.mean(0).numpy(), rel=1e-12)


def test_a_permuted_and_rescaled_dictionary_has_an_mmcs_of_one() -> None:
    rows = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    shuffled = rows[torch.randperm(50, generator=torch.Generator().manual_seed(1))] * torch.rand(50, 1).add(0.1)
    assert mmcs(rows, shuffled) == pytest.approx(1, abs=1e-6)


def test_mmcs_has_a_direction_and_agrees_with_a_loop() -> None:
    large = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    small = large[:5]
    assert mmcs(small, large) == pytest.approx(1, abs=1e-6)
    slow = [max(float(torch.cosine_similarity(a, b, dim=0)) for b in small) for a in large]
    assert max_cosines(large, small).tolist() == pytest.approx(slow, abs=1e-6)
    assert mmcs(large, small) < 0.99


def test_similarity_of_two_dictionaries_gives_both_ways(tiny: tuple[Subject, Slice]) -> None:
    one, other = noisy(tiny[0], 0, 40), noisy(tiny[0], 0, 40)
    assert similarity(one, other) == pytest.approx({"forth": 1, "back": 1, "above_09": 1}, abs=1e-6)
    with pytest.raises(AtlasError, match="cannot be compared"):
        mmcs(torch.ones(2, 3), torch.ones(2, 4))
    assert math.isfinite(similarity(one, noisy(tiny[0], 5, 10))["back"])
