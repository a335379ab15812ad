"""The live curves of a training run: one small picture a measure, one line a dictionary, redrawn while the run goes on."""

import csv
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from core.bases.curves import load_curves
from core.bases.metric_names import BY_NAME
from core.runs.registry import Run
from core.ui import charts
from core.ui.dictionary_charts import Axis, Line, curve_figure, legend, looks
from core.ui.prose import heading, quiet
from core.ui.server import Server

LIVE_SECONDS = 3.0
COLUMNS = ("name", "alpha", "tokens", "step", "explained_variance", "l0", "dead", "loss", "mse", "l1", "loss_recovered", "rate")
_SINCE = "Over the training batches since the point before."


@dataclass(frozen=True)
class Panel:
    """One picture. key: of a curve's line. note: the tooltip."""

    key: str
    title: str
    note: str
    axis: Axis


def panels(params: Mapping[str, Any]) -> tuple[Panel, ...]:
    """The pictures, as the run's own convention has it."""
    mean = params.get("mse_reduction") == "mean"
    error = "‖x − x̂‖² / d" if mean else "‖x − x̂‖²"
    loss = f"{error} + α‖c‖₁, a mean over tokens, of the scaled activations. {_SINCE}"
    if params.get("kind") == "topk":
        loss = f"{error}, a mean over tokens, of the scaled activations, without the auxiliary term. {_SINCE}"
    return (
        Panel("explained_variance", "Explained variance", f"{_formula('explained_variance')} {_SINCE}", Axis("explained variance")),
        Panel("l0", "L0", f"{_formula('l0')} {_SINCE}", Axis("units a token", log=True)),
        Panel("dead", "Dead units", "Share of the units without activity in the last tokens of the run, see its details.",
              Axis("share of the units", percent=True)),
        Panel("loss", "Loss", loss, Axis("loss", log=True)),
        Panel("mse", "MSE", f"‖x − x̂‖² / d of the scaled activations, a mean over tokens. {_SINCE}", Axis("scaled activation²", log=True)),
        Panel("loss_recovered", "Loss recovered", f"{_formula('loss_recovered')} Over a few held-out contexts.", Axis("loss recovered")),
    )  # fmt: skip


def curves(server: Server, run: Run) -> None:
    """The curves of a training run. They are redrawn while it is at work."""
    heading("Curves", run.id)
    st.fragment(_draw, run_every=LIVE_SECONDS if run.active else None)(server, run)


def _draw(server: Server, run: Run) -> None:
    found = load_curves(server.registry.folder(run.id))
    if not found:
        quiet(
            "No point of a curve yet: this run waits for its turn."
            if run.state == "queued"
            else "No point of a curve yet: the model is being loaded and the buffer filled."
            if run.active
            else "This run has no curves.",
            small=False,
        )
        return
    names = list(dict.fromkeys(str(line.get("name")) for line in found))
    drawn = dict(zip(names, looks(len(names)), strict=True))
    labels = {name: curve_label(name, [line for line in found if line.get("name") == name]) for name in names}
    st.html(legend([(labels[name], look) for name, look in drawn.items()]))
    columns = [column for _ in range(2) for column in st.columns(3, gap="medium")]
    for column, panel in zip(columns, panels(run.params), strict=True):
        lines = [
            Line(
                labels[name],
                look,
                [float(line["tokens"]) for line in found if line.get("name") == name],
                [_value(line, panel.key) for line in found if line.get("name") == name],
            )
            for name, look in drawn.items()
        ]
        with column:
            st.html(f'<p class="na-small na-muted" title="{html.escape(panel.note, quote=True)}"><b>{html.escape(panel.title)}</b></p>')
            if any(value is not None for line in lines for value in line.y):
                figure = curve_figure(lines, panel.axis)
                charts.show(figure, key=f"curve_{panel.key}", file=f"{run.id}-{panel.key}", alt=f"{panel.title} over tokens")
            else:
                quiet("Not looked at yet." if run.active else "Never looked at.")
    st.download_button(
        "Save the curves as CSV", lambda: to_csv(found), f"{run.id}-curves.csv", "text/csv", on_click="ignore", type="tertiary",
        key="curves_csv",
    )  # fmt: skip


def curve_label(name: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """`paper-a0.5 · α 0.5`; the name alone where there is no alpha."""
    alpha = lines[0].get("alpha") if lines else None
    return f"{name} · α {alpha:g}" if isinstance(alpha, int | float) else name


def to_csv(found: Sequence[Mapping[str, Any]]) -> bytes:
    """The curves as UTF-8 CSV, one line a point and dictionary; what was not looked at is empty."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(COLUMNS)
    writer.writerows([["" if line.get(name) is None else line[name] for name in COLUMNS] for line in found])
    return out.getvalue().encode()


def _value(line: Mapping[str, Any], key: str) -> float | None:
    value = line.get(key)
    return float(value) if isinstance(value, int | float) else None


def _formula(name: str) -> str:
    return BY_NAME[name].formula
