"""The Unit page's section “Effect”: what ablating the unit does to the output, on its strongest records; kept, and made anew on request."""

import html
import math

import streamlit as st

from core.causal.effect_request import MOST_RECORDS, RULE_NAMES, RULES, AblationRule, EffectRequest
from core.errors import AtlasError
from core.runs.registry import Run
from core.store import explanation_queries
from core.store.effects import EffectRun, EffectView, effects_of, load_effect, load_effect_run
from core.store.explanation_view import load_explanation
from core.store.recipes import flatten
from core.store.texts import load_vocab
from core.store.units import UnitView
from core.ui import charts, nav, state, words
from core.ui.bars import bar_tables, pack_tables
from core.ui.effect_charts import change_histogram, direct_and_total
from core.ui.effect_tables import listed_tokens, named, next_table, pack_rows, positions_csv, token_table, vocabulary_csv
from core.ui.explain_unit import Target
from core.ui.prose import facts, heading, quiet, sentence
from core.ui.records import write_view
from core.ui.run_list import progress_line
from core.ui.server import BACKGROUND_ENV, Server
from core.ui.starred import plain
from core.ui.tokens import View, token_view
from core.ui.unit_tables import file_name, signed, significant
from core.units import UnitName
from core.vocab import Vocab

PARAMETER = "effect"
"""In the address: the run that is shown; the newest of the unit if it is left out."""
REFRESH_SECONDS = 1.0
SCORED = 3
"""Explanations whose ablation score is made with the effect: the best ones."""
_SAID, _RULE, _RECORDS = "effect-said", "effect-rule", "effect-records"
_STARTED, _NEW = "effect-started", "effect-new"
_AGAIN = "Ablate again"

STYLE = """<style>
.st-key-effect-body > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] {align-items: flex-start}
.ne-title {font-size: .92rem; font-weight: 650; margin: 0}
.ne-score {color: var(--na-text); font-weight: 650}
.ne-title span {color: var(--na-muted); font-weight: 400; font-size: .78rem}
@media (max-width: 800px) {
  .st-key-effect-body > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"],
  .st-key-effect-body > [data-testid="stHorizontalBlock"] {flex-direction: column}
  .st-key-effect-body [data-testid="stColumn"] {width: 100% !important; min-width: 100% !important; flex: 1 1 100% !important}
}
</style>"""

SCORE_SAID = (
    "1 − E[JSD(set to the calibrated simulation ‖ as it is)] ∕ E[JSD(set to the mean ‖ as it is)], over scored records: "
    "how much of what the unit does is done by the activations that the sentence predicts."
)
_FIGURES = (
    ("kl_firing", "KL where it fires", "Mean of Σᵥ p(v) (log p(v) − log q(v)) in nats over positions where the unit fires."),
    ("kl", "KL everywhere", "The same over all positions of the records."),
    ("loss_change_firing", "loss change where it fires", "Mean rise of −log p of the token that follows, in nats, where the unit fires."),
    ("loss_change", "loss change everywhere", "The same over all positions that a token follows."),
)


def effect(server: Server, target: Target, unit: UnitView) -> None:
    """The whole section, as fragments: what goes on does not redraw the rest of the page."""
    st.html(STYLE)
    runs = _runs(server, target.unit)
    note = "what ablating it does to the model's next tokens"
    link = None if server.read_only else ("on a text of your own", nav.address("ablate_steer", {"units": str(target.unit)}))
    heading("Effect", note, link=link)
    _watch(server, target.unit, runs)
    st.fragment(_section)(server, target, unit, any(run.active for run in runs))


def _runs(server: Server, unit: UnitName) -> list[Run]:
    """Runs over the unit's records that are at work, and of those started here the one that failed or was stopped."""
    mine = st.session_state.get(_STARTED, "")
    found = [run for run in server.registry.list() if run.kind == "effect" and run.params.get("units") == [str(unit)]]
    return [run for run in found if not run.params.get("text") and (run.active or (run.id == mine and run.resumable))]


def _state(server: Server, runs: list[Run]) -> list[tuple[str, bool, bool]]:
    """What is worth drawing the page anew for: a run ended, or published the effect before its scores."""
    return [(run.id, run.active, (server.registry.folder(run.id) / "manifest.json").exists()) for run in runs]


def _watch(server: Server, unit: UnitName, runs: list[Run]) -> None:
    if not runs:
        return
    before = _state(server, runs)

    def draw() -> None:
        now = _runs(server, unit)
        if _state(server, now) != before:
            st.rerun(scope="app")
        for run in now:
            _row(server, run)

    st.fragment(draw, run_every=REFRESH_SECONDS if any(run.active for run in runs) else None)()


