"""A Hugging Face language model as explainer and as simulator, in this process: no server, no key, every logit at hand. Loads torch."""

import asyncio
import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jinja2.exceptions import TemplateError
from torch import Tensor

from core.autointerp.explanation import DIGITS, Explanation, Simulation, Text
from core.autointerp.fewshot import EXAMPLES
from core.autointerp.kv import Kept, Passes, fresh_cache, joined
from core.autointerp.number_tokens import find_numbers
from core.autointerp.piecewise import PieceIds, PieceTokenizer
from core.autointerp.prompts import PROMPT_VERSION, Message, prefix_segments, simulation_target
from core.errors import AtlasError
from core.llm.answers import ChatAnswer, TokenLogprobs, Usage
from core.llm.failures import LlmError
from core.subject.info import subject_folder
from core.subject.load import load_subject
from core.subject.subject import Subject
from core.vocab import Vocab
from core.workspace import Workspace

Floats = npt.NDArray[np.float64]
ROOM = 400
"""Tokens that the simulator's examples leave for an explanation and a text of 64 tokens."""
_EXPLANATIONS_KEPT = 64
_PROBE = ("a probe", ("The", " number", " is", " 10", "\n"))
_PLACE = re.compile("\ue000(\\d+)\ue001")


class LocalModel:
    """A causal language model loaded here, with a `Chat` of its own. One forward pass at a time, whoever asks."""

    def __init__(self, subject: Subject, vocab: Vocab) -> None:
        self.subject, self.vocab = subject, vocab
        self.pieces = PieceTokenizer(subject.tokenizer)
        self.passes = Passes(subject.model, subject.device)
        self.lock = threading.Lock()
        """Held during passes and tokenization: neither is made for several threads."""
        self._read: Kept | None = None
        """The last chat's prompt: the next one usually begins in the same way."""

    @classmethod
    def load(cls, workspace: Workspace, name: str, *, dtype: str = "float32", device: str = "auto") -> "LocalModel":
        """Load a model by slug, path, hub id or as `default`, by the same rules as any subject. Raises AtlasError."""
        subject = load_subject(workspace, name, dtype=dtype, device=device)
        return cls(subject, Vocab.load(subject_folder(workspace, subject.info.slug) / "vocab.parquet"))

    @property
    def name(self) -> str:
        return self.subject.info.slug

    @property
    def limit(self) -> int:
        """The longest prompt, with its answer, in tokens."""
        return self.subject.info.context_limit

    @property
    def start(self) -> tuple[int, ...]:
        """What a prompt begins with: the BOS, where the tokenizer's makers put one."""
        bos = self.subject.info.bos_token_id
        return (bos,) if bos is not None and self.subject.tokenizer("a")["input_ids"][:1] == [bos] else ()

    async def chat(
        self,
        messages: list[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_logprobs: int | None = None,
        schema: dict[str, Any] | None = None,
        n_sample: int = 0,
    ) -> ChatAnswer:
        """Answer in the model's own chat template, or in plain text when it has none (then an empty line ends an answer).

        The same request gives the same answer: samples are drawn from a seed made of the prompt, the temperature and `n_sample`. `schema`
        is not enforced: it is in `dropped`. Raises LlmError for a prompt that does not fit, AtlasError for a template that fails.
        """
        return await asyncio.to_thread(self._chat, messages, max_tokens, temperature, top_logprobs, schema is not None, n_sample)

    def chat_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids of a chat up to where the answer begins. Whatever the messages say, it is read as text, never as control tokens."""
        if not self.subject.tokenizer.chat_template:
            return self.start + self.pieces.ids(_plain_chat(messages), "")
        rendered = self._render(messages)
        ids: list[int] = []
        after = ""
        # The template's own stretches hold control tokens; every second part is the number of a message.
        for part, text in enumerate(_PLACE.split(rendered)):
            stretch = str(messages[int(text)]["content"]) if part % 2 else text
            ids += self.pieces.ids(stretch, after, control=not part % 2)
            after = stretch[-1:] or after
        return tuple(ids)

    def _render(self, messages: Sequence[Message]) -> str:
        """The template around a numbered place for every message. Templates without a system role get its text with the first user's."""
        placed = [{"role": str(message["role"]), "content": f"\ue000{number}\ue001"} for number, message in enumerate(messages)]
        folded = placed
        if len(placed) > 1 and placed[0]["role"] == "system":
            folded = [{"role": placed[1]["role"], "content": f"{placed[0]['content']}\n\n{placed[1]['content']}"}, *placed[2:]]
        for tried in (placed, folded):
            try:
                text: str = self.subject.tokenizer.apply_chat_template(
                    tried, tokenize=False, add_generation_prompt=True, enable_thinking=False
                )
            except (TemplateError, TypeError, ValueError):
                continue
            if {int(number) for number in _PLACE.findall(text)} == set(range(len(messages))):
                return text
        raise AtlasError(f"The chat template of {self.name} cannot hold a conversation with examples: choose another model.")

    def _chat(
        self, messages: list[Message], max_tokens: int, temperature: float, top_logprobs: int | None, dropped: bool, n_sample: int
    ) -> ChatAnswer:
        with self.lock:
            prompt = self.chat_ids(messages)
            if len(prompt) + max_tokens > self.limit:
                sizes = f"The prompt has {len(prompt):,} tokens and the answer up to {max_tokens:,}"
                raise LlmError("refused", f"{sizes}, and {self.name} reads at most {self.limit:,}.")
            seed = hashlib.sha256(json.dumps([prompt, temperature, n_sample]).encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(seed[:8], "little", signed=True))
            ids, tokens, finish = self._answer(prompt, max_tokens, temperature, top_logprobs, generator)
        usage = Usage(len(prompt), len(ids))
        return ChatAnswer(self.vocab.decode(ids), tokens, finish, usage, False, ("schema",) if dropped else ())

    def _answer(
        self, prompt: tuple[int, ...], max_tokens: int, temperature: float, top: int | None, generator: torch.Generator
    ) -> tuple[list[int], list[TokenLogprobs] | None, str]:
        """(ids without the token that ends them, their log probabilities if wanted, `stop` or `length`)"""
        ends, plain = self._ends(), not self.subject.tokenizer.chat_template
        known = 0 if self._read is None else _shared(self._read.ids, prompt[:-1])
        before = [self._read.first(known)] if self._read is not None and known else []
        if len(prompt) - 1 > known:
            before.append(self.passes.keep(before, prompt[known:-1]))
        self._read = joined(before) if before else None
        cache = fresh_cache(before)
        ids: list[int] = []
        logprobs: list[TokenLogprobs] | None = None if top is None else []
        last = prompt[-1]
        while len(ids) < max_tokens:
            logits = self.passes.read(cache, [last]).cpu()
            last = _draw(logits, temperature, generator)
            if last in ends:
                return ids, logprobs, "stop"
            ids.append(last)
            if logprobs is not None:
                logprobs.append(self._logprobs(logits, last, top or 0))
            if plain and "\n\n" in self.vocab.decode(ids).lstrip():
                return ids, logprobs, "stop"
        return ids, logprobs, "length"

    def _ends(self) -> set[int]:
        stated: Any = getattr(self.subject.model.generation_config, "eos_token_id", None)
        listed: list[Any] = [*stated] if isinstance(stated, list) else [stated]
        return {int(token) for token in (*listed, self.subject.tokenizer.eos_token_id) if token is not None}

    def _logprobs(self, logits: Tensor, token: int, top: int) -> TokenLogprobs:
        every = logits.log_softmax(-1)
        values, ids = every.topk(min(top, len(every)))
        # Two tokens of the same text: the likelier one is kept, as it comes later here.
        likeliest = dict(zip(map(self._text, reversed(ids.tolist())), reversed(values.tolist()), strict=True))
        return TokenLogprobs(self._text(token), float(every[token]), likeliest)

    def _text(self, token: int) -> str:
        return self.vocab.pieces([token])[0]


class LocalSimulator:
    """Bills et al.'s simulator, all tokens at once: each activation is the model's expectation where the prompt says “unknown”.

    One forward pass over the text a record. The prompt's examples, and the explanation, are read once and their keys and values kept.
    cached=False reads everything again each time: the reference that the rest is compared with.
    Raises AtlasError when the model's tokenizer or its length forbids it.
    """

    name = "local"

    def __init__(self, model: LocalModel, *, cached: bool = True) -> None:
        self._model, self._cached = model, cached
        with model.lock:
            self._numbers = find_numbers(model.pieces, model.vocab, model.name)
            self.examples, self._begin = self._examples()
            self._prefix = model.passes.keep([], self._begin)
            self._kept: OrderedDict[str, Kept] = OrderedDict()
            self._branches = self._numbers.style == "digits" and self._branches_work()
        step = {} if self._numbers.style == "whole" else {"after_1": "same pass" if self._branches else "pass for each token"}
        self.recipe: dict[str, Any] = {
            "prompt": PROMPT_VERSION,
            "examples": self.examples,
            **self._numbers.to_json(),
            **step,
            "model": model.name,
            "provenance": model.subject.provenance(),
        }

    async def simulate(self, explanation: Explanation, text: Text) -> Simulation:
        """As the protocol `Simulator` has it; passes run in a thread, one at a time."""
        return await asyncio.to_thread(self._simulate, explanation.text, text)

    def prompt(self, explanation: str, pieces: Sequence[str]) -> tuple[tuple[int, ...], PieceIds]:
        """The ids that follow the examples: those of the explanation; those of the text, up to where the last activation is read off."""
        head, *lines = simulation_target(explanation, pieces, self.examples)
        whole = self._model.pieces.join(lines, "\n")
        end = whole.before[-1] + 1 if whole.before else 0
        return self._model.pieces.ids(head.text), PieceIds(whole.ids[:end], whole.before)

    def whole_prompt(self, explanation: str, pieces: Sequence[str]) -> PieceIds:
        """The same in one piece, examples included."""
        head, lines = self.prompt(explanation, pieces)
        shift = len(self._begin) + len(head)
        return PieceIds(self._begin + head + lines.ids, tuple(place + shift for place in lines.before))

    def distribution(self, explanation: str, pieces: Sequence[str]) -> Floats:
        """Probabilities [tokens, 11] over the integers 0 to 10. Raises LlmError for a text that is too long for the model."""
        if not pieces:
            return np.zeros((0, DIGITS))
        with self._model.lock:
            head, lines = self.prompt(explanation, pieces)
            length = len(self._begin) + len(head) + len(lines.ids) + (self._numbers.style == "digits")
            if length > self._model.limit:
                raise LlmError("refused", f"The prompt has {length:,} tokens, and {self._model.name} reads at most {self._model.limit:,}.")
            if self._cached:
                return self._expect([self._prefix, self._keep(explanation, head)], lines)
            return self._expect([], self.whole_prompt(explanation, pieces))

    def _simulate(self, explanation: str, text: Text) -> Simulation:
        try:
            found = self.distribution(explanation, text.pieces)
        except LlmError as error:
            return Simulation.failure(text, str(error))
        if not np.isfinite(found).all():
            return Simulation.failure(text, f"{self._model.name} answered with numbers that are not finite.")
        return Simulation(found @ np.arange(DIGITS), probabilities=found)

    def _expect(self, before: Sequence[Kept], lines: PieceIds) -> Floats:
        passes, numbers = self._model.passes, self._numbers
        if numbers.style == "whole":
            return numbers.distribution(self._columns(passes.logits(before, lines.ids, lines.before)))
        if self._branches:
            here, then = passes.branches(before, lines.ids, lines.before, numbers.one)
        else:
            here = passes.logits(before, lines.ids, lines.before)
            then = passes.steps(before, lines.ids, lines.before, numbers.one)
        return numbers.distribution(self._columns(here), then.softmax(-1)[:, numbers.zero].double().cpu().numpy())

    def _columns(self, logits: Tensor) -> Floats:
        return logits[:, self._numbers.columns].double().cpu().numpy()

    def _keep(self, explanation: str, head: tuple[int, ...]) -> Kept:
        """The explanation's keys and values, read once for all its records."""
        if explanation not in self._kept:
            self._kept[explanation] = self._model.passes.keep([self._prefix], head)
            if len(self._kept) > _EXPLANATIONS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(explanation)
        return self._kept[explanation]

    def _examples(self) -> tuple[int, tuple[int, ...]]:
        """(as many examples as leave ROOM in the model's context, the ids of the prompt's beginning)"""
        model, begin = self._model, ()
        for examples in range(EXAMPLES, 0, -1):
            begin = model.start + model.pieces.join(prefix_segments(examples)).ids
            if len(begin) + ROOM <= model.limit:
                return examples, begin
        raise AtlasError(
            f"{model.name} cannot simulate: it reads at most {model.limit:,} tokens, and the shortest prompt takes {len(begin) + ROOM:,}. "
            "Choose a model that reads more."
        )

    def _branches_work(self) -> bool:
        head, lines = self.prompt(*_PROBE)
        return self._model.passes.branches_are_exact(
            [self._prefix], head + lines.ids, [at + len(head) for at in lines.before], self._numbers.one
        )


def _plain_chat(messages: Sequence[Message]) -> str:
    """A chat for a model that knows no roles: what is asked ends where the answer goes on; an empty line ends an answer."""
    parts = [f"{message['content']}{' ' if message['role'] == 'user' else chr(10) * 2}" for message in messages]
    return "".join(parts).rstrip(" ")


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature <= 0:
        return int(logits.argmax())
    return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two prompts begin with in common."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
