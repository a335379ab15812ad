"""Simulating with a model loaded here: what is kept changes nothing, numbers are read as the tokenizer writes them."""

import asyncio
import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from core.autointerp import local as local_module
from core.autointerp.explanation import Explanation, Simulation, Text
from core.autointerp.kv import Kept, Passes
from core.autointerp.local import LocalModel, LocalSimulator
from core.autointerp.number_tokens import NumberTokens, find_numbers
from core.autointerp.piecewise import PieceTokenizer
from core.autointerp.prompts import prefix_segments, simulation_prefix, simulation_target
from core.errors import AtlasError
from core.subject.load import load_subject
from core.subject.tokens import make_vocab
from core.units import UnitName
from core.workspace import Workspace
from tests.models import make_tiny_model, tiny_variants
from tests.tokenizer_families import DIGITS, LIMIT, REFUSED, WHOLE, family, save_model

HOSTILE = (" the", "\n", "\t", "<end>", "<|endoftext|>", "é", "10", "\\", "")
RECORDS = (HOSTILE, (" a", " b", " the"), ("unknown", " 5"))


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LocalModel]:
    workspace = Workspace.open(tmp_path_factory.mktemp("ws"))

    @cache
    def load(name: str, limit: int = LIMIT, template: str | None = None, dtype: str = "float32") -> LocalModel:
        return LocalModel.load(workspace, str(save_model(tmp_path_factory.mktemp(name), name, limit, template)), dtype=dtype, device="cpu")

    return load


@pytest.fixture(scope="module")
def simulator_of(model_of: Callable[..., LocalModel]) -> Callable[[str], LocalSimulator]:
    return cache(lambda name: LocalSimulator(model_of(name)))


def explained(text: str) -> Explanation:
    return Explanation(UnitName.parse("m/mlp.0/neurons/0"), text, "by hand", "by hand")


def as_text(pieces: tuple[str, ...]) -> Text:
    return Text(tuple(range(len(pieces))), pieces)


def simulate(simulator: LocalSimulator, sentence: str, pieces: tuple[str, ...]) -> Simulation:
    return asyncio.run(simulator.simulate(explained(sentence), as_text(pieces)))


def truth(model: LocalModel, sentence: str, pieces: tuple[str, ...], examples: int = 3) -> np.ndarray:
    """The distributions from plain passes over the whole prompt without any cache, each position by itself."""
    numbers = find_numbers(model.pieces, model.vocab, model.name)
    before = model.start + model.pieces.join(prefix_segments(examples)).ids
    target = model.pieces.join(simulation_target(sentence, pieces, examples), "\n")
    ids = [*before, *target.ids]
    at = [place + len(before) for place in target.before]
    logits = model.subject.logits(torch.tensor([ids]))[0].double().numpy()
    rows = []
    for place in at:
        shares = np.exp(logits[place])
        found = np.array([sum(shares[token] for token in variants) for variants in numbers.tokens])
        found /= found.sum()
        if numbers.style == "digits":
            then = model.subject.logits(torch.tensor([[*ids[: place + 1], numbers.one]]))[0, -1].double().softmax(-1)[numbers.zero].item()
            found = np.array([found[0], found[1] * (1 - then), *found[2:], found[1] * then])
        rows.append(found)
    return np.array(rows)


@pytest.mark.parametrize("name", [*WHOLE, *DIGITS])
def test_what_is_kept_changes_nothing(
    name: str, model_of: Callable[..., LocalModel], simulator_of: Callable[[str], LocalSimulator]
) -> None:
    simulator = simulator_of(name)
    assert simulator.recipe["numbers"] == ("whole" if name in WHOLE else "digits")
    for sentence in ("tools", "the sea\nand <start>"):
        found = simulate(simulator, sentence, HOSTILE)
        assert found.failed == ""
        assert found.probabilities is not None
        expected = truth(model_of(name), sentence, HOSTILE)
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
        np.testing.assert_allclose(found.values, expected @ np.arange(11), atol=1e-4)
        assert np.ptp(found.values) > 1e-3


