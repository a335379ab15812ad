"""Asking for explanations of one unit: what each button submits, and how the runs it started are doing."""

import html
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import streamlit as st

from core.autointerp.cost import cost, record_tokens
from core.autointerp.request import CONTROLS, NEED_MODEL, Control, ExplainerChoice, ExplainRequest, Setting, SimulatorChoice
from core.autointerp.scoring import KINDS, Kind
from core.autointerp.splits import SPLITS
from core.errors import AtlasError
from core.runs.registry import Run, fingerprint_of
from core.store.catalog import IndexInfo
from core.store.explanation_queries import study
from core.store.explanation_view import ExplanationView
from core.ui import explain_choices as choices
from core.ui import state
from core.ui.explanation_rows import KIND_TIPS, SPLIT_TIPS
from core.ui.prose import quiet, sentence
from core.ui.run_list import progress_line
from core.ui.server import Server
from core.units import UnitName

AGAIN, MINE, REVISE, ELSEWHERE = "Explain again", "Write my own", "Revise this one", "Score this one on other records"
ACTION = "explain-action"
_NEW = "explain-new"
_STARTED = "explain-started"
_SAID = "explain-said"
_HAND_HELP = (
    "Scored like any other. Put the words it is about between stars to score it without a language model, and after them, if you like, how "
    "strong they are, 0 to 10: `*might/could* 10, *may* 4`; a slash within a word is `\\/`. A language model as simulator reads the whole "
    "sentence."
)
_SAYS_WORDS = ("sentence", "pattern", "chat", "completions", "local")
"""Simulators for words that carry no pattern."""
T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """The unit that a form is about, and the index that its records come from. run: the index's run if the address chose it, else empty."""

    unit: UnitName
    index: IndexInfo
    run: str

    @property
    def tokens(self) -> int:
        """Of a record, BOS not counted."""
        return record_tokens(self.index.slice)


def ask_form(server: Server, target: Target, action: str, opened: ExplanationView | None) -> None:
    """The fields of one action, what it will cost, and its button."""
    try:
        setting = _setting(server, target.unit, action, opened)
        request = ExplainRequest((target.unit,), (replace(setting, index=target.run).asked(),))
    except AtlasError as error:
        quiet(str(error))
        st.button(_verb(action), key="explain-go", disabled=True)
        return
    if setting.explainer.name in NEED_MODEL and setting.simulator.endpoint is None:
        quiet("Without a language model only words between *stars* are simulated, which models rarely write: choose structured chat.")
    quiet(str(cost(request, target.tokens)))
    st.button(_verb(action), key="explain-go", type="primary", on_click=submit, args=(server, target, request))


def quick_button(server: Server, target: Target) -> None:
    """Explain with the pattern explainer: nothing to choose and nothing to pay."""
    request = ExplainRequest((target.unit,), (Setting(index=target.run),))
    st.button("Explain this unit", key="explain-quick", type="primary", on_click=submit, args=(server, target, request))


def submit(server: Server, target: Target, request: ExplainRequest) -> None:
    """A button's callback: queue a run in the lane of what people wait for, unless the very same is done already."""
    try:
        params = request.to_params()
        ExplainRequest.from_params(params)
        done = _done_before(server, target, params)
        if done is not None:
            st.session_state[_SAID] = f"Exactly this was done before ({done.id}): its explanation is in the list."
            return
        run = server.registry.submit("explain", params, lane="interactive")
        server.ensure_worker()
    except AtlasError as error:
        st.session_state[_SAID] = str(error)
    else:
        mine = started(target.unit)
        if run.id not in mine:
            mine.append(run.id)
        st.session_state[ACTION] = None
        st.session_state[_NEW] = True


def follow_new() -> None:
    """After a run was started: draw the whole page, so that its progress is shown."""
    if st.session_state.pop(_NEW, False):
        st.rerun(scope="app")


def started(unit: UnitName) -> list[str]:
    """The runs that this session started for a unit, the first first."""
    by_unit: dict[str, list[str]] = st.session_state.setdefault(_STARTED, {})
    return by_unit.setdefault(str(unit), [])


def said() -> None:
    """Why the last button did nothing, said once."""
    if text := st.session_state.pop(_SAID, None):
        sentence(text)


