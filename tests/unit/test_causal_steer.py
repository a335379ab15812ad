"""Steering: what is written with units driven, against plain passes over the whole text, on every architecture."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core.bases.basis import Basis
from core.bases.dictionary import Dictionary
from core.bases.info import BasisInfo
from core.causal.change import UnitChange
from core.causal.steer import Held, Sampling, Step, choose, end_tokens, write
from core.causal.steer_request import Mode
from core.errors import AtlasError
from core.subject.edits import Edit
from core.subject.subject import Subject
from core.units import Site
from tests.models import D_MODEL, EOS, load_tiny_model, random_tokens, tiny_variants

TEXT = (0, *random_tokens(1, 7, 1)[0].tolist())
"""With a BOS."""
UNITS = torch.tensor([3, 11])
GREEDY = Sampling()
FLOAT32 = 1e-5
"""What two float32 passes may differ by in a log-probability: processors sum the rows of a batch in orders of their own."""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return endless(load_tiny_model(tmp_path_factory.mktemp("steer"), "llama", 3))


def endless(subject: Subject) -> Subject:
    """A model that never ends its text by itself."""
    subject.model.generation_config.eos_token_id = None
    subject.tokenizer.eos_token = None
    return subject


def neurons(subject: Subject, site: Site, amounts: tuple[float, ...] = (2.0, -1.5)) -> list[Held]:
    return [Held(Basis(site, subject.info.widths[site.kind]), UNITS, torch.tensor(amounts))]


def features(amounts: tuple[float, ...] = (2.0, 1.0)) -> list[Held]:
    rows = torch.randn(40, D_MODEL, generator=torch.Generator().manual_seed(2))
    info = BasisInfo("d", "tiny", Site("resid", 1), "sae", "relu", D_MODEL, 40, tied=True)
    tensors = {"encoder": rows / rows.norm(dim=1, keepdim=True), "bias": torch.zeros(40)}
    return [Held(Basis(Site("resid", 1), 40, Dictionary(info, tensors)), UNITS, torch.tensor(amounts))]


def written(steps: list[Step], side: str) -> list[int]:
    return [getattr(step, side).token for step in steps if getattr(step, side) is not None]


def chances(steps: list[Step], side: str) -> list[float]:
    return [log_p for step in steps for _, *both in getattr(step, side).top for log_p in both]


def go(subject: Subject, held: list[Held], mode: Mode = "add", steps: int = 20, sampling: Sampling = GREEDY, **more: Any) -> list[Step]:
    return list(write(subject, TEXT, 1, held, mode, more.pop("where", "all"), sampling, steps, **more))


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.9, 0.95, 4)], ids=["greedy", "sampled"])
def test_strength_zero_writes_what_the_model_writes_with_the_same_probabilities(llama: Subject, sampling: Sampling) -> None:
    for held in (neurons(llama, Site("mlp", 1), (0.0, 0.0)), features((0.0, 0.0))):
        found = go(llama, held, sampling=sampling)
        assert written(found, "steered") == written(found, "original")
        for step in found:
            assert step.original is not None
            for _, one, other in step.original.top:
                assert one == pytest.approx(other, abs=FLOAT32)


@pytest.mark.parametrize("variant", tiny_variants())
def test_with_kept_keys_and_values_each_token_and_probability_is_as_without(variant: str, tmp_path: Path) -> None:
    """The text grows beyond the window of those that see only the last eight tokens."""
    subject = endless(load_tiny_model(tmp_path, variant, 2))
    held = neurons(subject, Site("mlp", 0))
    kept, anew = go(subject, held), go(subject, held, cached=False)
    for side in ("original", "steered"):
        assert written(kept, side) == written(anew, side)
        assert chances(kept, side) == pytest.approx(chances(anew, side), abs=1e-4)
    assert any(abs(one - other) > 0.01 for _, one, other in kept[-1].steered.top)  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("where", ["all", "generated"])
@pytest.mark.parametrize("mode", ["add", "clamp"])
def test_each_side_is_what_plain_passes_over_the_whole_text_give(llama: Subject, mode: Mode, where: str) -> None:
    site = Site("mlp", 1)
    held = neurons(llama, site)
    found = go(llama, held, mode, where=where)
    begin = 1 if where == "all" else len(TEXT)
    for side in ("original", "steered"):
        tokens = list(TEXT)
        for step in found:
            positions = torch.arange(begin, len(tokens))
            edits = [Edit(site, "add" if mode == "add" else "replace", held[0].amounts, UNITS, positions)]
            with llama.edit(edits if side == "steered" and len(positions) else []):
                log_p = llama.logits(torch.tensor([tokens]))[0, -1].double().log_softmax(-1)
            one = getattr(step, side)
            assert one.token == int(log_p.argmax())
            assert one.log_p == pytest.approx(float(log_p.max()), abs=1e-4)
            place = 1 if side == "original" else 2
            assert [entry[place] for entry in one.top] == pytest.approx(log_p.topk(10).values.tolist(), abs=1e-4)
            tokens.append(one.token)
    if where == "generated":
        assert found[0].steered is not None
        assert all(one == pytest.approx(other, abs=FLOAT32) for _, one, other in found[0].steered.top)


@pytest.mark.parametrize("where", ["all", "generated"])
def test_features_of_a_dictionary_steer_as_their_change_of_the_stream_does(llama: Subject, where: str) -> None:
    held = features()
    found = go(llama, held, "clamp", where=where)
    tokens = list(TEXT)
    for step in found:
        mask = torch.arange(len(tokens))[None] >= (1 if where == "all" else len(TEXT))
        with llama.edit([UnitChange(held[0].basis, UNITS, "clamp", held[0].amounts, mask)]):
            log_p = llama.logits(torch.tensor([tokens]))[0, -1].double().log_softmax(-1)
        assert step.steered is not None
        assert step.steered.log_p == pytest.approx(float(log_p.max()), abs=1e-4)
        tokens.append(step.steered.token)


def test_a_unit_that_writes_one_tokens_direction_held_high_repeats_that_token(tmp_path: Path) -> None:
    subject = endless(load_tiny_model(tmp_path, "llama", 2))
    token, unit = 77, 5
    with torch.no_grad():
        subject.model.model.layers[1].mlp.down_proj.weight[:, unit] = subject.unembedding()[token]
    held = [Held(Basis(Site("mlp", 1), subject.info.widths["mlp"]), torch.tensor([unit]), torch.tensor([200.0]))]
    found = go(subject, held, "clamp", 12)
    assert written(found, "steered") == [token] * 12
    assert token not in written(found, "original")


def test_the_same_seed_writes_the_same_and_another_one_something_else(llama: Subject) -> None:
    held, sampling = neurons(llama, Site("mlp", 1)), Sampling(1.0, 1.0, 7)
    first, again, other = (go(llama, held, sampling=one) for one in (sampling, sampling, replace(sampling, seed=8)))
    assert first == again
    for side in ("original", "steered"):
        assert written(first, side) != written(other, side)


def test_going_on_after_a_stop_writes_what_was_left_to_write(llama: Subject) -> None:
    held, sampling = neurons(llama, Site("mlp", 1)), Sampling(1.0, 0.9, 3)
    whole = go(llama, held, sampling=sampling)
    rest = go(llama, held, sampling=sampling, before=whole[:9])
    for side in ("original", "steered"):
        assert written(rest, side) == written(whole[9:], side)


def test_a_side_that_ends_its_text_stops_and_the_other_goes_on(tmp_path: Path) -> None:
    subject = load_tiny_model(tmp_path, "llama", 2)
    subject.model.generation_config.eos_token_id = [EOS, 77]
    assert end_tokens(subject) == {EOS, 77}
    with torch.no_grad():
        subject.model.model.layers[1].mlp.down_proj.weight[:, 5] = subject.unembedding()[77]
    held = [Held(Basis(Site("mlp", 1), subject.info.widths["mlp"]), torch.tensor([5]), torch.tensor([200.0]))]
    found = go(subject, held, "clamp", 8, where="generated")
    # The first token comes from the text alone, which is not steered; the second is the end.
    assert len(written(found, "steered")) == 2
    assert found[2].steered is None
    assert len(written(found, "original")) == 8
    assert all(other is None for step in found[2:] for _, _, other in step.original.top)  # type: ignore[union-attr]
    resumed = go(subject, held, "clamp", 8, where="generated", before=found[:4])
    assert written(resumed, "original") == written(found[4:], "original")
    assert written(resumed, "steered") == []


def test_an_output_that_is_no_number_any_more_is_a_sentence(llama: Subject) -> None:
    everything = Held(Basis(Site("mlp", 1), 48), torch.arange(48), torch.full((48,), 3e38))
    with pytest.raises(AtlasError, match="not a number any more: choose a smaller one"):
        go(llama, [everything], "clamp")


def test_tokens_are_drawn_as_often_as_the_temperature_and_top_p_say() -> None:
    log_p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64).log()

    def drawn(sampling: Sampling) -> Counter[int]:
        noise: Tensor = -torch.empty(6000, 4, dtype=torch.float64).exponential_(generator=torch.Generator().manual_seed(1)).log()
        return Counter(choose(log_p, sampling, row) for row in noise)

    plain = drawn(Sampling(1.0))
    assert [plain[token] / 6000 for token in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.02)
    sharp = drawn(Sampling(0.5))
    squares = torch.tensor([0.25, 0.09, 0.0225, 0.0025])
    assert [sharp[token] / 6000 for token in range(4)] == pytest.approx((squares / squares.sum()).tolist(), abs=0.02)
    cut = drawn(Sampling(1.0, 0.7))
    assert [cut[token] / 6000 for token in range(4)] == pytest.approx([0.625, 0.375, 0, 0], abs=0.02)
    assert set(drawn(Sampling(1.0, 0.01))) == {0}
