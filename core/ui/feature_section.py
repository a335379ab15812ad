"""The Unit page's section “Tokens by activation”, for a feature: the token histogram of Cunningham et al. 2023."""

import csv
import io
from typing import get_args

import streamlit as st

from core.errors import AtlasError
from core.store.units import UnitView
from core.ui import charts, state
from core.ui.bars import Table, bar_tables, pack_tables
from core.ui.feature_charts import Counts, token_colours, token_figure
from core.ui.feature_tables import FeatureData, not_kept, token_lines, token_rows
from core.ui.prose import sentence
from core.ui.unit_tables import file_name, token_name

PARAMETER = "counts"
"""In the address: how the bars are drawn."""
_USUAL: Counts = "linear"
_CHOICES: dict[Counts, str] = {"linear": "counts", "log": "log counts", "share": "shares"}
_TITLE = "Tokens by activation"
_HELP = (
    "Every token of the text on which the feature is not zero, in ten equal bins from zero to its largest activation, by which token it "
    "is: the five most frequent and all others (Cunningham et al. 2023, who draw at most 5,000). A feature of one meaning shows the same "
    "few tokens from the right end to the left. Shares make each bin as high as the next; on the log scale only the tops can be read."
)


def token_section(view: UnitView, data: FeatureData) -> None:
    """Heading with the key, the figure, and what can be chosen and saved."""
    counted = data.histogram
    if counted is None or not len(counted.tokens):
        empty = not_kept(view) if counted is None else "The feature is active on no token of the text."
        bar_tables(pack_tables([Table(_TITLE, help=_HELP, note="every token counted", empty=empty)]), key="feature-tokens-head")
        return
    colours = token_colours(counted.tracked)
    total = int(counted.totals.sum())
    note = f"every token counted: {total:,}"
    bar_tables(pack_tables([Table(_TITLE, note, _HELP, [token_lines(data, colours)])]), key="feature-tokens-head")
    names = [token_name(text) for text in data.texts[: counted.tracked]]
    charts.show(
        token_figure(counted, names, _asked()),
        key="feature-tokens",
        file=file_name(view, "tokens").removesuffix(".csv"),
        alt=f"Tokens on which {view.name} is active, by activation: {', '.join(names)} and others",
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="feature-tokens-choice"):
        st.segmented_control(
            "Bars", list(_CHOICES), key="feature-counts", format_func=_CHOICES.__getitem__, required=True, label_visibility="collapsed",
            on_change=_chosen,
        )  # fmt: skip
        st.download_button(
            "Save as CSV", lambda: to_csv(data), file_name(view, "tokens"), "text/csv", on_click="ignore", type="tertiary",
            help="Every token with its count in every bin",
        )  # fmt: skip


def to_csv(data: FeatureData) -> bytes:
    """Every token with its count in every bin, as UTF-8 with every text quoted."""
    sink = io.StringIO()
    csv.writer(sink, quoting=csv.QUOTE_NONNUMERIC).writerows(token_rows(data))
    return sink.getvalue().encode("utf8", "backslashreplace")


def _asked() -> Counts:
    """What the address asks for; a sentence and the usual when it is none of the choices."""
    how: Counts = _USUAL
    try:
        how = next(one for one in get_args(Counts) if one == state.choice(PARAMETER, "a way to draw the bars", list(_CHOICES), _USUAL))
    except AtlasError as error:
        sentence(str(error))
    st.session_state["feature-counts"] = how
    return how


def _chosen() -> None:
    how: Counts = st.session_state["feature-counts"]
    state.write(**{PARAMETER: None if how == _USUAL else how})