def runs_of(server: Server, unit: UnitName) -> list[Run]:
    """What is shown of runs for this unit: those queued or running, and of those started here the ones that failed or were cancelled."""
    mine = started(unit)
    found = [run for run in server.registry.list(active=True) if _concerns(run, unit)]
    for name in mine:
        if all(run.id != name for run in found):
            try:
                run = server.registry.get(name)
            except AtlasError:
                continue  # deleted meanwhile
            if run.resumable:
                found.append(run)
    return sorted(found, key=lambda run: run.created)


def take_in_finished(server: Server, unit: UnitName) -> None:
    """Take in what runs started here have finished since, should one have ended before anybody looked."""
    for name in list(started(unit)):
        try:
            ended = server.registry.get(name).state == "done"
        except AtlasError:
            ended = True  # deleted meanwhile
        if ended:
            server.ingest()
            started(unit).remove(name)


def run_row(server: Server, run: Run, unit: UnitName) -> None:
    """One run: what it does, how far it is, its failure, and what can be done."""
    done = min(1.0, run.done / run.total) if run.total else 0.0
    bar = f'<div class="na-bar"><i style="width:{100 * done:.1f}%"></i></div>' if run.active else ""
    with st.container(horizontal=True, vertical_alignment="center", key=f"explain-run-{run.id}"):
        st.html(
            f'<div class="na-run" role="status"><div class="na-run-head"><b>{html.escape(title(run))}</b>'
            f'<span class="na-state {run.state}">{run.state}</span>'
            f'<span class="na-muted na-small na-num">{html.escape(progress_line(run, server.registry))}</span></div>{bar}</div>'
        )
        if run.active and not server.read_only:
            st.button("cancel", key=f"explain-cancel-{run.id}", disabled=run.cancel_requested, on_click=_cancel, args=(server, run.id))
        elif not server.read_only:
            st.button("try again", key=f"explain-retry-{run.id}", on_click=_retry, args=(server, run.id))
            st.button("dismiss", key=f"explain-dismiss-{run.id}", type="tertiary", on_click=_dismiss, args=(unit, run.id))
    if run.error:
        sentence(run.error)


def title(run: Run) -> str:
    """What a run of explaining does, in a few words: “chat simulates what pattern explained”."""
    settings: list[dict[str, Any]] = run.params.get("settings") or [{}]
    explainer, simulator = settings[0].get("explainer", {}), settings[0].get("simulator", {})
    names = {"by-hand": "your own words", "given": "an explanation again"}
    what = names.get(explainer.get("name", ""), f"{explainer.get('name', '')} explanation")
    arm = f", {settings[0]['arm']}" if settings[0].get("arm") else ""
    units = len(run.params.get("units", []))
    many = f" of {units:,} units" if units > 1 else ""
    return f"{what}{many}{arm}, simulated by {simulator.get('name', '')}"


def deletable(server: Server, view: ExplanationView, total: int) -> bool:
    """Whether the explanation is one that a person wrote, alone in its run. total: explanations of the run."""
    return view.explainer == "by-hand" and view.author == "by hand" and total == 1 and not _active(server, view.run)


def delete(server: Server, view: ExplanationView) -> None:
    """Delete the run of a person's own explanation."""
    try:
        server.registry.delete(view.run)
        server.cache.ingest()
    except AtlasError as error:
        st.session_state[_SAID] = str(error)
    state.write(explanation=None)


def _setting(server: Server, unit: UnitName, action: str, opened: ExplanationView | None) -> Setting:
    """What the fields say, all of them drawn even when one is incomplete. Raises AtlasError saying what is missing first."""
    missing: list[AtlasError] = []

    def drawn(make: Callable[[], T]) -> T | None:
        try:
            return make()
        except AtlasError as error:
            missing.append(error)
            return None

    arm = choices.arm_field("explain") if action == REVISE else None
    named = drawn(lambda: _explainer(server, unit, action, opened))
    explainer = named or ExplainerChoice()
    names = {MINE: _SAYS_WORDS, REVISE: tuple(name for name in _SAYS_WORDS if name != "pattern")}.get(action)
    fields = partial(
        choices.simulator_fields,
        server,
        "explain",
        same=explainer.endpoint,
        waits=named is None and action != MINE,
        usual="chat" if explainer.endpoint else "pattern",
    )
    simulator = drawn(lambda: fields(names=names) if names else fields()) or SimulatorChoice()
    restated = explainer.endpoint is not None or simulator.endpoint is not None
    setting = drawn(lambda: scoring_fields(simulator, restated=restated, split=action != REVISE, test=action == ELSEWHERE))
    if missing or setting is None:
        raise missing[0]
    return replace(setting, explainer=explainer, arm=arm)


