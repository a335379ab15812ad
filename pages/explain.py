"""Explain: many units in one run. Which units, how, at what cost; below, the runs and their results as they come."""

import streamlit as st

from core.autointerp.request import ExplainRequest
from core.errors import AtlasError
from core.runs.registry import Run
from core.store.explanation_queries import scored
from core.ui import explain_settings, nav, state, unit_choice
from core.ui.address_fields import AddressFields
from core.ui.explain_form import attempt, cannot_start, start_button, told
from core.ui.explain_runs import explain_runs, shown_run
from core.ui.explained_list import explained_list
from core.ui.index_choice import ready, waiting
from core.ui.prose import heading, lead, quiet
from core.ui.server import Server
from core.ui.setup import refuse, setup

SAMPLE = 20
START = "Explain them"
LIVE_SECONDS = 3.0


def wanted(run: Run) -> bool:
    """Runs over many units that are no study; those over one belong to that unit's page."""
    units = run.params.get("units")
    return run.kind == "explain" and not run.params.get("study") and (run.lane == "batch" or (isinstance(units, list) and len(units) > 1))


def form(server: Server) -> None:
    fields = AddressFields("explain")
    heading("Which units")
    index = unit_choice.index_field(server, fields)
    units = attempt(lambda: unit_choice.unit_fields(server, fields, index, sample=SAMPLE))
    heading("How", "who writes the sentences, who predicts activations from them, and what the scores are held against")
    setting = attempt(lambda: explain_settings.setting_fields(server, fields, state.raw("index")))
    run = None
    try:
        budget = explain_settings.budget_fields(fields) if told(setting).asks_over_http else None
        fields.check()
        run = start_button(server, START, ExplainRequest(told(units), (told(setting),), 0, budget), index)
    except AtlasError as error:
        cannot_start(error, START)
    if run is not None:
        state.write(run=run.id, page=None, sort=None)
        st.rerun()


def results(server: Server, run: Run) -> None:
    """The explanations that the cache has taken in so far; drawn again while the run goes on."""

    def draw() -> None:
        try:
            explained_list(
                server,
                lambda **how: scored(server.cache, run=run.id, kind=None, with_failed=True, **how),
                key="explained",
                file=f"{run.id}.csv",
                none="No explanation is finished yet." if run.active else "This run finished no explanation.",
            )
        except AtlasError as error:
            quiet(str(error))

    heading("Results", run.id, link=("distribution by layer and more", nav.address("scores", {"run": run.id})))
    st.fragment(draw, run_every=LIVE_SECONDS if run.active else None)()


server = setup()
st.title("Explain")
if not ready(server):
    waiting(server)
    st.stop()
lead("Explain many units in one run: a sentence for each, and a number for how well its activations can be predicted from the words alone.")
if not server.read_only:
    form(server)
heading("Runs")
try:
    explain_runs(server, wanted, none="Nothing has been explained yet. Choose units above and start: progress and results appear here.")
    run = shown_run(server, wanted, lambda run: run.kind == "explain" and not run.params.get("study"))
    if run is not None:
        results(server, run)
except AtlasError as error:
    refuse(str(error))
