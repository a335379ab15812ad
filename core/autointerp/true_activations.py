"""A unit's true activations on texts that nobody has read before: asked of the warm model process, so that no torch is needed here."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

from core.autointerp.explanation import Floats
from core.runs import client
from core.store.texts import load_vocab
from core.units import UnitName
from core.workspace import Workspace

SECONDS = 120.0
Read = Callable[[list[str]], Awaitable[list[tuple[tuple[str, ...], Floats]]]]


def reader(workspace: Workspace, unit: UnitName, run: str) -> Read:
    """A function from texts to (pieces, activations) of each. It raises AtlasError when the model process cannot answer."""
    vocab = load_vocab(workspace, unit.subject)

    def one(text: str) -> tuple[tuple[str, ...], Floats]:
        answer = client.call(workspace, "unit_on_text", SECONDS, unit=str(unit), run=run, text=text)
        return tuple(vocab.pieces(answer["tokens"])), np.array(answer["activations"], np.float64)

    async def read(texts: list[str]) -> list[tuple[tuple[str, ...], Floats]]:
        return [await asyncio.to_thread(one, text) for text in texts]

    return read
