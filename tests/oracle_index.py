"""An endpoint that knows every unit of a synthetic index: it explains by name and simulates by the truth, completions and chats alike."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.store.texts import load_slice, load_vocab
from core.units import Site
from core.workspace import Workspace
from tests.llm_endpoint import Body, chat_reply
from tests.scripted_llm import Oracle, unescape
from tests.synthetic import Recipe, activations, write_synthetic_index

_NAMED = re.compile(r"unit (\d+) of layer (\d+)")
_ROW = re.compile(r"^(.*)\t(\d+)$", re.MULTILINE)
_RECORD = re.compile(r"<start>\n(.*?)<end>", re.DOTALL)


def naming(unit: int, layer: int) -> str:
    """The explanation that the oracle gives of a unit and understands."""
    return f"what makes unit {unit} of layer {layer} fire"


class KnowingOracle:
    """Simulates from an explanation that `naming` made with the unit's own activations, as tenths of its maximum, those below 0 as 0.

    Asked to explain records, it names the unit whose activations on these tokens agree best. Makes the index it knows in `workspace`.
    """

    def __init__(self, workspace: Workspace, recipe: Recipe) -> None:
        write_synthetic_index(
            workspace, n_layers=recipe.n_layers, width=recipe.width, contexts=recipe.contexts, length=recipe.length, signed=recipe.signed,
            seed=recipe.seed, hostile=recipe.hostile,
        )  # fmt: skip
        vocab = load_vocab(workspace, "tiny")
        [folder] = workspace.corpora.iterdir()
        text = load_slice(workspace, folder.name)
        # Of a text that comes twice (some have two tokens) the first is meant.
        self._ranks: dict[tuple[str, ...], int] = {}
        for rank in range(len(text)):
            self._ranks.setdefault(tuple(vocab.pieces(text.of(rank)[1:].tolist())), rank)
        grids = (np.maximum(np.nan_to_num(activations(recipe, Site("mlp", layer))), 0)[:, 1:] for layer in range(recipe.n_layers))
        self._tenths = [grid / np.maximum(grid.max(axis=(0, 1)), 1e-9) * 10 for grid in grids]
        self._oracle = Oracle(self.knows)
        self.explained = 0

    def knows(self, explanation: str, pieces: tuple[str, ...]) -> Sequence[float]:
        """The activations on a text of the index, 0 to 10; zeros for words that name no unit."""
        named = _NAMED.search(explanation)
        if named is None:
            return [0.0] * len(pieces)
        return self._tenths[int(named[2])][self._ranks[pieces], : len(pieces), int(named[1])].tolist()

    def answer(self, body: Body) -> Body:
        """What `LlmEndpoint` asks."""
        last: Any = None if "prompt" in body else body["messages"][-1]["content"]
        if last is None or "\nTokens: " in last:
            return self._oracle.answer(body)
        self.explained += 1
        return chat_reply(f" {self._explain(last.partition('Once more')[0])}.", body=body)

    def _explain(self, prompt: str) -> str:
        records = [[(unescape(piece), int(value)) for piece, value in _ROW.findall(block)] for block in _RECORD.findall(prompt)]
        best, found = -1.0, (0, 0)
        shown = np.array([value for record in records for _, value in record], float)
        shown -= shown.mean()
        for layer, tenths in enumerate(self._tenths):
            known = np.concatenate([tenths[self._ranks[tuple(piece for piece, _ in record)], : len(record)] for record in records])
            known = known - known.mean(axis=0)
            agreement = (shown @ known) / np.maximum(np.linalg.norm(known, axis=0), 1e-9)
            unit = int(np.argmax(agreement))
            if agreement[unit] > best:
                best, found = float(agreement[unit]), (unit, layer)
        return naming(*found)