def _explainer(server: Server, unit: UnitName, action: str, opened: ExplanationView | None) -> ExplainerChoice:
    if action == AGAIN:
        return choices.explainer_fields(server, "explain")
    if action == MINE:
        text = st.text_area(
            "Your sentence",
            key=f"explain-mine-{unit}",
            max_chars=2000,
            height=80,
            help=_HAND_HELP,
            placeholder="Fires on *might*, *could* …",
        )
        if not text.strip():
            raise AtlasError("Write a sentence about the unit.")
        return ExplainerChoice("by-hand", text=text.strip()).checked()
    if opened is None:
        raise AtlasError("Open an explanation first.")
    endpoint = choices.endpoint_fields(server, "explain-explainer") if action == REVISE else None
    return ExplainerChoice("given", endpoint, given=opened.identity).checked()


def scoring_fields(simulator: SimulatorChoice, *, restated: bool, split: bool = True, test: bool = False) -> Setting:
    """On which records it is scored, and beside which controls. restated: whether a model is there that can restate the explanation.
    test: whether the untouched split is the usual choice."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kinds: list[Kind] = st.multiselect(
            "Score on", KINDS, [KINDS[0]], key="explain-kinds", help=" ".join(f"{kind}: {tip}" for kind, tip in KIND_TIPS.items())
        )
        chosen = Setting().split
        if split:
            chosen = st.selectbox(
                "Split", SPLITS[1:], index=1 if test else 0, key=f"explain-split-{test}",
                help=" ".join(f"{name}: {tip}" for name, tip in SPLIT_TIPS.items()),
            )  # fmt: skip
        offered: list[Control] = [control for control in CONTROLS if control != "paraphrase" or restated]
        usual: list[Control] = ["lookup", "shuffled"]
        controls = st.multiselect(
            "Controls", offered, usual, key=f"explain-controls-{len(offered)}",
            help="What stands beside the score: without the shuffled control it cannot be told whether a score is evidence.",
        )  # fmt: skip
    if not kinds:
        raise AtlasError("Choose at least one kind of record to score on.")
    return Setting(simulator=simulator, kinds=tuple(kinds), split=chosen, controls=tuple(controls))


def _verb(action: str) -> str:
    return {AGAIN: "Explain", MINE: "Score my sentence", REVISE: "Revise", ELSEWHERE: "Score"}[action]


def _done_before(server: Server, target: Target, params: dict[str, Any]) -> Run | None:
    """A finished run with the same parameters, made since the index was last written, in which nothing failed: what failed may be tried
    again."""
    wanted = fingerprint_of("explain", params)
    same = [run for run in server.registry.list() if run.fingerprint == wanted and run.state == "done"]
    return next((run for run in same if (run.finished or 0) > target.index.written and _whole(server, run)), None)


def _whole(server: Server, run: Run) -> bool:
    """Whether the run explained everything and every record of it was simulated."""
    found = study(server.cache, run.id)
    if found.empty:
        server.ingest()  # it may have ended just now
        found = study(server.cache, run.id)
    return len(found) > 0 and not any(found["failed"]) and bool((found["coverage"] == 1).all())


def _concerns(run: Run, unit: UnitName) -> bool:
    return run.kind == "explain" and str(unit) in run.params.get("units", [])


def _active(server: Server, run: str) -> bool:
    try:
        return server.registry.get(run).active
    except AtlasError:
        return True  # not in the list of runs: nothing that can be deleted there


def _cancel(server: Server, run: str) -> None:
    try:
        server.registry.request_cancel(run)
    except AtlasError as error:
        st.session_state[_SAID] = str(error)


def _retry(server: Server, run: str) -> None:
    try:
        server.registry.resume(run)
        server.ensure_worker()
    except AtlasError as error:
        st.session_state[_SAID] = str(error)


def _dismiss(unit: UnitName, run: str) -> None:
    started(unit).remove(run)
