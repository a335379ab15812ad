"""What Scores is asked to show: read from the address, checked, and turned into the arguments of the queries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd
import streamlit as st

from core.autointerp.scoring import KINDS
from core.autointerp.studies import STUDIES
from core.store.explanation_queries import by_layer, scored
from core.ui.address_fields import AddressFields
from core.ui.explain_estimate import title
from core.ui.explain_settings import KIND_HELP
from core.ui.explore_filters import parse_layers
from core.ui.server import Server

ALL = ""
MOST_LAYERS = 10_000
NAMES = ("subject", "run", "explainer", "simulator", "kind", "layer")


@dataclass(frozen=True)
class ScoreFilters:
    """Whose scores, of which kind. source: a run's id, `study:NAME`, or empty for all. layers: None for all."""

    subject: str
    source: str
    explainer: str
    simulator: str
    kind: str
    layers: tuple[int, ...] | None

    def _shared(self) -> dict[str, Any]:
        study = self.source.removeprefix("study:") if self.source.startswith("study:") else None
        return {
            "subject": self.subject,
            "explainer": self.explainer or None,
            "simulator": self.simulator or None,
            "kind": self.kind,
            "run": self.source if self.source and study is None else None,
            "study": study,
        }

    def by_layer(self, server: Server) -> pd.DataFrame:
        """Scores by site and role, over each unit's best explanation."""
        frame = by_layer(server.cache, **self._shared())
        return frame if self.layers is None else cast(pd.DataFrame, frame[frame["layer"].isin(self.layers)])

    def scored(self, server: Server, **how: Any) -> tuple[pd.DataFrame, int]:
        """Explanations with their scores. how: further arguments of `explanation_queries.scored`."""
        return scored(server.cache, **self._shared(), layers=self.layers, **how)


def score_filters(server: Server, known: Mapping[str, list[str]], runs: pd.DataFrame) -> ScoreFilters:
    """Show the fields. known: what `explanation_queries.choices` gives, with at least one subject. Raises AtlasError for a wrong value."""
    fields = AddressFields("scores", resets=("page",))
    names = {str(row["run"]): _run_name(server, row) for row in runs.to_dict("records")}
    studies = {f"study:{name}": f"study: {STUDIES[name].title if name in STUDIES else name}" for name in known["studies"]}
    sources = {ALL: "all runs", **studies, **names}
    with st.container(key="filters"):
        places = st.columns([1.9, 2.2, 1.3, 1.2, 1.4, 0.9], vertical_alignment="bottom")
        with places[0]:
            subject = fields.choice(
                "subject", "Subject", known["subjects"], known["subjects"][0], help="The model whose units are explained."
            )
        with places[1]:
            source = fields.choice("run", "Run or study", list(sources), ALL, names=sources.__getitem__)
        with places[2]:
            explainer = fields.choice("explainer", "Explainer", [ALL, *known["explainers"]], ALL, names=_or_all)
        with places[3]:
            simulator = fields.choice("simulator", "Simulator", [ALL, *known["simulators"]], ALL, names=_or_all)
        with places[4]:
            usual = next((kind for kind in KINDS if kind in known["kinds"]), KINDS[0])
            kind = fields.choice("kind", "Kind of score", KINDS, usual, help=KIND_HELP)
        with places[5]:
            layers = fields.text("layer", "Layers", hint="0-5")
    fields.check()
    return ScoreFilters(subject, source, explainer, simulator, kind, parse_layers(layers, MOST_LAYERS))


def _or_all(value: str) -> str:
    return value or "all"


def _run_name(server: Server, row: Mapping[Any, Any]) -> str:
    run = next((run for run in server.registry.list() if run.id == str(row["run"])), None)
    about = title(run.params) if run is not None else f"{int(row['units']):,} units"
    return f"{about} · {row['run']}"
