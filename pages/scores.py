"""Scores: how well explanations predict, by layer and against the controls; the best and the worst to read; all of them to search."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from core.errors import AtlasError
from core.store.explanation_queries import choices, runs
from core.ui import charts, nav, state, words
from core.ui.explain_settings import RHO
from core.ui.explained_list import explained_list, plain_list
from core.ui.index_choice import ready, waiting
from core.ui.prose import heading, lead, quiet, sentence
from core.ui.score_charts import against_lookup, clicked_point, layer_boxes
from core.ui.score_filters import NAMES, ScoreFilters, score_filters
from core.ui.scored_rows import Record, frame_csv, has_number, query
from core.ui.server import Server
from core.ui.setup import setup

POINTS = 3000
ENDS = 6
"""How many of the best and of the worst are shown."""


def nothing_yet(server: Server) -> None:
    lead("Nothing has been scored yet. An explanation is scored by how well a simulator predicts the unit's activations from its words.")
    if not server.read_only and st.button("Explain units"):
        nav.open_page("explain")


def forget() -> None:
    state.write(**dict.fromkeys((*NAMES, "q", "page", "sort")))


def summary(rows: Sequence[Record]) -> None:
    """Counts in one line: units, undefined scores, evidence."""
    own = [row for row in rows if row["role"] == "simulated"]
    total, defined = sum(int(row["n"]) for row in own), sum(int(row["defined"]) for row in own)
    judged = sum(int(row["n"]) for row in rows if row["role"] == "shuffled")
    parts = [f"{words.count(total, 'unit')} scored, each by its best explanation"]
    if total > defined:
        parts.append(f"{total - defined:,} undefined: left out of the pictures, never zero")
    if judged:
        parts.append(f"{sum(int(row['evidence']) for row in own):,} of {judged:,} stand out from their shuffled control")
    else:
        parts.append("no shuffled control was made")
    lead("; ".join(parts) + ".")


def pictures(server: Server, asked: ScoreFilters, layers: pd.DataFrame) -> None:
    left, right = st.columns([3, 2], gap="large")
    with left:
        heading("ρ by layer", "box: the middle half of the units; whiskers: nine in ten")
        rows = sorted(layers.to_dict("records"), key=lambda row: (str(row["site_kind"]), int(row["layer"])))
        if any(int(row["defined"]) for row in rows):
            charts.show(
                layer_boxes(rows), key="score_layers", file="scores-by-layer",
                alt="ρ by layer: quantiles of the score, the lookup baseline and the shuffled control",
            )  # fmt: skip
        else:
            quiet("No score here has a number: each is undefined, for the reason that the list below gives.", small=False)
        st.download_button(
            "Save as CSV",
            lambda: frame_csv(layers),
            "scores-by-layer.csv",
            "text/csv",
            on_click="ignore",
            type="tertiary",
            key="layers_csv",
        )
    with right:
        heading("ρ against the token lookup table", "above the line: more than a list of tokens")
        scatter(server, asked)


def scatter(server: Server, asked: ScoreFilters) -> None:
    frame, total = asked.scored(server, best_only=True, limit=POINTS)
    points = [row for row in frame.to_dict("records") if has_number(row, "rho") and has_number(row, "lookup_rho")]
    if not points:
        quiet("No explanation here has both a score and a lookup baseline: start a run with that control.", small=False)
        return
    event = charts.show(
        against_lookup(points), key="score_lookup", file="scores-against-lookup", clicks=True,
        alt="ρ of each explanation against that of the token lookup table",
    )  # fmt: skip
    above = sum(float(row["rho"]) > float(row["lookup_rho"]) for row in points)
    of = f"the best {POINTS:,} of {total:,}" if total > POINTS else f"{len(points):,}"
    quiet(f"{above:,} of {of} lie above. Hollow: no evidence against the shuffled control. Click a point to open its unit.")
    place = clicked_point(event)
    if place is not None and place < len(points):
        nav.open_page("unit", query(points[place]))


def ends(server: Server, asked: ScoreFilters) -> None:
    """The best and the worst, to read beside the text on which their units are strongest."""
    best, total = asked.scored(server, best_only=True, limit=ENDS)
    worst, _ = asked.scored(server, best_only=True, limit=ENDS, descending=False)
    top = [row for row in best.to_dict("records") if has_number(row, "rho")]
    seen = {row["explanation"] for row in top}
    bottom = [row for row in worst.to_dict("records") if has_number(row, "rho") and row["explanation"] not in seen]
    heading("Best explained", f"the highest ρ of {words.count(total, 'unit')}")
    plain_list(server, top, key="best")
    if bottom:
        heading("Worst explained", "the lowest ρ")
        plain_list(server, bottom, key="worst")


def search(server: Server, asked: ScoreFilters) -> None:
    heading("All explanations", "those without a number come last")
    st.session_state["scores_q"] = state.raw("q")[:200]
    st.text_input(
        "Search in the explanations", key="scores_q", placeholder="any text", max_chars=200,
        on_change=lambda: state.write(q=st.session_state["scores_q"] or None, page=None),
    )  # fmt: skip
    text = state.phrase("q", "search", 200)
    explained_list(
        server,
        lambda **how: asked.scored(server, text=text or None, with_failed=True, **how),
        key="all_scores",
        file=f"{asked.subject}-scores.csv",
        none="No explanation says that. Shorten the search.",
    )


server = setup()
st.title("Scores", help=RHO)
known = choices(server.cache)
if not known["subjects"]:
    if not ready(server):
        waiting(server)
    else:
        nothing_yet(server)
    st.stop()
try:
    asked = score_filters(server, known, runs(server.cache))
    layers = asked.by_layer(server)
    if layers.empty:
        sentence("No score fits. Choose another run, kind or layer, or show all scores again.")
        st.button("Show all scores", on_click=forget)
    else:
        summary(layers.to_dict("records"))
        pictures(server, asked, layers)
        ends(server, asked)
        search(server, asked)
except AtlasError as error:
    sentence(str(error))
    st.button("Show all scores", on_click=forget)
