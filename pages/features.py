"""Features: make dictionaries, watch them being trained, see what they are worth, and lay them side by side."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import streamlit as st

from core.errors import AtlasError
from core.runs.registry import Run
from core.ui import state
from core.ui.address_fields import AddressFields
from core.ui.dictionary_bring_form import bring_form
from core.ui.dictionary_compare import chosen, compare
from core.ui.dictionary_curves import curves
from core.ui.dictionary_details import details
from core.ui.dictionary_fit_form import fit_form
from core.ui.dictionary_report import report
from core.ui.dictionary_shelf import shelf
from core.ui.dictionary_table import Entry, entries
from core.ui.dictionary_train_form import train_form
from core.ui.dictionary_work import wanted
from core.ui.live_runs import LiveRuns
from core.ui.prose import heading, lead, sentence
from core.ui.server import Server
from core.ui.setup import setup

T = TypeVar("T")
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
    else:
        fields.check()


def runs(server: Server, run: Run | None) -> None:
    """The runs, and what came of the one that is shown."""
    heading("Runs")
    RUNS.draw(server)
    if run is not None and run.kind == "sae":
        curves(server, run)
    elif run is not None and run.kind == "dictionary":
        report(server, run)


def dictionaries(server: Server, found: Sequence[Entry], run: Run | None) -> None:
    """The shelf, the opened one, and the comparison. What is wrong with one does not hide the others."""
    side, frontier = said(lambda: chosen(found, state.raw("compare"), run)) or ([], [])
    said(lambda: shelf(server, found, [entry.key for entry in side]))
    said(lambda: details(server, found))
    if found:
        said(lambda: compare(server, side, frontier))


def said(part: Callable[[], T]) -> T | None:
    """What a part of the page gives; None, and a sentence on the page, when something is wrong with it."""
    try:
        return part()
    except AtlasError as error:
        sentence(str(error))
        return None


server = setup()
st.title("Features")
lead("A dictionary writes a site's activations as a few of many directions: features, each a unit that can be looked at like a neuron.")
everything = entries(server.workspace)
if not server.read_only:
    said(lambda: make(server, everything))
run = said(shown_run)
if not everything or state.raw("run") or any(run.active for run in RUNS.found(server)):
    said(lambda: runs(server, run))
    dictionaries(server, everything, run)
else:  # nothing goes on: what there is comes first
    dictionaries(server, everything, run)
    said(lambda: runs(server, run))
