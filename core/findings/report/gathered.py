"""What a report says of one unit, gathered from the workspace without its cache, so that it works beside an open dashboard."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from core.findings.entry import Entry
from core.findings.findings import Findings
from core.store.effects import EffectRun, effects_of
from core.store.explained import explained_runs
from core.store.explanation_view import ExplanationView, load_explanation
from core.store.features import Feature, load_feature
from core.store.texts import load_vocab
from core.store.units import UnitView, load_unit
from core.units import UnitName
from core.vocab import Vocab
from core.workspace import Workspace


@dataclass(frozen=True)
class Gathered:
    """explanations: those with words, the best score first; effect: the newest ablation over records; findings: newest change first."""

    view: UnitView
    vocab: Vocab
    feature: Feature | None
    explanations: tuple[ExplanationView, ...]
    effect: EffectRun | None
    findings: tuple[Entry, ...]


def gather(workspace: Workspace, unit: UnitName, run: str | None = None) -> Gathered:
    """Read one unit. run: the index run; the one over most tokens if not given. Raises AtlasError."""
    view = load_unit(workspace, unit, run)
    explanations = [load_explanation(workspace, identity) for identity in _identities(workspace, unit)]
    found = sorted((one for one in explanations if not one.failed), key=lambda one: (-_rho(one), one.identity))
    entries = [entry for entry in Findings(workspace).entries(unit=unit) if entry.kind != "member"]
    return Gathered(
        view=view,
        vocab=load_vocab(workspace, unit.subject),
        feature=load_feature(workspace, view),
        explanations=tuple(found),
        effect=next(iter(effects_of(workspace, unit)), None),
        findings=tuple(entries),
    )


def _identities(workspace: Workspace, unit: UnitName) -> list[str]:
    found: list[str] = []
    for run in explained_runs(workspace):
        for part in run.parts:
            try:
                rows = pq.read_table(run.path(part, "explanations"), columns=["explanation"], filters=[("unit", "==", str(unit))])
            except (OSError, pa.ArrowException, KeyError, ValueError):
                continue  # a damaged part: its run's page says so, and what is intact is told here
            found += rows.column("explanation").to_pylist()
    return found


def _rho(one: ExplanationView) -> float:
    best = one.headline()
    return best.score.rho if best is not None and best.score.rho == best.score.rho else -2.0
