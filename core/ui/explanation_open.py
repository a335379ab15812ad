"""One explanation opened: simulated against true as token rows, an overlay of one record, the scatter, and where it all comes from."""

import math
from collections.abc import Mapping
from typing import Any

import streamlit as st

from core.autointerp.comparison import figure
from core.errors import AtlasError
from core.store.explanation_view import ExplanationView
from core.store.recipes import flatten
from core.store.texts import load_vocab
from core.ui import charts, state, theme
from core.ui.explanation_charts import overlay, scatter
from core.ui.explanation_pairs import Pair, joint_top, pack_pairs, pairs, splits_of, tokens_csv
from core.ui.explanation_rows import interval
from core.ui.prose import facts, quiet, sentence
from core.ui.server import Server
from core.ui.tokens import View, token_view
from core.ui.unit_tables import number

_VIEW = "explanation-view"
_SPLIT, _WORST, _RECORD = "explanation-split", "explanation-worst", "explanation-record"
STATE = ("explanation", "split", "worst", "record")
"""What the address says of the explanation that is open, and of how it is shown."""


def open_view(server: Server, view: ExplanationView) -> None:
    """Records beside charts, switches above them, provenance below."""
    splits = splits_of(view)
    if not splits:
        quiet("Nothing was simulated from this explanation.", small=False)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        split = _split(splits)
        st.session_state[_WORST] = worst = state.raw("worst") == "1"
        st.toggle(
            "worst records first", key=_WORST, help="Records that failed, then those with the largest squared error.",
            on_change=lambda: state.write(worst="1" if st.session_state[_WORST] else None),
        )  # fmt: skip
        found = pairs(view, split, worst_first=worst)
        st.download_button(
            "CSV of every token", tokens_csv(view, found), f"{view.identity}.csv", "text/csv", key="explanation-csv", type="tertiary",
            on_click="ignore",
        )  # fmt: skip
    quiet(_scale_line(view, split, found))
    with st.container(key="explanation-body"):
        rows, side = st.columns([3, 2], gap="large")
        with rows:
            _rows(server, view, found)
        with side:
            _charts(view, split, found)
    with st.expander("All scores, and how they were made"):
        _scores_table(view)
        facts(dict(flatten(_recipe(view))))


def _split(splits: list[str]) -> str:
    """The split that the address names, and the switch between them where there are several."""
    asked = splits[0]
    try:
        asked = state.choice("split", "a split of this explanation", splits, splits[0])
    except AtlasError as error:
        sentence(str(error))
    if len(splits) > 1:
        st.session_state[_SPLIT] = asked
        st.segmented_control(
            "Split", splits, key=_SPLIT, required=True, on_change=lambda: state.write(split=st.session_state[_SPLIT], record=None)
        )
    return asked


def _place(found: list[Pair]) -> int:
    """The record that the address names by its number, else the first that was simulated."""
    places = [pair.place for pair in found]
    usual = next((pair.place for pair in found if not pair.view.failed), places[0])
    try:
        asked = state.whole("record", "a record of this explanation", 1, max(places) + 1, usual + 1) or usual + 1
    except AtlasError as error:
        sentence(str(error))
        return usual
    return asked - 1 if asked - 1 in places else usual


def _rows(server: Server, view: ExplanationView, found: list[Pair]) -> None:
    if view.text_missing:
        sentence(f"The records' text cannot be shown: {view.text_missing}")
        return
    try:
        vocab = load_vocab(server.workspace, view.unit.subject)
    except AtlasError as error:
        sentence(str(error))
        return
    chosen: View = st.session_state.get(_VIEW, View(window="all"))
    picked = token_view(pack_pairs(view, found, vocab), chosen, key="explanation-tokens", on_view=_keep_view)
    if picked is not None:
        state.write(record=found[picked.row // 2].place + 1)


def _charts(view: ExplanationView, split: str, found: list[Pair]) -> None:
    best = view.headline(split)
    dark = theme.is_dark()
    rho, reason = (best.score.rho, best.score.reason) if best is not None else (math.nan, "not scored")
    charts.show(
        scatter(found, rho, reason, dark), key="explanation-scatter", file=f"{view.identity}-scatter",
        alt="Simulated over true activations, one point a token",
    )  # fmt: skip
    places = [pair.place for pair in found]
    place = st.session_state[_RECORD] = _place(found)
    st.selectbox(
        "Record, token by token", places, key=_RECORD, format_func=lambda place: _named(found, place),
        on_change=lambda: state.write(record=int(st.session_state[_RECORD]) + 1),
    )  # fmt: skip
    pair = next(pair for pair in found if pair.place == place)
    charts.show(
        overlay(pair, dark), key="explanation-overlay", file=f"{view.identity}-record-{place + 1}",
        alt=f"Record {place + 1}: true and simulated activation on each token, and the residual",
    )  # fmt: skip


def _scale_line(view: ExplanationView, split: str, found: list[Pair]) -> str:
    """What the colours and the joint scale mean, and how many records failed."""
    top = joint_top(view, split)
    scale = "amber: true; teal: simulated"
    if any(pair.view.scale == "tenths" for pair in found):
        scale += f"; a simulated 10 stands for {number(top, top)}, the largest true activation of these records"
    failed = sum(bool(pair.view.failed) for pair in found)
    if failed:
        scale += f"; {failed} of {len(found)} records could not be simulated (hatched)"
    calibration = {one.calibration for one in view.scores if one.role == "simulated" and one.split == split} - {"none"}
    if calibration:
        scale += f"; shown before the {', '.join(sorted(calibration))} calibration that the score is made with"
    return f"{scale}."


def _named(found: list[Pair], place: int) -> str:
    pair = next(pair for pair in found if pair.place == place)
    said = "failed" if pair.view.failed else f"ρ {figure(pair.rho)}"
    return f"record {place + 1} · {pair.view.origin} · {pair.view.split} · {said}"


def _scores_table(view: ExplanationView) -> None:
    """Every score that is kept of it, controls included."""
    lines: list[Mapping[str, Any]] = [
        {
            "what": one.role,
            "records": one.score.kind,
            "split": one.split,
            "ρ": figure(one.score.rho),
            "95 % interval": interval(one.score.low, one.score.high),
            "R²": figure(one.score.r2),
            "abs. deviation explained": figure(one.score.explained),
            "mean ρ of a record": figure(one.score.record_rho),
            "tokens": one.score.n_tokens,
            "coverage": f"{one.score.coverage:.0%}",
            "simulator": one.simulator,
            "calibration": one.calibration,
            "undefined because": one.score.reason,
            "words": one.said,
        }
        for one in view.scores
    ]
    st.dataframe(lines, hide_index=True, key="explanation-scores")


def _recipe(view: ExplanationView) -> dict[str, Any]:
    return {
        "explanation": view.identity, "index": view.index, "explainer": view.explainer, "author": view.author, "step": view.step,
        "contexts shown to the explainer": list(view.train), "setting": view.settings, "recipe": view.recipe,
        "made with": next((one.recipe for one in view.scores if one.role == "simulated"), {}), "seconds": round(view.seconds, 2),
        "provenance": view.provenance,
    }  # fmt: skip


def _keep_view(view: View) -> None:
    """The switches over these rows are the session's, not the address's: those there belong to the unit's records."""
    st.session_state[_VIEW] = view
