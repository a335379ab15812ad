"""Studies: one thing about explaining is varied over the same units, and the scores are compared. And puzzles with known answers."""

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from core.autointerp import study_tables
from core.autointerp.request import ExplainRequest
from core.autointerp.studies import STUDIES, study_settings
from core.errors import AtlasError
from core.findings.report.study import study_html
from core.runs.registry import Run
from core.store.explanation_queries import study as study_rows
from core.ui import bases_choice, basis_table, charts, explain_settings, puzzle_section, state, study_table, unit_choice
from core.ui.address_fields import AddressFields
from core.ui.basis_charts import basis_figure
from core.ui.explain_choices import EXPLAINER_NAMES
from core.ui.explain_form import attempt, cannot_start, start_button, told
from core.ui.explain_runs import explain_runs, shown_run
from core.ui.index_choice import ready, waiting
from core.ui.prose import heading, lead, quiet, sentence
from core.ui.saved_page import save_page
from core.ui.scored_rows import to_csv
from core.ui.server import Server
from core.ui.setup import setup
from core.ui.study_charts import study_figure

SAMPLE = 5
START = "Start the study"
LIVE_SECONDS = 3.0
SHOWN_ONLY = ("quantile", "records", "length", "source")
"""Studies of what an explainer is shown: only the one that is shown records has those parameters."""
ORDERED = ("quantile", "records", "length", "layer")
VIEWS = {"studies": "Studies", "puzzles": "Puzzles"}


def wanted(run: Run) -> bool:
    return run.kind == "explain" and bool(run.params.get("study"))


def explainers_of(study: str) -> Sequence[str]:
    if study in SHOWN_ONLY:
        return ("token-activation",)
    if STUDIES[study].needs_model:
        return tuple(name for name in EXPLAINER_NAMES if name != "pattern")
    return tuple(EXPLAINER_NAMES)


def form(server: Server) -> None:
    fields = AddressFields("studies")
    names = list(STUDIES)
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    with left:
        name = fields.choice("study", "Study", names, "layer", names=lambda name: STUDIES[name].title)
    with right:
        model = " It varies what a language model is shown, so it needs one." if STUDIES[name].needs_model else ""
        quiet(f"{STUDIES[name].asks}{model}", small=False)
    across = STUDIES[name].across
    heading("Over which units", "a sample of every basis at each site" if across else "the same ones under every setting")
    if across:
        index = ready(server)[0]
        units = attempt(lambda: bases_choice.unit_fields(server, fields))
    else:
        index = unit_choice.index_field(server, fields)
        units = attempt(lambda: unit_choice.unit_fields(server, fields, index, sample=SAMPLE))
    heading("How, for all that is not varied")
    setting = attempt(lambda: explain_settings.setting_fields(server, fields, state.raw("index"), explainers_of(name)))
    run = None
    try:
        base = told(setting)
        budget = explain_settings.budget_fields(fields) if base.asks_over_http else None
        fields.check()
        settings = study_settings(name, base, [each.slug for each in ready(server)])
        if not across:
            compared(name, [each.label for each in settings])
        run = start_button(server, START, ExplainRequest(told(units), settings, 0, budget, name), index)
    except AtlasError as error:
        cannot_start(error, START)
    if run is not None:
        state.write(run=run.id)
        st.rerun()


def compared(name: str, labels: Sequence[str]) -> None:
    if len(labels) > 1:
        quiet(f"Compared: {', '.join(labels)}.")
    elif name != "layer":
        quiet("There is only one way to compare so far: choose an explainer that asks a language model to have others beside it.")


def results(server: Server, run: Run) -> None:
    """The figure and the table so far; drawn again while the run goes on."""
    name = str(run.params["study"])
    study = STUDIES.get(name)
    heading(study.title if study is not None else name, f"{study.asks if study is not None else ''} {run.id}".strip())
    kinds = list(dict.fromkeys(kind for setting in run.params["settings"] for kind in setting.get("kinds", [])))
    kind = kinds[0] if kinds else "top-and-random"
    if len(kinds) > 1:
        fields = AddressFields("studies")
        kind = fields.choice("kind", "Kind of score", kinds, kinds[0], help=explain_settings.KIND_HELP, segmented=True)
        fields.check()
    st.fragment(_draw, run_every=LIVE_SECONDS if run.active else None)(server, run, name, kind)


