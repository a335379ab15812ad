"""Puzzles on a page: planted neurons whose true explanation is known, and whether a simulator and an explainer can be trusted with them."""

import html
import json
import math
from dataclasses import replace

import streamlit as st

from core.autointerp.comparison import figure
from core.autointerp.cost import check_budget, over_budget, puzzle_cost
from core.autointerp.puzzle_request import EXPLAINER, PuzzleRequest
from core.autointerp.puzzles import LARGEST, Puzzle, built_in, parse_puzzles
from core.errors import AtlasError
from core.runs.registry import Run
from core.store.puzzle_results import PuzzleLine, PuzzleVerdict, load_puzzle_results
from core.ui import state, words
from core.ui.address_fields import AddressFields
from core.ui.explain_choices import explainer_fields, simulator_fields
from core.ui.explain_form import attempt, told
from core.ui.explain_runs import explain_runs, shown_run
from core.ui.explain_settings import budget_fields
from core.ui.explanation_rows import interval
from core.ui.prose import heading, lead, quiet, sentence
from core.ui.server import Server
from core.ui.starred import starred

LIVE_SECONDS = 1.0
START = "Check on the puzzles"
_WHOSE = {"built-in": "Built in", "own": "My own file"}
_STYLE = """<style>
.np {border-top: 1px solid var(--na-hairline); padding: .55rem 0 .5rem} .np p {margin: 0}
.np .head {display: flex; flex-wrap: wrap; gap: .1rem .8rem; align-items: baseline} .np .head b {font-weight: 650}
.np .verdict {font-size: .82rem; color: var(--na-muted)} .np .verdict.no {color: var(--na-accent)}
.np ul {list-style: none; margin: .2rem 0 0; padding: 0; font-size: .9rem} .np li {display: flex; gap: .8rem; margin: 0; padding: .08rem 0}
.np li > b {flex: 0 0 3.2rem; text-align: right; font-weight: 600; font-variant-numeric: tabular-nums}
.np li.false {color: var(--na-muted)} .np li span {overflow-wrap: anywhere}
.np i.verdict {font-style: normal} .np mark {background: var(--na-chip); color: inherit; border-radius: 3px; padding: 0 .1em}
</style>"""


def wanted(run: Run) -> bool:
    """Runs of puzzles."""
    return run.kind == "puzzles"


def puzzles(server: Server) -> None:
    """The form, the puzzles themselves, and the results of checks."""
    lead(
        "Puzzles are planted neurons whose true explanation is known, with false ones beside it.",
        "A simulator that does not score the true one highest cannot judge explanations of real units: check it before spending money.",
    )
    if not server.read_only:
        _form(server)
    heading("Checks")
    try:
        explain_runs(
            server, wanted, none="Nothing has been checked yet. Choose a simulator above: its verdict on each puzzle appears here."
        )
        run = shown_run(server, wanted)
        if run is not None:
            st.fragment(_results, run_every=LIVE_SECONDS if run.active else None)(server, run)
    except AtlasError as error:
        sentence(str(error))


def _form(server: Server) -> None:
    chosen = attempt(_chosen)
    left, right = st.columns(2, gap="large")
    with left:
        names = ("chat", "completions", "local", "sentence")
        simulator = attempt(lambda: simulator_fields(server, "puzzles", names=names, usual="chat", calibrated=False))
    with right:
        with_explainer = st.checkbox(
            "Check an explainer, too", key="puzzles-with-explainer",
            help="It sees every second text of a puzzle and writes a sentence, which has to score above the false ones on the others.",
        )  # fmt: skip
        explainer = attempt(lambda: explainer_fields(server, "puzzles", (EXPLAINER,)) if with_explainer else None)
    try:
        found = told(chosen)
        with st.expander(f"Look at the {words.count(len(found), 'puzzle')}"):
            st.html("".join(_puzzle_html(puzzle) for puzzle in found) + _STYLE)
        own = () if state.raw("puzzles") != "own" else tuple(puzzle.to_json() for puzzle in found)
        request = PuzzleRequest(told(simulator), told(explainer), own).checked()
        if request.asks_over_http:
            fields = AddressFields("puzzles")
            request = replace(request, budget=budget_fields(fields))
            fields.check()
        spend = puzzle_cost(request, found)
        check_budget(request.budget, spend)
    except AtlasError as error:
        sentence(str(error))
        st.button(START, disabled=True, key="start_puzzles")
        return
    quiet(f"{words.count(len(found), 'puzzle')}. {spend}")
    if short := over_budget(request.budget, spend):
        sentence(short)
    if st.button(START, key="start_puzzles"):
        run = server.registry.submit("puzzles", request.to_params(), lane="interactive")
        server.ensure_worker()
        state.write(run=run.id)
        st.rerun()


