"""Features: make dictionaries, watch them being trained, see what they are worth, and lay them side by side."""

from collections.abc import Sequence

import streamlit as st

from core.errors import AtlasError
from core.runs.registry import Run
from core.ui import state
from core.ui.address_fields import AddressFields
from core.ui.dictionary_bring_form import bring_form
from core.ui.dictionary_compare import chosen, compare
from core.ui.dictionary_curves import curves
from core.ui.dictionary_fit_form import fit_form
from core.ui.dictionary_report import report
from core.ui.dictionary_shelf import details, shelf
from core.ui.dictionary_table import Entry, entries
from core.ui.dictionary_train_form import train_form
from core.ui.dictionary_work import wanted
from core.ui.live_runs import LiveRuns
from core.ui.prose import heading, lead, quiet, sentence
from core.ui.server import Server
from core.ui.setup import setup

WAYS = {"train": "Train one", "load": "Load a published one", "baselines": "Make baselines"}
FORMS = {"train": train_form, "load": bring_form, "baselines": fit_form}
RUNS = LiveRuns(
    wanted,
    "No dictionary has been made here yet: start above, and progress and curves appear here.",
    has_results=lambda run: run.kind in ("sae", "dictionary"),
    results="Show it",
    forgets=("compare",),
)


def shown_run() -> Run | None:
    """The run that the address names, else the newest that has something to show. Raises AtlasError for a wrong one."""
    asked = state.raw("run")
    if not asked:
        return RUNS.newest(server)
    run = server.registry.get(asked)
    if not wanted(run):
        raise AtlasError(f"The run {run.id} has nothing to do with dictionaries: choose one of the list.")
    return run


def make(server: Server, found: Sequence[Entry]) -> None:
    """The three ways to a dictionary; none is open when there are some already."""
    fields = AddressFields("features")
    usual = "" if found else "train"
    way = fields.choice("make", "Make a dictionary", list(WAYS), usual, names=WAYS.__getitem__, segmented=True, required=False)
    if way:
        FORMS[way](server, fields)
        return
    try:
        fields.check()
    except AtlasError as error:
        sentence(str(error))


def runs(server: Server) -> Run | None:
    """The runs, and what one of them shows. Returns that one."""
    heading("Runs")
    RUNS.draw(server)
    try:
        run = shown_run()
    except AtlasError as error:
        sentence(str(error))
        return None
    if run is not None and run.kind == "sae":
        curves(server, run)
    elif run is not None and run.kind == "dictionary":
        report(server, run)
    return run


def dictionaries(server: Server, found: Sequence[Entry], run: Run | None) -> None:
    """The shelf, the opened one, and the comparison. What is wrong with one does not hide the others."""
    try:
        side, frontier = chosen(found, state.raw("compare"), run)
    except AtlasError as error:
        sentence(str(error))
        side, frontier = [], []
    for draw in (
        lambda: shelf(server, found, [entry.key for entry in side]),
        lambda: details(server, found),
        lambda: compare(server, side, frontier) if found else None,
    ):
        try:
            draw()
        except AtlasError as error:
            sentence(str(error))


server = setup()
st.title("Features")
lead("A dictionary writes a site's activations as a few of many directions: features, each a unit that can be looked at like a neuron.")
everything = entries(server.workspace)
make(server, everything)
dictionaries(server, everything, runs(server))
if everything:
    quiet("Indexed features are on Explore and Unit, and are explained and scored like neurons.")
