"""What a run of puzzles is asked for, as it stands in its params.json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

from core.autointerp.puzzles import Puzzle, built_in, parse_puzzles
from core.autointerp.request import ExplainerChoice, SimulatorChoice
from core.errors import AtlasError, shown

EXPLAINER = "token-activation"
"""The explainer that reads records alone, which is all that a puzzle has."""


@dataclass(frozen=True)
class PuzzleRequest:
    """simulator: who is checked. explainer: checked, too, if named. own: puzzles as `Puzzle.to_json` writes them; empty for the built-in
    ones. budget: as of `ExplainRequest`."""

    simulator: SimulatorChoice
    explainer: ExplainerChoice | None = None
    own: Sequence[Mapping[str, Any]] = ()
    budget: Mapping[str, float] | None = None

    @property
    def asks_over_http(self) -> bool:
        """Whether any model of it is asked over HTTP."""
        endpoints = (self.simulator.endpoint, None if self.explainer is None else self.explainer.endpoint)
        return any(endpoint is not None and not endpoint.in_process for endpoint in endpoints)

    def to_params(self) -> dict[str, Any]:
        return {
            "simulator": self.simulator.to_json(),
            "explainer": None if self.explainer is None else self.explainer.to_json(),
            "own": [dict(one) for one in self.own],
            "budget": None if self.budget is None else dict(self.budget),
        }

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "PuzzleRequest":
        """Raises AtlasError naming what is wrong."""
        unknown = sorted(set(params) - {field.name for field in fields(cls)})
        if unknown:
            raise AtlasError(f"A run of puzzles has no parameter “{shown(unknown[0])}”: leave it out.")
        explainer = params.get("explainer")
        made = cls(
            SimulatorChoice.from_json(params.get("simulator") or {}, "simulator").checked(),
            None if explainer is None else ExplainerChoice.from_json(explainer, "explainer").checked(),
            cast(Sequence[Mapping[str, Any]], params.get("own") or ()),
            cast(Any, params.get("budget")),
        )
        return made.checked()

    def checked(self) -> "PuzzleRequest":
        """Raises AtlasError."""
        if self.simulator.name in ("lookup",):
            raise AtlasError("A puzzle has no token table: choose a simulator that reads words.")
        if self.explainer is not None and self.explainer.name != EXPLAINER:
            raise AtlasError(f"Only {EXPLAINER} can be checked on puzzles: the other explainers need an index.")
        self.puzzles()
        return self

    def puzzles(self) -> list[Puzzle]:
        """The puzzles to check on. Raises AtlasError for own ones that are not right."""
        if not self.own:
            return built_in()
        return parse_puzzles(json.dumps({"puzzles": list(self.own)}).encode(), "own puzzles")