def _row(server: Server, run: Run) -> None:
    """Where a run is, why it failed, and what can be done."""
    share = min(1.0, run.done / run.total) if run.total else 0.0
    bar = f'<div class="na-bar"><i style="width:{100 * share:.1f}%"></i></div>' if run.active else ""
    with st.container(horizontal=True, vertical_alignment="center", key=f"effect-run-{run.id}"):
        st.html(
            f'<div class="na-run" role="status" style="border-top:0"><div class="na-run-head">'
            f'<span class="na-state {run.state}">{run.state}</span>'
            f'<span class="na-muted na-small na-num">{html.escape(progress_line(run, server.registry))}</span></div>{bar}</div>'
        )
        if run.active and not server.read_only:
            st.button("cancel", key=f"effect-cancel-{run.id}", disabled=run.cancel_requested, on_click=_cancel, args=(server, run.id))
        elif not server.read_only:
            st.button("try again", key=f"effect-again-{run.id}", on_click=_again, args=(server, run.id))
    if run.state == "queued" and not server.background:
        sentence(f"No worker does it: this dashboard was started with {BACKGROUND_ENV}=off.")
    if run.error:
        sentence(run.error)


def _section(server: Server, target: Target, unit: UnitView, busy: bool) -> None:
    if st.session_state.pop(_NEW, False):
        st.rerun(scope="app")  # so that its progress is shown
    if said := st.session_state.pop(_SAID, None):
        sentence(said)
    found = _shown(server, target)
    if found is None:
        if busy:
            quiet("The unit's records are being read with the unit and without it.", small=False)
            return
        if server.read_only:
            quiet("Nothing was ablated.", small=False)
            return
        quiet(
            f"Nothing was ablated yet. The unit's {MOST_RECORDS} strongest records are read twice, with the unit and without it, in some "
            "seconds: which next tokens it speaks for and against, directly and through later layers, and where.",
            small=False,
        )
        _form(server, target, "Ablate this unit")
        return
    try:
        _results(server, unit, load_effect(server.workspace, found.run))
    except AtlasError as error:
        sentence(str(error))
    if not (busy or server.read_only):
        with st.container(key="effect-more"):
            _form(server, target, _AGAIN)


def _shown(server: Server, target: Target) -> EffectRun | None:
    """The run that the address names, else the newest over the records of the page's index, else the newest."""
    asked = state.raw(PARAMETER)
    if asked:
        try:
            found = load_effect_run(server.workspace, asked)
        except AtlasError as error:
            if all(run.id != asked for run in server.registry.list(active=True)):
                sentence(str(error))
        else:
            if found.units == (target.unit,):
                return found
            state.write(**{PARAMETER: None})  # the address kept it from another unit
    mine = effects_of(server.workspace, target.unit)
    return next((one for one in mine if one.index == target.index.run), mine[0] if mine else None)


def _form(server: Server, target: Target, label: str) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", key="effect-form"):
        st.selectbox(
            "Set it to", RULES, key=_RULE, format_func=RULE_NAMES.__getitem__, width=240,
            help="Zero; its mean over the indexed text; or the paper's: moved against its own direction until its encoder says zero.",
        )  # fmt: skip
        st.number_input("Records", 1, MOST_RECORDS, MOST_RECORDS, key=_RECORDS, width=110)
        kind = "secondary" if label == _AGAIN else "primary"
        st.button(label, key="effect-start", type=kind, on_click=_start, args=(server, target))


def _start(server: Server, target: Target) -> None:
    """The button's callback: queue the run in the lane of the warm model process, unless exactly this was done with the present index."""
    rule: AblationRule = st.session_state[_RULE]
    try:
        rows = explanation_queries.rows_of_unit(server.cache, target.unit)
        best = [str(row["explanation"]) for row in rows if not row["failed"]][:SCORED]
        request = EffectRequest(
            (str(target.unit),), rule, records=int(st.session_state[_RECORDS]), index=target.index.run, explanations=tuple(best)
        )
        request.check_here(server.workspace)
        run = server.registry.submit("effect", request.to_params(), lane="model")
        server.ensure_worker()
    except AtlasError as error:
        st.session_state[_SAID] = str(error)
        return
    st.session_state[_STARTED] = run.id
    st.session_state[_NEW] = True
    state.write(**{PARAMETER: run.id})


