"""The simulators by name, and those that need no language model."""

from typing import Any

from core.autointerp import sentence
from core.autointerp.explanation import Explanation, Simulation, Simulator, Text
from core.autointerp.models import Models
from core.autointerp.pattern import Pattern
from core.autointerp.request import SimulatorChoice


class PatternSimulator:
    """Reads an explanation's pattern; of one without a pattern, the starred words of its sentence."""

    name = "pattern"

    def __init__(self) -> None:
        self.recipe: dict[str, Any] = {}

    async def simulate(self, explanation: Explanation, text: Text) -> Simulation:
        if explanation.pattern is None:
            self.recipe["grammar"] = sentence.GRAMMAR
            return simulate_sentence(explanation.text, text)
        return Simulation(explanation.pattern.predict(text.ids, text.pieces), "activation")


class LookupSimulator:
    """Reads only the single tokens of an explanation's pattern: the paper's token lookup table."""

    name = "lookup"

    def __init__(self) -> None:
        self.recipe: dict[str, Any] = {}

    async def simulate(self, explanation: Explanation, text: Text) -> Simulation:
        if explanation.pattern is None:
            return Simulation.failure(text, "the explanation carries no token table: use the pattern explainer, or another simulator")
        return simulate_lookup(explanation.pattern.tokens_only(), text)


class SentenceSimulator:
    """Reads only what an explanation's sentence says between stars."""

    name = "sentence"

    def __init__(self) -> None:
        self.recipe: dict[str, Any] = {"grammar": sentence.GRAMMAR}

    async def simulate(self, explanation: Explanation, text: Text) -> Simulation:
        return simulate_sentence(explanation.text, text)


def simulate_sentence(said: str, text: Text) -> Simulation:
    """The sentence's words on a text, or a failure when it names none."""
    words = sentence.read(said)
    if not words.values:
        return Simulation.failure(text, "the sentence names no *word*: put the words it is about between stars, or use a language model")
    return Simulation(words.predict(text.pieces))


def simulate_lookup(table: Pattern, text: Text) -> Simulation:
    """The token lookup table's answer on a text."""
    return Simulation(table.predict(text.ids, text.pieces), "activation")


def simulator(choice: SimulatorChoice, models: Models) -> Simulator:
    """The simulator of a choice. Raises AtlasError when its model cannot be had."""
    without = {"pattern": PatternSimulator, "sentence": SentenceSimulator, "lookup": LookupSimulator}
    return without[choice.name]() if choice.name in without else models.simulator(choice)
