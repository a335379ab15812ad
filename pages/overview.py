"""Overview: what this workspace holds, the model by layer, and a few units worth a look."""

import random
from typing import NamedTuple

import pandas as pd
import streamlit as st

from core.errors import AtlasError, shown
from core.store import picks, queries
from core.store.catalog import IndexInfo
from core.ui import charts, nav, state, words
from core.ui.index_choice import chosen_index, describe, generations, pick_index, ready
from core.ui.layer_charts import MEASURES, clicked_layer, layer_figure, measured
from core.ui.prose import heading, lead, quiet, sentence
from core.ui.run_list import progress_html
from core.ui.setup import refuse, setup
from core.ui.unit_frames import rows_from
from core.ui.unit_rows import unit_rows
from core.units import NEURONS

WORTH = 8
MAX_SEED = 999_999_999
LIVE_SECONDS = 2.0

server = setup()
st.title("Overview")
if nav.nowhere():
    sentence(f"There is no page “{shown(nav.nowhere())}”; this is the Overview.")


class Drawn(NamedTuple):
    """What kept results depend on: the workspace, the run, the generation that the cache holds, and when the run published last."""

    workspace: str
    run: str
    generation: int
    written: float


@st.cache_data(max_entries=32, show_spinner=False)
def kept_picks(drawn: Drawn, seed: int) -> pd.DataFrame:
    """Kept while the index does not change."""
    return picks.worth_a_look(server.cache, drawn.run, seed, WORTH)


@st.cache_data(max_entries=32, show_spinner=False)
def kept_layers(drawn: Drawn) -> pd.DataFrame:
    return queries.layers(server.cache, drawn.run)


def drawn_from(index: IndexInfo) -> Drawn:
    return Drawn(str(server.workspace.path), index.run, generations(server)[index.run][0], index.written)


def holdings(index: IndexInfo) -> None:
    others = [other for other in ready(server) if other.run != index.run]
    lead(f"{describe(index)}.")
    if others:
        quiet("Also here: " + "; ".join(map(describe, others[:6])) + ".")


def under_way(run: str, drawn: tuple[int, str]) -> None:
    """Runs at work; when more of this index has been taken in, the page is drawn again."""
    active = server.registry.list(active=True)
    for each in active:
        st.html(progress_html(each, server.registry))
    if generations(server).get(run, drawn) != drawn or not (active or behind(run)):
        st.rerun()


def behind(run: str) -> bool:
    """Whether the run has published more than the cache has taken in."""
    return any(each.run == run and (each.generation, each.state) != generations(server).get(run) for each in ready(server))


def worth_a_look(index: IndexInfo, seed: int) -> None:
    what = "Neurons" if index.basis == NEURONS else "Features"
    heading(f"{what} worth a look", "chosen by statistics, spread over the layers")
    frame = kept_picks(drawn_from(index), seed)
    if frame.empty:
        quiet("None stands out yet: more text is needed. Explore lists all units.", small=False)
        return
    click = unit_rows(rows_from(frame, state.raw("run"), numbers=False), key="worth")
    if click is not None:
        nav.open_unit(click.value, state.raw("run"))
    if st.button("Show others"):
        state.write(seed=random.randrange(1, MAX_SEED))
        st.rerun()


def by_layer(index: IndexInfo) -> None:
    kinds = sorted({site.kind for site in index.published})
    kind = state.choice("kind", "a kind of site in this index", kinds, "mlp" if "mlp" in kinds else kinds[0])
    if len(kinds) > 1:
        st.session_state["overview_kind"] = kind
        st.segmented_control(
            "Site", kinds, key="overview_kind", required=True, on_change=lambda: state.write(kind=st.session_state["overview_kind"])
        )
    spread = kept_layers(drawn_from(index))
    dead = sum(int(row["dead"]) for row in measured(spread, kind, MEASURES[-1]))
    for measure in MEASURES:
        heading(f"{measure.title} by layer", measure.note)
        rows = measured(spread, kind, measure)
        if not rows:
            quiet("Not defined for any unit yet.")
            continue
        event = charts.show(
            layer_figure(rows, measure), key=f"layers_{measure.key}_{kind}", file=f"{kind}-{measure.key}-by-layer", clicks=True,
            alt=f"{measure.title} of {kind} units by layer: median and quantile bands",
        )  # fmt: skip
        layer = clicked_layer(event)
        if layer is not None:
            query = {"layer": str(layer), "sort": "-max" if measure.key == "max" else "-kurtosis", "run": state.raw("run")}
            nav.open_page("explore", {name: value for name, value in {**query, "kind": kind if len(kinds) > 1 else ""}.items() if value})
    silent = f" {words.count(dead, 'unit is', 'units are')} never active in this text." if dead else ""
    quiet(f"Line: the middle unit of a layer. Inner band: half of them. Outer band: nine in ten. Click a layer to list its units.{silent}")


index = chosen_index(server)
pick_index(server, index, forget=("seed", "kind"))
holdings(index)
if server.registry.list(active=True) or behind(index.run):
    st.fragment(under_way, run_every=LIVE_SECONDS)(index.run, generations(server)[index.run])
try:
    seed = state.whole("seed", "a seed", 0, MAX_SEED, 0) or 0
    text, pictures = st.columns([3, 2], gap="large")
    with text:
        worth_a_look(index, seed)
    with pictures:
        by_layer(index)
except AtlasError as error:
    refuse(str(error))
