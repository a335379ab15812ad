"""How a tokenizer writes the integers 0 to 10 behind a tab, and the distribution over them that logits hold. No torch."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from core.autointerp.explanation import DIGITS
from core.autointerp.piecewise import PieceTokenizer
from core.autointerp.prompts import END, START, UNKNOWN
from core.autointerp.scale import TOP
from core.errors import AtlasError
from core.vocab import Vocab

Floats = npt.NDArray[np.float64]
Style = Literal["whole", "digits"]


@dataclass(frozen=True)
class NumberTokens:
    """style: `whole` when each integer is a token; `digits` when 10 is written as 1, then 0, which takes one step more.

    tokens: for each integer (0 to 10, or 0 to 9 for `digits`) the tokens that write it; the first is the one that prompts use, others have
    spaces before it or are its bare byte.
    """

    style: Style
    tokens: tuple[tuple[int, ...], ...]

    @property
    def columns(self) -> list[int]:
        """The tokens whose logits `distribution` wants, in this order."""
        return [token for variants in self.tokens for token in variants]

    @property
    def one(self) -> int:
        return self.tokens[1][0]

    @property
    def zero(self) -> int:
        return self.tokens[0][0]

    def distribution(self, logits: npt.ArrayLike, zero_after_one: npt.ArrayLike | None = None) -> Floats:
        """Probabilities [n, 11] over the integers, from the logits [n, len(columns)] of the tokens `columns`.

        A softmax over these tokens alone: what a model expects besides numbers is left out (Bills et al. 2023, “Simulating”). Tokens that
        write the same integer are added. For `digits`, with q the probability of 0 right after 1 among all tokens (`zero_after_one` [n]),
        P(10) = P(1) · q and P(1) becomes P(1) · (1 − q). NaN where a logit is not a number.
        """
        values = np.asarray(logits, np.float64)
        shares = np.exp(values - values.max(axis=-1, keepdims=True))
        first = np.cumsum([0, *map(len, self.tokens[:-1])])
        found = np.add.reduceat(shares, first, axis=-1)
        found /= found.sum(axis=-1, keepdims=True)
        if self.style == "whole":
            return found
        if zero_after_one is None:
            raise ValueError("the step after 1 is needed where 10 is two tokens")
        ten = found[:, 1] * np.asarray(zero_after_one, np.float64)
        found = np.concatenate([found, ten[:, None]], axis=1)
        found[:, 1] -= ten
        return found

    def to_json(self) -> dict[str, Any]:
        """What a simulation's recipe says about them."""
        return {"numbers": self.style, "number_tokens": [list(variants) for variants in self.tokens]}


def find_numbers(tokenizer: PieceTokenizer, vocab: Vocab, name: str) -> NumberTokens:
    """The number tokens of a tokenizer. Raises AtlasError with the reason when values cannot be read off one token at a time."""

    def refuse(why: str) -> AtlasError:
        return AtlasError(f"{name} cannot simulate: {why}. Choose another model, or the structured chat.")

    for text, called in (("\t", "tabs"), ("\n", "line breaks")):
        ids = tokenizer.ids(text, "a")
        if not ids or any(map(tokenizer.is_unknown, ids)):
            raise refuse(f"its tokenizer has no token for {called}, which part tokens and activations in the prompt")
    written = [tokenizer.ids(str(value), "\t") for value in range(DIGITS)]
    for value, ids in enumerate(written):
        if not ids or any(map(tokenizer.is_unknown, ids)):
            raise refuse(f"its tokenizer has no token for {value}")
        if len(ids) > 1 and value < TOP:
            raise refuse(f"its tokenizer writes {value} as {_listed(tokenizer, ids)}, and a digit has to be one token")
    if any(map(tokenizer.is_unknown, tokenizer.ids(f"{START}{UNKNOWN}{END}"))):
        raise refuse("its tokenizer lacks words of the prompt")
    singles = [ids[0] for ids in written[:TOP]]
    if len(set(singles)) < TOP:
        raise refuse("its tokenizer writes two digits as one and the same token")
    ten = written[TOP]
    if len(ten) == 1 and ten[0] not in singles:
        return NumberTokens("whole", _with_variants([*singles, ten[0]], vocab))
    if ten == (singles[1], singles[0]):
        return NumberTokens("digits", _with_variants(singles, vocab))
    raise refuse(f"its tokenizer writes 10 as {_listed(tokenizer, ten)}, which is neither one token nor 1 and 0")


def _with_variants(main: list[int], vocab: Vocab) -> tuple[tuple[int, ...], ...]:
    """Beside each token, the others that stand for the same integer: with spaces before it, or as a byte."""
    wanted = {str(value).encode(): value for value in range(len(main))}
    found: list[list[int]] = [[token] for token in main]
    for token in range(vocab.size):
        value = wanted.get(vocab.bytes_of(token).lstrip(b" "))
        if value is not None and token not in main and not vocab.is_special(token):
            found[value].append(token)
    return tuple(map(tuple, found))


def _listed(tokenizer: PieceTokenizer, ids: tuple[int, ...]) -> str:
    return " and ".join(f"“{tokenizer.word(token)}”" for token in ids)
