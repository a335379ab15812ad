"""Chats with a model loaded here: answers are those of plain passes, and what is said is never a control token."""

import asyncio
from collections.abc import Callable
from functools import cache

import pytest
import torch

from core.autointerp.local import LocalModel
from core.autointerp.prompts import explainer_messages
from core.errors import AtlasError
from core.llm.answers import ChatAnswer
from core.llm.failures import LlmError
from core.workspace import Workspace
from tests.tokenizer_families import LIMIT, save_model

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LocalModel]:
    workspace = Workspace.open(tmp_path_factory.mktemp("ws"))

    @cache
    def load(name: str, limit: int = LIMIT, template: str | None = None, dtype: str = "float32") -> LocalModel:
        return LocalModel.load(workspace, str(save_model(tmp_path_factory.mktemp(name), name, limit, template)), dtype=dtype, device="cpu")

    return load


def ask(model: LocalModel, messages: list[dict[str, str]], **more: object) -> ChatAnswer:
    return asyncio.run(model.chat(messages, **({"max_tokens": 8} | more)))  # type: ignore[arg-type]


def greedy(model: LocalModel, ids: tuple[int, ...], n: int) -> list[int]:
    found = list(ids)
    for _ in range(n):
        found.append(int(model.subject.logits(torch.tensor([found]))[0, -1].argmax()))
    return found[len(ids) :]


SAID = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is <|endoftext|>?"}]


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_a_greedy_answer_is_what_plain_passes_give(template: str | None, model_of: Callable[..., LocalModel]) -> None:
    model = model_of("gpt2", LIMIT, template)
    prompt = model.chat_ids(SAID)
    for messages in (SAID, [*SAID[:1], {"role": "user", "content": "What is it?"}], SAID, SAID[1:]):
        answer = ask(model, messages)  # a later chat begins like an earlier one, whose keys and values are kept
        expected = greedy(model, model.chat_ids(messages), 8)
        ends = {model.subject.tokenizer.eos_token_id}
        cut = next((at for at, token in enumerate(expected) if token in ends), 8)
        assert answer.text == model.vocab.decode(expected[:cut])
        assert answer.finish == ("length" if cut == 8 else "stop")
        assert answer.usage.tokens_out == cut
    assert ask(model, SAID).usage.tokens_in == len(prompt)


def test_what_messages_say_is_never_a_control_token(model_of: Callable[..., LocalModel]) -> None:
    model = model_of("gpt2", LIMIT, TEMPLATE)
    end = model.subject.tokenizer.eos_token_id
    ids = model.chat_ids(SAID)
    assert ids.count(end) == 2  # the template's own
    spelled = b"".join(map(model.vocab.bytes_of, ids)).decode()
    assert spelled == "<|system|>\nBe brief.<|endoftext|>\n<|user|>\nWhat is <|endoftext|>?<|endoftext|>\n<|assistant|>\n"
    assert model_of("gpt2").chat_ids(SAID).count(end) == 0


def test_a_template_without_a_system_role_gets_its_text_with_the_first_message(model_of: Callable[..., LocalModel]) -> None:
    model = model_of("gpt2", LIMIT, NO_SYSTEM)
    spelled = b"".join(map(model.vocab.bytes_of, model.chat_ids(SAID))).decode()
    assert spelled.startswith("<|user|>\nBe brief.\n\nWhat is")
    deaf = model_of("gpt2", LIMIT, "{{ messages[-1].content }}")
    with pytest.raises(AtlasError, match="cannot hold a conversation"):
        deaf.chat_ids(explainer_messages([(["a"], [1])]))


def test_a_model_without_roles_reads_a_plain_text(model_of: Callable[..., LocalModel]) -> None:
    model = model_of("gpt2")
    messages = [*SAID, {"role": "assistant", "content": "A token."}, {"role": "user", "content": "And this"}]
    spelled = b"".join(map(model.vocab.bytes_of, model.chat_ids(messages))).decode()
    assert spelled == "Be brief.\n\nWhat is <|endoftext|>? A token.\n\nAnd this"


def test_samples_are_told_apart_and_can_be_drawn_again(model_of: Callable[..., LocalModel]) -> None:
    model = model_of("gpt2")
    drawn = [ask(model, SAID, temperature=1.0, n_sample=number, max_tokens=24).text for number in (0, 1, 0)]
    assert drawn[0] == drawn[2]
    assert drawn[0] != drawn[1]
    assert ask(model, SAID, n_sample=0).text == ask(model, SAID, n_sample=1).text


def test_log_probabilities_of_an_answer(model_of: Callable[..., LocalModel]) -> None:
    model = model_of("gpt2")
    answer = ask(model, SAID, top_logprobs=5, max_tokens=4)
    assert answer.tokens is not None
    assert len(answer.tokens) == answer.usage.tokens_out
    ids = [*model.chat_ids(SAID)]
    first = model.subject.logits(torch.tensor([ids]))[0, -1].log_softmax(-1)
    assert answer.tokens[0].logprob == pytest.approx(float(first.max()), abs=1e-4)
    for token in answer.tokens:
        assert token.logprob == pytest.approx(max(token.top.values()), abs=1e-6)
        assert len(token.top) <= 5
    assert ask(model, SAID).tokens is None


def test_a_schema_is_dropped_and_a_long_prompt_refused(model_of: Callable[..., LocalModel]) -> None:
    model = model_of("gpt2")
    assert ask(model, SAID, schema={"type": "object"}).dropped == ("schema",)
    with pytest.raises(LlmError, match=f"reads at most {LIMIT:,}") as caught:
        ask(model, SAID, max_tokens=LIMIT)
    assert caught.value.kind == "refused"
