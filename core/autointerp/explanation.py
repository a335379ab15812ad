"""The nouns of automated interpretation: what is explained, what a simulator sees, what it answers."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from core.autointerp.pattern import Pattern
from core.units import UnitName

Floats = npt.NDArray[np.float64]
Origin = Literal["top", "random"]
"""Whether a record is one of the unit's strongest or one drawn at random."""

DIGITS = 11
"""A simulated activation is one of the integers 0 to 10 (Bills et al. 2023, “Simulating”)."""


@dataclass(frozen=True)
class Text:
    """A record as a simulator sees it: the tokens, and nothing of their activations. Both have the length (tokens,); no BOS."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    """Each token by itself, as `Vocab.pieces` gives it."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Example:
    """A record with a part to play: its text, its true activations [tokens], and where it comes from."""

    origin: Origin
    context: int
    """Its rank in the slice."""
    document: str
    text: Text
    activations: Floats


@dataclass(frozen=True)
class Explanation:
    """A sentence about one unit, who wrote it, and by which recipe.

    explainer: a name in `core.autointerp.explainers.EXPLAINERS`. author: the model that wrote it, `pattern` or `by hand`. pattern: what a
    pattern or lookup simulator reads; None when there is only the sentence. recipe: parameters, prompt version and model.
    """

    unit: UnitName
    text: str
    explainer: str
    author: str
    pattern: Pattern | None = None
    recipe: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Simulation:
    """What a simulator expects on each token of one text.

    values: [tokens], expected activations; all NaN when it failed. scale: `tenths` for 0 to 10 (a sentence: −10 to 10), `activation` for
    the unit's own scale.
    probabilities: [tokens, 11] over the integers 0 to 10, or None when the simulator gives none. failed: why there is no answer, else "".
    """

    values: Floats
    scale: Literal["tenths", "activation"] = "tenths"
    probabilities: Floats | None = None
    failed: str = ""

    @classmethod
    def failure(cls, text: Text, why: str) -> "Simulation":
        """No answer for this text, and why. It lowers coverage; it never counts as zeros."""
        return cls(np.full(len(text), np.nan), failed=why)


class Simulator(Protocol):
    """Predicts a unit's activations from an explanation alone. Safe to ask many at once from one event loop."""

    name: str
    recipe: dict[str, Any]
    """What a number made with it has to say: model, prompt version, how number tokens were read."""

    async def simulate(self, explanation: Explanation, text: Text) -> Simulation:
        """One text. A failure that concerns this text only is a `Simulation.failure`; raises AtlasError for what stops the whole run."""
        ...
