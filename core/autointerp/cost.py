"""What a run of explaining will ask of language models, told before it starts: from the very prompts, and answers of usual length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.autointerp.calibration import CALIBRATIONS
from core.autointerp.further_prompts import Expected, paraphrase_messages, review_messages, testing_messages
from core.autointerp.prompts import (
    Message,
    Shown,
    chat_simulation_messages,
    explainer_messages,
    logit_effect_messages,
    simulation_prefix,
    simulation_target,
    token_list_messages,
)
from core.autointerp.puzzle_request import PuzzleRequest
from core.autointerp.puzzles import Puzzle
from core.autointerp.request import ExplainerChoice, ExplainRequest, Setting
from core.errors import AtlasError
from core.llm.endpoint import Endpoint
from core.llm.estimate import CHARS_PER_TOKEN, Estimate, Load, estimate

PIECE = " word"
"""A token of usual length: with its line's tab and number it makes prompts of about their real size."""
PHRASE = "words that say when something happens, such as days and times of day"
PHRASE_TOKENS = 40
"""Tokens of an explanation with a little room."""
TESTS, SENTENCE = 5, 25
"""Sentences of each kind that test an explanation, and the tokens of one."""
ENTRY_TOKENS = 16
"""Tokens of one entry of a structured answer: index, token, activation and what stands around them."""
OF_JSON, OF_LINES, OF_NUMBERS = 2.1, 2.6, 1.6
"""Characters a token: JSON with one object a token; lines of a token and “unknown” with some of numbers; lines of a token and a number."""
LISTED = 50
"""Tokens in a list to explain from."""


@dataclass(frozen=True)
class Cost:
    """asked: over HTTP, with the price if every endpoint has one: the least, as if no call has to be made again. loaded: prompts for models
    that are loaded here; they cost time only. more: a sentence about what may come on top of the least; empty when nothing can."""

    asked: Estimate
    loaded: int
    more: str = ""

    def __str__(self) -> str:
        """One line, as pages and commands show it before a run."""
        if not self.asked.calls and not self.loaded:
            return "No language model is asked: nothing to pay."
        parts = [str(self.asked)] if self.asked.calls else []
        parts += [f"{self.loaded:,} prompts for models loaded here"] if self.loaded else []
        return "; ".join(parts) + ". Answers kept from earlier runs cost nothing." + (f" {self.more}" if self.more else "")


def cost(request: ExplainRequest, tokens: int) -> Cost:
    """What the whole request will ask. tokens: of a record, BOS not counted; records of a corpus are nearly all of the same length."""
    units = len(request.units)
    found = [(endpoint, replace(load, calls=load.calls * units)) for one in request.settings for endpoint, load in loads(one, tokens)]
    return _cost(found, request.settings)


def puzzle_cost(request: PuzzleRequest, puzzles: Sequence[Puzzle]) -> Cost:
    """What a check on puzzles will ask. An explainer sees every second text, and its words are judged beside the others on the rest."""
    found: list[tuple[Endpoint, Load]] = []
    explainer = request.explainer
    for puzzle in puzzles:
        said = 1 + len(puzzle.false_explanations)
        texts = [pieces for pieces, _ in puzzle.texts]
        if explainer is not None and explainer.endpoint is not None:
            shown: list[Shown] = [(pieces, [round(value) for value in values]) for pieces, values in puzzle.texts[::2]]
            found.append((explainer.endpoint, _chat(explainer_messages(shown), PHRASE_TOKENS, OF_NUMBERS)))
            said, texts = said + 1, texts[1::2]
        if request.simulator.endpoint is not None:
            found += [(request.simulator.endpoint, replace(_simulation(request.simulator.name, len(one)), calls=said)) for one in texts]
    return _cost(found, [Setting(explainer=explainer or ExplainerChoice(), simulator=request.simulator)])


def _cost(found: Sequence[tuple[Endpoint, Load]], settings: Sequence[Setting]) -> Cost:
    asked, loaded = Estimate(), 0
    for endpoint, load in found:
        if endpoint.in_process:
            loaded += load.calls
        elif load.calls:
            asked += estimate([load], endpoint.price_in, endpoint.price_out)
    return Cost(asked, loaded, _more(settings) if asked.calls else "")


def _more(settings: Sequence[Setting]) -> str:
    """What a run may cost beyond the calls that are counted, which depends on the models' answers."""
    over_http = {one.simulator.name for one in settings if one.simulator.endpoint is not None and not one.simulator.endpoint.in_process}
    reasons: list[str] = []
    if "completions" in over_http:
        reasons.append("a tokenizer that writes 10 as 1 and 0 needs one more call wherever a 1 is likely")
    if "chat" in over_http:
        reasons.append("a simulated record is asked for again when its answer cannot be used")
    if any(one.explainer.endpoint is not None or one.simulator.name == "chat" or one.paraphraser for one in settings):
        reasons.append("models that think first also write their thoughts")
    return f"This is the least: {'; '.join(reasons)}." if reasons else ""