@pytest.mark.parametrize("name", ["gpt2", "smollm"])
def test_reading_everything_anew_gives_the_same(
    name: str, model_of: Callable[..., LocalModel], simulator_of: Callable[[str], LocalSimulator]
) -> None:
    uncached = LocalSimulator(model_of(name), cached=False)
    for pieces in RECORDS:
        np.testing.assert_allclose(
            simulator_of(name).distribution("tools", pieces), uncached.distribution("tools", pieces), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("name", ["gpt2", "smollm"])
def test_the_order_of_records_and_of_units_changes_nothing(name: str, model_of: Callable[..., LocalModel]) -> None:
    work = [(sentence, pieces) for sentence in ("tools", "the sea") for pieces in RECORDS]
    one, other = LocalSimulator(model_of(name)), LocalSimulator(model_of(name))
    forth = {key: simulate(one, *key).values for key in work}
    back = {key: simulate(other, *key).values for key in [*work[::-2], *work[::2], *work]}

    async def together() -> list[Simulation]:
        return list(await asyncio.gather(*(one.simulate(explained(sentence), as_text(pieces)) for sentence, pieces in work)))

    for key, at_once in zip(work, asyncio.run(together()), strict=True):
        np.testing.assert_array_equal(forth[key], back[key])
        np.testing.assert_array_equal(forth[key], at_once.values)


def test_forgotten_explanations_are_read_again(simulator_of: Callable[[str], LocalSimulator], monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = simulator_of("gpt2")
    before = [simulate(simulator, sentence, HOSTILE).values for sentence in "abc"]
    monkeypatch.setattr(local_module, "_EXPLANATIONS_KEPT", 1)
    after = [simulate(simulator, sentence, HOSTILE).values for sentence in "xabc"][1:]
    assert len(simulator._kept) <= 64
    np.testing.assert_array_equal(before, after)


def test_kept_tensors_are_never_written_to(simulator_of: Callable[[str], LocalSimulator]) -> None:
    simulator = simulator_of("smollm")
    simulate(simulator, "tools", HOSTILE)
    kept = [simulator._prefix, simulator._kept["tools"]]
    copies = [[tensor.clone() for pair in one.layers for tensor in pair] for one in kept]
    for pieces in RECORDS:
        simulate(simulator, "tools", pieces)
        simulate(simulator, "the sea", pieces)
    for one, copy in zip(kept, copies, strict=True):
        assert all(torch.equal(tensor, old) for tensor, old in zip((t for pair in one.layers for t in pair), copy, strict=True))


@pytest.mark.parametrize("name", [*WHOLE, *DIGITS])
def test_ids_spell_the_prompt_and_values_follow_tabs(name: str) -> None:
    tokenizer = family(name)
    vocab, pieces = make_vocab(tokenizer, len(tokenizer)), PieceTokenizer(tokenizer)
    segments = [*prefix_segments(), *simulation_target("tools", HOSTILE)]
    found = pieces.join(segments)
    spelled = b"".join(map(vocab.bytes_of, found.ids)).decode()
    # Llama 2 begins a text with a space, and only a text.
    assert spelled.removeprefix(" ") == "".join(segment.text for segment in segments)
    assert [vocab.bytes_of(found.ids[place]) for place in found.before] == [b"\t"] * len(HOSTILE)
    assert not any(vocab.is_special(token) for token in found.ids)
    for place in found.before:
        assert b"".join(map(vocab.bytes_of, found.ids[place + 1 :])).startswith(b"unknown\n")


@pytest.mark.parametrize("name", [*WHOLE, *DIGITS])
def test_number_tokens_are_what_the_tokenizer_writes_behind_a_tab(name: str) -> None:
    tokenizer = family(name)
    vocab, pieces = make_vocab(tokenizer, len(tokenizer)), PieceTokenizer(tokenizer)
    numbers = find_numbers(pieces, vocab, name)
    assert len(numbers.tokens) == (11 if name in WHOLE else 10)
    for value, variants in enumerate(numbers.tokens):
        assert [vocab.bytes_of(token).strip() for token in variants] == [str(value).encode()] * len(variants)
        assert pieces.ids(str(value), "\t") == variants[:1]
    assert len(set(numbers.columns)) == len(numbers.columns)
    with_space = [
        value for value, variants in enumerate(numbers.tokens) if any(vocab.bytes_of(token) == b" %d" % value for token in variants)
    ]
    assert with_space == {"gpt2": [1, 5], "llama2": [5]}.get(name, [])


@pytest.mark.parametrize("name", list(REFUSED))
def test_tokenizers_that_cannot_write_numbers_are_refused_with_the_reason(name: str, model_of: Callable[..., LocalModel]) -> None:
    with pytest.raises(AtlasError, match=f"cannot simulate: its tokenizer .*{REFUSED[name][1].removeprefix('no ')}") as caught:
        LocalSimulator(model_of(name))
    assert str(caught.value).count(". ") == 1


def test_the_embedded_models_own_tokenizer_writes_digit_by_digit() -> None:
    from core.subject import embedded
    from core.subject.gguf import GGUF

    tokenizer = embedded._tokenizer(GGUF(embedded.find_file()).metadata)
    numbers = find_numbers(PieceTokenizer(tokenizer), make_vocab(tokenizer, len(tokenizer)), "SmolLM2")
    assert numbers.style == "digits"
    assert [tokenizer.convert_ids_to_tokens(variants[0]) for variants in numbers.tokens] == list("0123456789")


def test_expectation_by_hand() -> None:
    whole = NumberTokens("whole", tuple((token,) for token in range(11)))
    logits = np.full((2, 11), -np.inf)
    logits[0, [0, 1, 10]] = np.log([0.5, 0.2, 0.1])
    logits[1, [10, 0]] = np.log([1e-5, 1e-6])
    found = whole.distribution(logits)
    np.testing.assert_allclose(found[0, [0, 1, 10]], [0.625, 0.25, 0.125], rtol=1e-12)
    np.testing.assert_allclose(found @ np.arange(11), [1.5, 9.0909090909], rtol=1e-9)


def test_variants_of_a_number_are_added() -> None:
    numbers = NumberTokens("whole", ((0, 20, 21), *((token,) for token in range(1, 11))))
    logits = np.full((1, 13), -np.inf)
    logits[0, [0, 1, 2, 12]] = np.log([0.1, 0.2, 0.1, 0.4])  # three ways to write 0, then 10
    np.testing.assert_allclose(numbers.distribution(logits) @ np.arange(11), [5.0])


def test_ten_is_one_and_then_zero() -> None:
    digits = NumberTokens("digits", tuple((token,) for token in range(10)))
    logits = np.log([[0.5, 0.25, 1e-300, 1e-300, 1e-300, 0.25, 1e-300, 1e-300, 1e-300, 1e-300]])
    found = digits.distribution(logits, [0.8])
    np.testing.assert_allclose(found[0, [0, 1, 5, 10]], [0.5, 0.05, 0.25, 0.2])
    np.testing.assert_allclose(found.sum(), 1)
    with pytest.raises(ValueError, match="step after 1"):
        digits.distribution(logits)


@pytest.mark.parametrize(("one_then_zero", "expected"), [(30.0, 10.0), (-30.0, 1.0)])
def test_a_planted_model_says_ten_only_when_zero_follows_one(
    tmp_path: Path, workspace: Workspace, one_then_zero: float, expected: float
) -> None:
    """The blocks add nothing, so that what comes next depends on the last token alone: 1 after a tab, and after 1 perhaps 0."""
    model = LocalModel.load(workspace, str(save_model(tmp_path, "smollm")), device="cpu")
    numbers = find_numbers(model.pieces, model.vocab, model.name)
    inner = model.subject.model
    with torch.no_grad():
        for block in inner.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        inner.model.norm.weight.fill_(1)
        inner.model.embed_tokens.weight.zero_()
        inner.lm_head.weight.zero_()
        (tab,) = model.pieces.ids("\t", "a")
        for axis, (last, following, size) in enumerate(((tab, numbers.one, 30.0), (numbers.one, numbers.zero, one_then_zero))):
            inner.model.embed_tokens.weight[last, axis] = 1
            inner.lm_head.weight[following, axis] = size
    found = simulate(LocalSimulator(model), "anything", HOSTILE)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)


def test_a_text_that_is_too_long_fails_and_says_so(simulator_of: Callable[[str], LocalSimulator]) -> None:
    found = simulate(simulator_of("gpt2"), "tools", (" x",) * LIMIT)
    assert np.isnan(found.values).all()
    assert found.probabilities is None
    assert f"reads at most {LIMIT:,}" in found.failed
    assert simulate(simulator_of("gpt2"), "tools", ("a",)).failed == ""


def test_an_empty_text_has_no_values(simulator_of: Callable[[str], LocalSimulator]) -> None:
    found = simulate(simulator_of("smollm"), "tools", ())
    assert (found.values.shape, found.failed) == ((0,), "")


def test_answers_that_are_no_numbers_are_a_failure(tmp_path: Path, workspace: Workspace) -> None:
    model = LocalModel.load(workspace, str(save_model(tmp_path, "gpt2")), device="cpu")
    simulator = LocalSimulator(model)
    with torch.no_grad():
        model.subject.model.lm_head.weight.fill_(float("nan"))
    found = simulate(simulator, "tools", HOSTILE)
    assert np.isnan(found.values).all()
    assert "not finite" in found.failed


def test_a_model_with_little_room_gets_fewer_examples(model_of: Callable[..., LocalModel]) -> None:
    shorter = len(model_of("gpt2").pieces.join(prefix_segments(2)).ids) + local_module.ROOM
    model = model_of("gpt2", shorter)
    simulator = LocalSimulator(model)
    assert simulator.examples == simulator.recipe["examples"] == 2
    np.testing.assert_allclose(simulator.distribution("tools", HOSTILE), truth(model, "tools", HOSTILE, 2), atol=1e-5)
    with pytest.raises(AtlasError, match="reads at most 300 tokens"):
        LocalSimulator(model_of("gpt2", 300))


@pytest.mark.parametrize("variant", tiny_variants())
def test_kept_stretches_and_branches_agree_with_plain_passes_in_every_architecture(
    variant: str, tmp_path: Path, workspace: Workspace
) -> None:
    subject = load_subject(workspace, str(make_tiny_model(tmp_path, variant)), device="cpu")
    passes = Passes(subject.model, subject.device)
    ids = torch.randint(2, 280, (60,), generator=torch.Generator().manual_seed(1)).tolist()
    at, token = [0, 7, 19], 5
    first = passes.keep([], ids[:30])
    second = passes.keep([first], ids[30:40])
    kept = [first, second]
    plain = subject.logits(torch.tensor([ids]))[0, [40, 47, 59]]
    then = torch.stack([subject.logits(torch.tensor([[*ids[: 41 + place], token]]))[0, -1] for place in at])
    torch.testing.assert_close(passes.logits(kept, ids[40:], at), plain, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(passes.steps(kept, ids[40:], at, token), then, atol=1e-4, rtol=1e-4)
    exact = passes.branches_are_exact(kept, ids[40:], at, token)
    if exact:
        for here, after in (passes.branches(kept, ids[40:], at, token), passes.branches([], ids, [40, 47, 59], token)):
            torch.testing.assert_close(here, plain, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(after, then, atol=1e-4, rtol=1e-4)
    assert exact == (variant not in ("bloom", "bloom-post", "falcon-alibi", "gpt_neo"))


def test_a_model_without_branches_takes_a_pass_for_each_token(model_of: Callable[..., LocalModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Passes, "branches_are_exact", lambda *_: False)
    simulator = LocalSimulator(model_of("smollm"))
    assert simulator.recipe["after_1"] == "pass for each token"
    np.testing.assert_allclose(simulator.distribution("tools", HOSTILE), truth(model_of("smollm"), "tools", HOSTILE), atol=1e-5)


def test_masks_that_a_model_ignores_are_found_out(model_of: Callable[..., LocalModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("smollm")
    real = Passes._forward

    def ignoring(self: Passes, ids: list[int], cache: object, at: list[int], **more: object) -> torch.Tensor:
        return real(self, ids, cache, at)  # type: ignore[arg-type]

    monkeypatch.setattr(Passes, "_forward", ignoring)
    assert LocalSimulator(model).recipe["after_1"] == "pass for each token"


def test_logits_of_a_bfloat16_model_are_float32(model_of: Callable[..., LocalModel]) -> None:
    model = model_of("smollm", LIMIT, None, "bfloat16")
    ids = [1, 2, 3, 4]
    logits = model.passes.logits([], ids, [3])
    inner = model.subject.model
    with torch.inference_mode():
        hidden = inner.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1:]
    torch.testing.assert_close(logits, hidden.float() @ inner.lm_head.weight.float().T)
    assert not inner.lm_head._forward_hooks
    cached, uncached = LocalSimulator(model), LocalSimulator(model, cached=False)
    np.testing.assert_allclose(cached.distribution("tools", HOSTILE), uncached.distribution("tools", HOSTILE), atol=0.02)


def test_stretches_share_no_memory_with_the_cache_they_were_read_in(model_of: Callable[..., LocalModel]) -> None:
    passes = model_of("gpt2").passes
    first = passes.keep([], [1, 2, 3])
    second: Kept = passes.keep([first], [4, 5])
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for pair in second.layers for tensor in pair)
    assert dataclasses.replace(second) == second
    assert second.layers[0][0].shape[-2] == 2


def test_the_prefix_is_the_same_as_text_and_as_ids(
    model_of: Callable[..., LocalModel], simulator_of: Callable[[str], LocalSimulator]
) -> None:
    for name in ("gpt2", "gemma"):
        model = model_of(name)
        begin = simulator_of(name)._begin
        assert begin[: len(model.start)] == model.start
        assert b"".join(map(model.vocab.bytes_of, begin[len(model.start) :])).decode() == simulation_prefix()
    assert [len(model_of(name).start) for name in ("gpt2", "gemma", "llama2")] == [0, 1, 1]
