"""Puzzles: planted neurons whose explanation is known, with false ones beside it, to check a simulator or an explainer on.

A simulator that tells the true explanation from the false ones can be trusted with real units; one that does not will not score anything.
Own puzzles are a JSON file in the format of `puzzles.json`: {"puzzles": [{"name", "explanation", "false_explanations", "texts"}]}, where a
text is a list of tokens, each a string, or [string, activation] where the activation, 0 to 10, is not 0.
"""

import asyncio
import json
import math
import stat
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from core.autointerp.explanation import Example, Explanation, Simulation, Simulator, Text
from core.autointerp.prompts import Shown
from core.autointerp.scale import TOP, largest, normalise
from core.autointerp.scoring import Score, score
from core.errors import AtlasError, explain_os_error, shown
from core.units import UnitName

BUILT_IN = Path(__file__).with_name("puzzles.json")
LARGEST = 1_000_000
"""Bytes of a file."""
MAX_PUZZLES, MAX_TEXTS, MAX_TOKENS, MAX_WORDS = 200, 100, 512, 500
"""Puzzles in a file, texts of a puzzle, tokens of a text, characters of an explanation."""
Solve = Callable[[Sequence[Shown]], Awaitable[str]]
"""An explainer: from records with activations 0 to 10 to a sentence."""
_NOWHERE = UnitName.parse("puzzle/mlp.0/neurons/0")


@dataclass(frozen=True)
class Puzzle:
    """A planted neuron. texts: tokens, and activations 0 to 10."""

    name: str
    explanation: str
    false_explanations: tuple[str, ...]
    texts: tuple[tuple[tuple[str, ...], tuple[float, ...]], ...]

    def examples(self) -> list[Example]:
        """The texts as records. The tokens are no model's: their ids are −1."""
        return [
            Example("top", at, f"{self.name}/{at}", Text((-1,) * len(pieces), pieces), np.array(values, np.float64))
            for at, (pieces, values) in enumerate(self.texts)
        ]

    def to_json(self) -> dict[str, Any]:
        """What `parse_puzzles` reads."""
        texts = [[[piece, value] if value else piece for piece, value in zip(pieces, values, strict=True)] for pieces, values in self.texts]
        return {"name": self.name, "explanation": self.explanation, "false_explanations": list(self.false_explanations), "texts": texts}


@dataclass(frozen=True)
class Verdict:
    """An explanation of a puzzle and how well it predicts the neuron."""

    text: str
    score: Score


@dataclass(frozen=True)
class PuzzleResult:
    """margin: ρ of the true explanation less the best false one's; NaN where the true one's is undefined. A false one whose ρ is undefined
    counts as 0. reason: why it was not passed, else "". given: what an explainer said, when one was asked."""

    puzzle: str
    true: Verdict
    false: tuple[Verdict, ...]
    margin: float
    passed: bool
    reason: str = ""
    given: Verdict | None = None


async def check(simulator: Simulator, puzzle: Puzzle) -> PuzzleResult:
    """Whether a simulator scores the true explanation above every false one, on all texts of the puzzle.

    A text that fails for one of the explanations counts for none, and lowers coverage. Raises AtlasError for what stops a run.
    """
    return await _judge(simulator, puzzle, puzzle.examples(), None)


async def check_explainer(solve: Solve, simulator: Simulator, puzzle: Puzzle) -> PuzzleResult:
    """The same with what an explainer says, which passes when it, too, scores above every false explanation.

    The explainer sees every second text, from the first; the others are scored. Raises AtlasError, and what the explainer raises.
    """
    examples = puzzle.examples()
    seen = examples[::2]
    top = largest([example.activations for example in seen])
    given = await solve([(example.text.pieces, normalise(example.activations, top)) for example in seen])
    return await _judge(simulator, puzzle, examples[1::2], given)


def built_in() -> list[Puzzle]:
    """The puzzles that come with the program."""
    return load_puzzles(BUILT_IN)