def record_tokens(piece: Mapping[str, Any]) -> int:
    """The length of a slice's records, BOS not counted. piece: the slice's document in an index's manifest."""
    return max(1, int(piece["length"]) - int(piece["bos"]))


def check_budget(budget: Mapping[str, float] | None, spend: Cost) -> None:
    """Raises AtlasError for a cap in money without prices, which would stop the run at its first call."""
    if budget is not None and "money" in budget and spend.asked.calls and spend.asked.money is None:
        raise AtlasError("A limit in money needs the model's prices: give both beside its address, or limit calls or tokens.")


def over_budget(budget: Mapping[str, float] | None, spend: Cost) -> str:
    """A sentence when the limits will stop the run before its end, else empty."""
    caps = budget or {}
    asked = spend.asked
    needs = {"calls": asked.calls, "tokens": asked.tokens_in + asked.tokens_out, "money": asked.money or 0.0}
    short = [name for name, cap in caps.items() if needs[name] > cap]
    if not short:
        return ""
    return f"The limit of {' and '.join(short)} will probably stop this run before its end; what is finished then is kept."


def loads(setting: Setting, tokens: int) -> list[tuple[Endpoint, Load]]:
    """The calls for one unit under one setting, each kind with whom it goes to. The unit's own only: nothing is counted as kept before."""
    found: list[tuple[Endpoint, Load]] = []
    explanations = 1 if setting.arm is None else 2
    explainer, simulator = setting.explainer, setting.simulator
    if explainer.endpoint is not None:
        shown = min(explainer.length or tokens, tokens)
        if explainer.name == "token-activation":
            found.append((explainer.endpoint, _chat(explainer_messages(_records(explainer.records, shown)), PHRASE_TOKENS, OF_NUMBERS)))
        elif explainer.name == "token-list":
            found.append((explainer.endpoint, _chat(token_list_messages([PIECE] * LISTED), PHRASE_TOKENS)))
        elif explainer.name == "logit-effect":
            found.append((explainer.endpoint, _chat(logit_effect_messages([PIECE] * 10, [PIECE] * 10), PHRASE_TOKENS)))
        if setting.arm is not None:
            texts = 0 if setting.arm == "re-explanation" else 2 * TESTS
            length = SENTENCE if setting.arm == "revision" else tokens
            new: list[tuple[Expected, Shown]] = [("", record) for record in _records(texts, length)]
            review = review_messages(PHRASE, _records(explainer.records, shown), new)
            found.append((explainer.endpoint, _chat(review, PHRASE_TOKENS, OF_NUMBERS)))
        if setting.arm == "revision":
            found.append((explainer.endpoint, _chat(testing_messages(PHRASE, TESTS), 2 * TESTS * SENTENCE)))
    paraphraser = setting.paraphraser or explainer.endpoint or simulator.endpoint
    words = 1 + ("shuffled" in setting.controls)
    if "paraphrase" in setting.controls and paraphraser is not None:
        words += 1
        found += [(paraphraser, _chat(paraphrase_messages(PHRASE), PHRASE_TOKENS))] * explanations
    if simulator.endpoint is not None:
        splits = (1 if setting.arm is None else 2) + (simulator.calibration != CALIBRATIONS[0])
        load = _simulation(simulator.name, tokens)
        calls = 2 * setting.each * splits * words * explanations
        found.append((simulator.endpoint, replace(load, calls=calls)))
    return found


def _simulation(name: str, tokens: int) -> Load:
    pieces = [PIECE] * tokens
    if name == "chat":
        return _chat(chat_simulation_messages(PHRASE, pieces), ENTRY_TOKENS * tokens, OF_JSON)
    prompt = simulation_prefix() + "".join(segment.text for segment in simulation_target(PHRASE, pieces))
    return Load(1, len(prompt), 1, OF_LINES)


def _chat(messages: Sequence[Message], tokens_out: int, chars_per_token: float = CHARS_PER_TOKEN) -> Load:
    return Load(1, sum(len(str(message["content"])) for message in messages), tokens_out, chars_per_token)


def _records(count: int, tokens: int) -> list[tuple[list[str], list[int]]]:
    """Records in which few activations are not zero, as most units have them: they are shown twice."""
    return [([PIECE] * tokens, [10] + [0] * (tokens - 1))] * count
