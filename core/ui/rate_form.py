"""The Rate page's parts: the explanation to rate, the buttons, and what ratings say about scores."""

import time
from typing import Any

import streamlit as st

from core.autointerp.comparison import figure
from core.errors import AtlasError
from core.findings.ratings import MEANINGS, Rating, Ratings
from core.store import explanation_queries
from core.store.explanation_view import ExplanationView, load_explanation
from core.store.texts import load_vocab
from core.ui import charts, nav, rating, state, theme, words
from core.ui.explanation_pairs import pack_pairs, pairs, splits_of
from core.ui.explanation_rows import STYLE
from core.ui.prose import heading, quiet, sentence
from core.ui.rating import Rated
from core.ui.server import Server
from core.ui.starred import starred
from core.ui.tokens import View, token_view

_QUEUE, _KEY, _SINCE, _VIEW, _SAID = "rate-queue", "rate-queue-key", "rate-since", "rate-view", "rate-said"
MAX_SEED = 999_999_999
SPEARMAN_TIP = "Spearman's ρ: how far the order by rating is the order by score; 1 is the same order, 0 is none. Ties share a rank."


def choose(server: Server) -> tuple[str | None, str | None, int]:
    """What is rated: subject, simulator, and the seed of the sample. Kept in the address. Raises AtlasError for a wrong one."""
    known = explanation_queries.choices(server.cache)
    subjects, simulators = known["subjects"], known["simulators"]
    subject = state.choice("subject", "a model with explanations", subjects, subjects[0]) if subjects else None
    simulator = state.choice("simulator", "a simulator that was used", ["", *simulators], "")
    seed = state.whole("seed", "a seed", 0, MAX_SEED, 0) or 0
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(subjects) > 1:
            st.selectbox(
                "Model",
                subjects,
                subjects.index(subject or subjects[0]),
                key="rate-subject",
                on_change=_chosen,
                args=("subject", "rate-subject"),
                width=260,
            )
        if len(simulators) > 1:
            st.selectbox(
                "Simulated by", ["", *simulators], ["", *simulators].index(simulator), key="rate-simulator",
                format_func=lambda name: name or "any simulator", on_change=_chosen, args=("simulator", "rate-simulator"), width=220,
            )  # fmt: skip
        st.number_input(
            "Seed", 0, MAX_SEED, seed, key="rate-seed", on_change=_chosen, args=("seed", "rate-seed"), width=140,
            help="Which explanations are drawn, evenly over the range of scores: two people with the same seed rate the same ones.",
        )  # fmt: skip
    return subject, simulator or None, seed


def waiting_list(server: Server, subject: str | None, simulator: str | None, seed: int, given: list[Rating]) -> list[str]:
    """The explanations to rate, the next one first; drawn once a visit and whenever the choice changes."""
    key = (subject, simulator, seed)
    if st.session_state.get(_KEY) != key or not st.session_state.get(_QUEUE):
        frame = explanation_queries.headline_rhos(server.cache, subject=subject, simulator=simulator)
        seen = {one.explanation for one in given}
        st.session_state[_QUEUE] = rating.queue(frame["explanation"].tolist(), frame["rho"].tolist(), seen, seed)
        st.session_state[_KEY] = key
    return st.session_state[_QUEUE]


def nothing_to_rate() -> None:
    """What would fill this page, and the way there."""
    quiet("Nothing can be rated yet: explain units first, and what was simulated from their explanations is shown here.", small=False)
    if st.button("Explain units", type="primary"):
        nav.open_page("explain")


def body(server: Server, queue: list[str], given: list[Rating]) -> None:
    """What is to be rated beside what the ratings say; one above the other on a narrow screen."""
    st.html(STYLE)
    with st.container(key="explanation-body"):
        rows, side = st.columns([3, 2], gap="large")
        with rows:
            one_to_rate(server, queue, given)
        with side:
            results(server, given)