def _chosen() -> list[Puzzle]:
    """The puzzles to check on. Raises AtlasError about a file that is not right."""
    whose = state.choice("puzzles", "a choice of puzzles", list(_WHOSE), "built-in")
    st.session_state["puzzles_whose"] = whose
    st.segmented_control(
        "Puzzles", list(_WHOSE), key="puzzles_whose", format_func=_WHOSE.__getitem__, required=True,
        on_change=lambda: state.write(puzzles=None if st.session_state["puzzles_whose"] == "built-in" else "own"),
    )  # fmt: skip
    if whose == "built-in":
        return built_in()
    example = json.dumps({"puzzles": [built_in()[0].to_json()]}, ensure_ascii=False, indent=1)
    st.download_button("An example to start from", example, "puzzles.json", "application/json", on_click="ignore", type="tertiary")
    file = st.file_uploader(f"A JSON file of puzzles, at most {LARGEST // 1_000_000} MB", type=["json"], key="puzzles_file")
    if file is None:
        raise AtlasError("Choose a JSON file of your own puzzles, written like the example.")
    return parse_puzzles(file.getvalue(), file.name)


def _results(server: Server, run: Run) -> None:
    try:
        results = load_puzzle_results(server.workspace, run.id)
    except AtlasError as error:
        sentence(str(error))
        return
    if results is None or not results.lines:
        quiet("No puzzle is finished yet.", small=False)
        return
    heading("Verdicts", run.id)
    who = "explainer and simulator" if run.params.get("explainer") else "the simulator"
    verdict = (
        "every true explanation stands above the false ones"
        if results.passed == len(results.lines)
        else "where one fails, scores of real units like it say little"
    )
    lead(f"{results.passed} of {words.count(len(results.lines), 'puzzle')} passed by {who}: {verdict}.")
    st.html("".join(_line_html(line) for line in results.lines) + _STYLE)


def _line_html(line: PuzzleLine) -> str:
    margin = f" by {figure(line.margin)}" if math.isfinite(line.margin) and line.margin > 0 else ""
    verdict = f"passed{margin}" if line.passed else f"not passed: {line.reason}"
    items = []
    if line.given is not None:
        items.append(_verdict_html(line.given, "the explainer’s", "given"))
    if line.true is not None:
        items.append(_verdict_html(line.true, "true", "true"))
    items += [_verdict_html(one, "false", "false") for one in line.false]
    return (
        f'<div class="np"><div class="head"><b>{html.escape(line.puzzle)}</b>'
        f'<span class="verdict{"" if line.passed else " no"}">{html.escape(verdict)}</span></div><ul>{"".join(items)}</ul></div>'
    )


def _verdict_html(one: PuzzleVerdict, called: str, kind: str) -> str:
    number = f"{figure(one.rho)}" if math.isfinite(one.rho) else "–"
    more = interval(one.low, one.high) if math.isfinite(one.rho) else f"undefined: {one.reason}"
    covered = f", {one.coverage:.0%} covered" if math.isfinite(one.coverage) and one.coverage < 1 else ""
    tip = html.escape(f"ρ {number} {more}{covered}", quote=True)
    said = f'{starred(one.text)} <i class="verdict">{html.escape(called + covered)}</i>'
    return f'<li class="{kind}" title="{tip}"><b>{number}</b><span>{said}</span></li>'


def _puzzle_html(puzzle: Puzzle) -> str:
    pieces, values = max(puzzle.texts, key=lambda text: max(text[1], default=0.0))
    text = "".join(
        f'<mark title="{value:g} of 10">{html.escape(piece)}</mark>' if value else html.escape(piece)
        for piece, value in zip(pieces, values, strict=True)
    )
    false = "".join(f'<li class="false"><b>false</b><span>{starred(one)}</span></li>' for one in puzzle.false_explanations)
    return (
        f'<div class="np"><div class="head"><b>{html.escape(puzzle.name)}</b><span class="verdict">'
        f"{words.count(len(puzzle.texts), 'text')}, such as: {text}</span></div>"
        f"<ul><li><b>true</b><span>{starred(puzzle.explanation)}</span></li>{false}</ul></div>"
    )