def _draw(server: Server, run: Run, name: str, kind: str) -> None:
    frame = study_rows(server.cache, run.id, kind)
    records: list[study_tables.Record] = list(frame.to_dict("records"))
    if not records:
        quiet("No explanation is finished yet." if run.active else "This run finished no explanation.", small=False)
        return
    if name in STUDIES and STUDIES[name].across:
        basis_section(server, records, run.id, frame, kind)
        return
    table = study_tables.by_layer(records) if name == "layer" else study_tables.by_setting(records)
    axis = STUDIES[name].axis if name in STUDIES else "setting"
    charts.show(
        study_figure(table, axis, joined=name in ORDERED), key="study_figure", file=f"{run.id}-{name or 'settings'}",
        alt="Mean score of each setting with its interval, the lookup baseline and the shuffled control",
    )  # fmt: skip
    st.html(study_table.to_html(table, axis))
    quiet(_said(table))
    with st.container(horizontal=True, gap="small"):
        _save("Save the table as CSV", lambda: study_table.to_csv(table), f"{run.id}-{name}.csv")
        _save("Save every explanation as CSV", lambda: to_csv(frame), f"{run.id}.csv")
        save_page(lambda: study_html(server.workspace, run.id, records, kind), f"{run.id}.html", key="study_save")


def basis_section(server: Server, records: Sequence[study_tables.Record], run: str, frame: pd.DataFrame, kind: str) -> None:
    """The paper's figure, and the same as a table."""
    series = study_tables.by_basis(records)
    alt = "Mean score of each basis by layer, with 95 % intervals"
    charts.show(basis_figure(series), key="basis_figure", file=f"{run}-bases", alt=alt)
    st.html(basis_table.to_html(series) + study_table.STYLE)
    quiet(
        "Bars: 95 % intervals, from drawing units again. Units that are never active are not drawn. Each score is over 5 top and 5 random"
        " records that the explainer did not see; the lookup table and the shuffled control are in the tooltips and the CSV."
    )
    with st.container(horizontal=True, gap="small"):
        _save("Save the table as CSV", lambda: basis_table.to_csv(series), f"{run}-bases.csv")
        _save("Save every explanation as CSV", lambda: to_csv(frame), f"{run}.csv")
        save_page(lambda: study_html(server.workspace, run, records, kind), f"{run}.html", key="study_save")


def _save(label: str, content: Callable[[], bytes], file: str) -> None:
    st.download_button(label, content, file, "text/csv", on_click="ignore", type="tertiary")


def _said(table: study_tables.Table) -> str:
    interval = "Bars: 95 % intervals, from drawing units again."
    if table.shared is None:
        return interval
    units = max(line.units for line in table.lines)
    every = "every other setting" if table.without else "every setting"
    none = f" No unit has a number under {', '.join(table.without)}." if table.without else ""
    return f"ρ and differences are over the {table.shared:,} of {units:,} units that have a number under {every}.{none} {interval}"


def studies(server: Server) -> None:
    if not ready(server):
        waiting(server)
        return
    if not server.read_only:
        form(server)
    heading("Runs")
    try:
        explain_runs(server, wanted, none="No study has been done yet. Choose one above and start it: its figure and table appear here.")
        run = shown_run(server, wanted)
        if run is not None:
            results(server, run)
    except AtlasError as error:
        sentence(str(error))


server = setup()
st.title("Studies")
fields = AddressFields("studies_view", resets=("run",))
view = fields.choice("view", "Show", list(VIEWS), "studies", names=VIEWS.__getitem__, segmented=True)
try:
    fields.check()
except AtlasError as error:
    sentence(str(error))
if view == "puzzles":
    puzzle_section.puzzles(server)
else:
    lead("A study varies one thing about explaining over the same units and compares the scores, as Bills et al. 2023 did.")
    studies(server)