def one_to_rate(server: Server, queue: list[str], given: list[Rating]) -> None:
    """The first of the queue, blind, with the buttons; those that cannot be read any more are passed over."""
    if said := st.session_state.pop(_SAID, None):
        sentence(said)
    view = _next_view(server, queue)
    if view is None:
        quiet("There is nothing left in this sample: change the seed to draw another.", small=False)
        return
    rated = {one.explanation for one in given}
    done = sum(identity not in queue or identity in rated for identity in rated)
    left = sum(identity not in rated for identity in queue)
    st.html(
        f'<div class="na-bar" role="progressbar" aria-valuenow="{done}" aria-valuemax="{done + left}"><i style="width:'
        f'{100 * done / max(1, done + left):.1f}%"></i></div>'
    )
    again = " · you rated this one before" if view.identity in rated else ""
    quiet(f"{words.count(done, 'explanation')} rated, {left:,} to go in this sample{again}.")
    _buttons(server, view, given)
    split = splits_of(view)[0]
    found = pairs(view, split)
    if st.toggle("show the words too", key="rate-words", help="The sentence itself. Hidden, so that only the match is judged."):
        st.html(f'<p class="na-lead">{starred(view.text)}</p>')
    if view.text_missing:
        sentence(f"The records' text cannot be shown: {view.text_missing}")
        return
    packed = pack_pairs(view, found, load_vocab(server.workspace, view.unit.subject), blind=True)
    token_view(packed, st.session_state.get(_VIEW, View(window="all")), key="rate-tokens", on_view=_keep_view)
    since: tuple[str, float] = st.session_state.get(_SINCE, ("", 0.0))
    if since[0] != view.identity:
        st.session_state[_SINCE] = (view.identity, time.monotonic())


def results(server: Server, given: list[Rating]) -> None:
    """The figure of scores over ratings, the rank correlation, and the ratings as CSV."""
    heading("Ratings against scores", "one point an explanation, by its newest rating")
    if not given:
        quiet("After your first rating this shows, for each rating, the scores of the explanations that got it.")
        return
    rows: list[dict[str, Any]] = explanation_queries.of_identities(server.cache, [one.explanation for one in given]).to_dict("records")
    by_identity = {str(row["explanation"]): row for row in rows}
    rated = [Rated(one, by_identity.get(one.explanation)) for one in given]
    value, n = rating.agreement(rated)
    gone = sum(one.row is None for one in rated)
    said = f"Spearman {figure(value)} over {words.count(n, 'explanation')}" if value == value else f"Spearman undefined: {_why(n)}"
    lost = f" · {words.count(gone, 'rating')} of explanations that are no longer here" if gone else ""
    st.html(f'<p class="na-small na-num" style="margin:0" title="{SPEARMAN_TIP}"><b>{said}</b>{lost}</p>')
    charts.show(
        rating.chart(rated, theme.is_dark()), key="rate-chart", file="scores-over-ratings", alt="Scores of explanations over their ratings"
    )
    st.download_button("CSV", rating.to_csv(rated), "ratings.csv", "text/csv", key="rate-csv", type="tertiary", on_click="ignore")


def _buttons(server: Server, view: ExplanationView, given: list[Rating]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="rate-buttons"):
        for value, meaning in MEANINGS.items():
            st.button(
                f"{value} · {meaning}", key=f"rate-{value}", shortcut=str(value), on_click=_rate, args=(server, view.identity, view, value)
            )
        st.button("skip", key="rate-skip", shortcut="s", type="tertiary", on_click=_skip, args=(view.identity,))
        last = f"Takes back your newest rating ({given[-1].rating})" if given else None
        st.button("undo", key="rate-undo", shortcut="u", type="tertiary", on_click=_undo, args=(server,), disabled=not given, help=last)


def _next_view(server: Server, queue: list[str]) -> ExplanationView | None:
    while queue:
        try:
            view = load_explanation(server.workspace, queue[0])
            if splits_of(view):
                return view
        except AtlasError as error:
            sentence(str(error))
        queue.pop(0)
    return None


def _rate(server: Server, identity: str, view: ExplanationView, value: int) -> None:
    since: tuple[str, float] = st.session_state.get(_SINCE, ("", 0.0))
    seconds = time.monotonic() - since[1] if since[0] == identity else 0.0
    try:
        Ratings(server.workspace).add(identity, view.unit, value, seconds)
    except AtlasError as error:
        st.session_state[_SAID] = str(error)
        return
    _take(identity)


def _skip(identity: str) -> None:
    _take(identity)
    st.session_state[_QUEUE].append(identity)


def _undo(server: Server) -> None:
    try:
        taken = Ratings(server.workspace).undo()
    except AtlasError as error:
        st.session_state[_SAID] = str(error)
        return
    if taken is not None:
        _take(taken.explanation)
        st.session_state[_QUEUE].insert(0, taken.explanation)


def _take(identity: str) -> None:
    """Out of the queue, wherever it stands."""
    queue: list[str] = st.session_state.get(_QUEUE, [])
    st.session_state[_QUEUE] = [one for one in queue if one != identity]
    st.session_state.pop(_SINCE, None)


def _chosen(name: str, key: str) -> None:
    state.write(**{name: st.session_state[key] or None})


def _why(n: int) -> str:
    return "rate at least two explanations" if n < 2 else "all ratings, or all scores, are the same"


def _keep_view(view: View) -> None:
    st.session_state[_VIEW] = view
