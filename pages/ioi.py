"""IOI: sentences about an indirect object, what the model makes of them, and how few features change its answer."""

from typing import Any

import streamlit as st

from core.causal.ioi_request import IoiRequest
from core.errors import AtlasError
from core.runs.registry import Run
from core.store.ioi import ioi_runs
from core.subject.info import registered, subject_info
from core.ui import state
from core.ui.address_fields import AddressFields
from core.ui.explain_form import attempt, told
from core.ui.ioi_estimate import expected
from core.ui.ioi_form import SHOWN_PAIRS, Sentences, models_of, patch_fields, preview, sentence_fields
from core.ui.ioi_results import results
from core.ui.ioi_tables import baseline_html, pairs_html
from core.ui.live_runs import LiveRuns
from core.ui.prose import heading, lead, quiet, sentence
from core.ui.setup import refuse, setup

OF_SENTENCES = ("model", "dtype", "pairs", "seeds", "first_seed", "bos", "wording")
"""Parameters that say which sentences are read by which model."""
LIVE_SECONDS = 5.0
RUNS = LiveRuns(
    lambda run: run.kind == "ioi",
    "Nothing has been patched here yet: start above, and progress and curves appear here.",
    has_results=lambda run: run.active or published(run),
    forgets=("order", "sentences", "of"),
)


def published(run: Run) -> bool:
    """Whether the run has found anything: a baseline at least."""
    return (server.registry.folder(run.id) / "manifest.json").is_file()


def submit(params: dict[str, Any], lane: Any) -> None:
    """Queue the run, show it."""
    run = server.registry.submit("ioi", params, lane=lane)
    server.ensure_worker()
    state.write(run=run.id)
    st.rerun()


def show_sentences(sentences: Sentences) -> str | None:
    """Some of the sentences, and the baseline where a run has measured it. Returns that run."""
    pairs, dropped = preview(server, sentences)
    st.html(pairs_html(pairs[:SHOWN_PAIRS]))
    left_out = f"; {len(dropped)} of our names are no single tokens of this model and are left out" if dropped else ""
    quiet(f"The first {min(SHOWN_PAIRS, len(pairs))} of {len(pairs):,} pairs of seed {sentences.params['first_seed']}{left_out}.")
    request = IoiRequest.from_params({**sentences.params, "decompositions": []})
    wanted = _of_sentences(request.to_params())
    measured = (one for one in ioi_runs(server.workspace) if _of_sentences(one.request) == wanted and len(one.sentences) == request.seeds)
    found = next(measured, None)
    if found is not None:
        st.html(baseline_html(found.sentences))
        return found.run
    quiet("How often the model names the indirect object itself is measured first with every run, or now:", small=False)
    if st.button("Measure the baseline", key="ioi_baseline"):
        submit(request.to_params(), "model")
    return None


def _of_sentences(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name in OF_SENTENCES}


def patch(sentences: Sentences | AtlasError) -> None:
    """The fields of the patching, the estimate and the button, or what is wrong."""
    try:
        request = patch_fields(server, AddressFields("ioi"), told(sentences))
    except AtlasError as error:
        sentence(str(error))
        st.button("Patch", disabled=True, key="ioi_start")
        return
    known = request.model in registered(server.workspace)
    quiet(expected(request, subject_info(server.workspace, request.model) if known else None, ioi_runs(server.workspace)), small=False)
    if st.button("Patch", key="ioi_start"):
        submit(request.to_params(), "batch")


def ask() -> str | None:
    """The forms. Returns the run whose baseline they show."""
    heading("Sentences")
    sentences = attempt(lambda: sentence_fields(AddressFields("ioi"), models))
    above: str | None = None
    try:
        above = show_sentences(told(sentences))
    except AtlasError as error:
        if not isinstance(sentences, AtlasError):
            sentence(str(error))
    heading("Patching")
    patch(sentences)
    return above


def shown_run() -> Run | None:
    """The run that the address names, else the newest. Raises AtlasError for one of another kind."""
    asked = state.raw("run")
    if not asked:
        return RUNS.newest(server)
    run = server.registry.get(asked)
    if run.kind != "ioi":
        raise AtlasError(f"The run {run.id} did not patch sentences: choose one of the list.")
    return run


server = setup()
st.title("IOI")
lead(
    "Indirect object identification: “Then Anna and Mark met, and Mark gave a book to” wants “Anna”. Moving only some features towards a "
    "sentence that names somebody else instead shows how few of them carry the answer."
)
models = models_of(server)
if not models and not server.read_only:
    refuse("No model is known here yet: index one, or load one on the page Features.")
above = None if server.read_only else ask()
heading("Runs")
RUNS.draw(server)
try:
    run = shown_run()
    if run is not None and published(run):
        # A curve that is finished while the run goes on is shown without being asked for.
        st.fragment(results, run_every=LIVE_SECONDS if run.active else None)(server, run.id, run.id != above)
except AtlasError as error:
    sentence(str(error))
