"""The review queue on the page: hears what was pressed, writes it, and gives the browser the units that may come next."""

import json
from collections.abc import Mapping
from typing import Any, cast

import streamlit as st

from core.errors import AtlasError
from core.findings import review
from core.findings.review import Queue
from core.findings.reviewing import Pass, read_acts
from core.ui import login
from core.ui.component import component
from core.ui.findings_author import findings
from core.ui.prose import sentence
from core.ui.review_cards import cards, written
from core.ui.review_filters import Wanted, queue_of
from core.ui.server import Server

AHEAD, BEFORE, AFTER = 5, 1, 2
"""So many units are made ready: those to be judged next, and the neighbours in the queue, done or not."""
MOST_LABELS = 300
_PASS, _KEY = "review-pass", "review-queue"
_HTML = '<div class="review">\n</div>'


def queue_view(server: Server, wanted: Wanted) -> None:
    """The whole queue, as a fragment: a press does not run the rest of the page."""
    st.fragment(_view)(server, wanted)


def _view(server: Server, wanted: Wanted) -> None:
    login.gate_again()
    try:
        queue = queue_of(server, findings(server), wanted)
        data = _data(server, wanted, queue)
    except AtlasError as error:
        sentence(str(error))
        return

    def changed() -> None:
        told = cast(Mapping[str, Any] | None, st.session_state[_KEY].get("acts"))
        if told:
            _hear(server, wanted, told)

    component("review", _HTML, scripts=("token_rows",), styles=("tokens",))(key=_KEY, data=data, on_acts_change=changed)


def _hear(server: Server, wanted: Wanted, told: Mapping[str, Any]) -> None:
    """A callback: what was pressed is written before anything is drawn."""
    now = _pass(wanted)
    known = findings(server)
    try:
        mount, acts = read_acts(told)
        now.hear(mount, acts, known, queue_of(server, known, wanted), lambda: review.judged(server.workspace, known.author))
    except AtlasError as error:
        now.trouble = str(error)


def _data(server: Server, wanted: Wanted, queue: Queue) -> bytes:
    """What the browser is told, as JSON. Raises AtlasError."""
    known, now = findings(server), _pass(wanted)
    judged = review.judged(server.workspace, known.author)
    now.settle(queue, judged)
    ahead = now.ahead(queue, judged, AHEAD)
    around = queue.around(now.at, BEFORE, AFTER)
    chance = now.chance(queue, judged)
    names = list(dict.fromkeys(name for name in (now.at, *ahead, *around, chance) if name))
    told = {
        "queue": f"{wanted.key}:{known.author}",
        "mount": now.mount,
        "heard": now.heard,
        "at": now.at,
        "ahead": ahead,
        "around": around,
        "chance": chance,
        "done": queue.done(judged),
        "total": len(queue.names),
        "passed": len(now.passed),
        "pace": None if now.pace is None else round(now.pace),
        "trouble": now.trouble,
        "labels": known.known_labels()[:MOST_LABELS],
        "written": written(known, names),
    }
    packed = json.dumps(told, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    return packed[:-1] + b',"cards":' + cards(server, names, wanted.run) + b"}"


def _pass(wanted: Wanted) -> Pass:
    """This visit's way through the queue; another queue begins anew."""
    now: Pass | None = st.session_state.get(_PASS)
    if now is None or now.key != wanted.key:
        heard = ("", 0) if now is None else (now.mount, now.heard)
        now = st.session_state[_PASS] = Pass(wanted.key, mount=heard[0], heard=heard[1])
    return now