def _results(server: Server, unit: UnitView, view: EffectView) -> None:
    run = view.run
    vocab = load_vocab(server.workspace, unit.name.subject)
    _numbers(run)
    with st.container(key="effect-body"):
        text, side = st.columns([3, 2], gap="large")
        with text:
            st.fragment(_records)(pack_rows(view, unit, vocab))
            bar_tables(pack_tables([token_table(run, vocab)]), key="effect-tokens")
        with side:
            if not run.undefined:
                _figures(unit, view, vocab)
            bar_tables(pack_tables([next_table(view, vocab)]), key="effect-next")
    _scores(server, run)
    with st.container(horizontal=True, gap="small", key="effect-csv"):
        tables = (("CSV of the vocabulary", vocabulary_csv, "vocabulary"), ("CSV of every position", positions_csv, "positions"))
        for label, make, what in tables:
            st.download_button(
                label, lambda make=make: make(view, vocab), file_name(unit, f"effect-{what}"), "text/csv", key=f"effect-csv-{what}",
                type="tertiary", on_click="ignore",
            )  # fmt: skip
    section = st.expander("How this effect was measured", key="effect-provenance", on_change="rerun")
    if section.open:
        with section:
            told = {name: run.manifest[name] for name in ("request", "units", "direct", "subject", "provenance")}
            facts(dict(flatten({"run": run.run, **told})))


def _numbers(run: EffectRun) -> None:
    """The line of small numbers, each with its formula, and what was set to what."""
    items = [
        f'<div tabindex="0" data-tip="{html.escape(formula, quote=True)}"><dd>{html.escape(significant(getattr(run, name)))}</dd>'
        f"<dt>{label}</dt></div>"
        for name, label, formula in _FIGURES
    ]
    st.html(f'<dl class="nu-stats">{"".join(items)}</dl>')
    said = run.said(run.units[0])
    rule = f"set to {RULE_NAMES[run.rule]}"
    if run.rule == "mean":
        rule += f" ({words.number(said['mean'])})"
    if said["silenced_by"] is not None:
        rule += f": c ∕ (e · f) along its direction, e · f = {words.number(said['silenced_by'])}"
    where = "everywhere" if run.chosen is None else f"at positions {', '.join(map(str, run.chosen))}"
    texts = words.count(len(run.manifest["texts"]), "record")
    fires = f"fires on {run.firing:,} of {words.count(run.positions, 'position')} ({said['fires']})"
    quiet(f"{rule}, {where} · {texts} · {fires} · {run.run}")


def _figures(unit: UnitView, view: EffectView, vocab: Vocab) -> None:
    """How the changes of all tokens are spread, and direct against total."""
    change = view.vocabulary["change"]
    drawn = (
        (
            "spread", "Change of every token", f"{len(change):,} tokens, where it fires",
            change_histogram(change, named(view.run.lowered, vocab), named(view.run.raised, vocab)),
            f"Histogram of the mean change of the log-probability of every token when {unit.name} is ablated",
        ),
        (
            "direct", "Direct and total effect", "on the dashed line later layers add nothing",
            direct_and_total(listed_tokens(view, vocab), view.vocabulary["direct"], change),
            f"Direct against total effect of {unit.name} on the tokens that it changes most",
        ),
    )  # fmt: skip
    for key, title, note, figure, alt in drawn:
        st.html(f'<p class="ne-title">{title} <span>{html.escape(note)}</span></p>')
        charts.show(figure, key=f"effect-{key}", file=file_name(unit, f"effect-{key}").removesuffix(".csv"), alt=alt)


def _records(packed: bytes) -> None:
    view, _ = View.read(st.query_params.to_dict())
    token_view(packed, view, key="effect-texts", on_view=write_view)


def _scores(server: Server, run: EffectRun) -> None:
    """Ablation scores of the unit's explanations, the words beside each."""
    if not run.scores:
        return
    lines = [f'<p class="ne-title">Ablation score <span>{html.escape(SCORE_SAID)}</span></p>']
    for one in run.scores:
        try:
            said = plain(load_explanation(server.workspace, one.explanation).text, 90)
        except AtlasError:
            said = f"{one.explanation}, which was deleted"
        told = f"{words.count(one.records, 'record')}, {one.tokens:,} tokens, {words.share(one.coverage)} simulated by {one.simulator}"
        if math.isnan(one.score):
            figure, beside = "undefined", f"{one.reason} · “{said}”"
        else:
            divergences = f"JSD {words.number(one.simulated)} against {words.number(one.mean)} nats"
            figure, beside = signed(f"{one.score:.2f}"), f"{divergences} · {told} · “{said}”"
        lines.append(f'<p class="na-muted na-small na-num"><b class="ne-score">{figure}</b> · {html.escape(beside)}</p>')
    st.html("".join(lines))


def _cancel(server: Server, run: str) -> None:
    try:
        server.registry.request_cancel(run)
    except AtlasError as error:
        st.session_state[_SAID] = str(error)


def _again(server: Server, run: str) -> None:
    try:
        server.registry.resume(run)
        server.ensure_worker()
    except AtlasError as error:
        st.session_state[_SAID] = str(error)