def load_puzzles(path: Path) -> list[Puzzle]:
    """Read a JSON file of puzzles. Raises AtlasError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise AtlasError(f"{path} is not a file: name a JSON file of puzzles.")
        # One byte more than allowed, should the file grow meanwhile.
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise AtlasError(f"There is no file {path}: name a JSON file of puzzles.") from None
    except ValueError:
        raise AtlasError(f"“{shown(str(path))}” is not a path: name a JSON file of puzzles.") from None
    except OSError as error:
        raise explain_os_error(error, "reading a file of puzzles") from None
    return parse_puzzles(content, path.name)


def parse_puzzles(content: bytes, name: str) -> list[Puzzle]:
    """Puzzles from the content of a file. name: what a message calls it. Raises AtlasError naming the first mistake."""
    called = f"The file “{shown(name)}”"
    if len(content) > LARGEST:
        raise AtlasError(f"{called} is larger than {LARGEST // 1_000_000} MB: leave some puzzles out.")
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise AtlasError(f"{called} is not JSON: write it like the puzzles that come with the program.") from None
    listed = document.get("puzzles") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not 1 <= len(cast(list[Any], listed)) <= MAX_PUZZLES:
        raise AtlasError(f'{called} has no list of 1 to {MAX_PUZZLES} puzzles under the key "puzzles".')
    puzzles = [_puzzle(entry, f"Puzzle {number} of {called[0].lower()}{called[1:]}") for number, entry in enumerate(listed, 1)]
    names = [puzzle.name for puzzle in puzzles]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise AtlasError(f"{called} has two puzzles with the name “{shown(twice)}”: rename one.")
    return puzzles


async def _judge(simulator: Simulator, puzzle: Puzzle, examples: Sequence[Example], given: str | None) -> PuzzleResult:
    said = [puzzle.explanation, *puzzle.false_explanations, *([] if given is None else [given])]
    wanted = [(Explanation(_NOWHERE, text, "by-hand", "puzzle"), example.text) for text in said for example in examples]
    every = await asyncio.gather(*(simulator.simulate(explanation, text) for explanation, text in wanted))
    answers = [every[at : at + len(examples)] for at in range(0, len(every), len(examples))]
    lost = {at for simulations in answers for at, one in enumerate(simulations) if one.failed}
    failed = next((one.failed for one in every if one.failed), "")
    verdicts = [Verdict(text, _score(examples, simulations, lost)) for text, simulations in zip(said, answers, strict=True)]
    false = tuple(verdicts[1 : 1 + len(puzzle.false_explanations)])
    others = [0.0, *(one.score.rho for one in false if math.isfinite(one.score.rho))]
    passing = verdicts[0] if given is None else verdicts[-1]
    reason = _why_not(verdicts[0], "the true explanation", max(others), failed)
    if not reason and given is not None:
        reason = _why_not(passing, "the explanation that was given", max(others), failed)
    margin = verdicts[0].score.rho - max(others)
    return PuzzleResult(puzzle.name, verdicts[0], false, margin, not reason, reason, None if given is None else passing)


def _score(examples: Sequence[Example], simulations: Sequence[Simulation], lost: set[int]) -> Score:
    values = [np.full(len(one.values), np.nan) if at in lost else one.values for at, one in enumerate(simulations)]
    return score("top-only", [example.activations for example in examples], values)


def _why_not(verdict: Verdict, called: str, best: float, failed: str) -> str:
    """Why an explanation does not stand above the false ones, else “”."""
    if not verdict.score.n_records:
        return f"no text could be simulated: {failed}"
    if not math.isfinite(verdict.score.rho):
        return f"{called} has no score: {verdict.score.reason}"
    if verdict.score.rho <= best:
        return f"{called} scores {verdict.score.rho:.2f}, and the best false one {best:.2f}"
    return ""


def _puzzle(entry: Any, called: str) -> Puzzle:
    if not isinstance(entry, dict):
        raise AtlasError(f"{called} is not an object with name, explanation, false_explanations and texts.")
    words = {key: _words(entry.get(key), f"{called} lacks its {key}") for key in ("name", "explanation")}
    listed, texts = entry.get("false_explanations"), entry.get("texts")
    if not isinstance(listed, list) or not 1 <= len(cast(list[Any], listed)) <= 20:
        raise AtlasError(f"{called} needs a list of 1 to 20 false_explanations.")
    false = tuple(_words(text, f"{called} has a false explanation that is no text") for text in listed)
    if words["explanation"] in false or len(set(false)) < len(false):
        raise AtlasError(f"{called} has the same explanation twice: all have to differ.")
    if not isinstance(texts, list) or not 2 <= len(cast(list[Any], texts)) <= MAX_TEXTS:
        raise AtlasError(f"{called} needs a list of 2 to {MAX_TEXTS} texts.")
    read = tuple(_text(text, f"Text {number} of {called[0].lower()}{called[1:]}") for number, text in enumerate(texts, 1))
    # Every second text is for explaining, the others for scoring: both need something to say.
    for half in (read[::2], read[1::2]):
        if len({value for _, values in half for value in values}) < 2:
            raise AtlasError(f"{called} needs tokens with and without an activation both in its odd and in its even texts.")
    return Puzzle(words["name"], words["explanation"], false, read)


def _words(value: Any, otherwise: str) -> str:
    if not isinstance(value, str) or not 0 < len(" ".join(value.split())) <= MAX_WORDS:
        raise AtlasError(f"{otherwise}: give a text of at most {MAX_WORDS} characters.")
    return " ".join(value.split())


def _text(entry: Any, called: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    if not isinstance(entry, list) or not 1 <= len(cast(list[Any], entry)) <= MAX_TOKENS:
        raise AtlasError(f"{called} is not a list of 1 to {MAX_TOKENS} tokens.")
    tokens = [_token(token, called) for token in entry]
    return tuple(piece for piece, _ in tokens), tuple(value for _, value in tokens)


def _token(token: Any, called: str) -> tuple[str, float]:
    piece, value = token if isinstance(token, list) and len(token) == 2 else (token, 0)
    if not isinstance(piece, str) or not piece:
        raise AtlasError(f"{called} has a token that is neither a text nor [text, activation].")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= TOP:
        raise AtlasError(f"{called} gives “{shown(piece)}” an activation that is not between 0 and {TOP}.")
    return piece, float(value)
