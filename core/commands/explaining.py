"""Commands that explain and score: `explain`, `simulate`, `score`, `revise`, `study`."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from core.autointerp.cost import check_budget, cost, over_budget, record_tokens
from core.autointerp.request import ARMS, ExplainerChoice, ExplainRequest, Setting, SimulatorChoice
from core.autointerp.selection import Selection, select, select_across
from core.autointerp.studies import STUDIES, study_settings
from core.autointerp.study_tables import record
from core.commands.follow import as_document, follow
from core.commands.output import duration, emit, note, number, printable, table
from core.commands.study_output import study_result
from core.commands.work import take_in
from core.errors import AtlasError, shown
from core.llm.endpoint import Endpoint
from core.runs import lanes
from core.runs.registry import Registry, Run
from core.store.catalog import find_unit, indexes, load_index
from core.store.explained import load_explained
from core.store.explained_ingest import places
from core.store.explanation_view import ExplanationView, ScoreView, load_explanation, load_scored
from core.store.parts import read_columns
from core.units import UnitName
from core.workspace import Workspace

SAMPLE = 50
"""Units drawn of each basis and site by the study of interpretability, unless the filter says otherwise."""

SHOWN = 200
"""Explanations listed for people; `--json` gives all."""


def explain(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Explain units, simulate, score."""
    setting = _setting(arguments)
    return _carry_out(arguments, workspace, ExplainRequest(_units(arguments, workspace), (setting,), arguments.seed, budget_of(arguments)))


def simulate(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Simulate a sentence or an earlier explanation on a unit's records and print simulated beside true."""
    return _again(arguments, workspace, with_records=True)


def score(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Score a sentence or an earlier explanation, on the records asked for."""
    return _again(arguments, workspace, with_records=False)


def revise(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Explain, then revise; every step with its scores."""
    if arguments.arm not in ARMS:
        raise AtlasError(f"“{arguments.arm}” is not an arm of revision: choose {', '.join(ARMS)}.")
    setting = replace(_setting(arguments), arm=arguments.arm).checked()
    return _carry_out(arguments, workspace, ExplainRequest(_units(arguments, workspace), (setting,), arguments.seed, budget_of(arguments)))


def study(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Do one of the studies and print its table."""
    if arguments.name not in STUDIES:
        raise AtlasError(f"“{arguments.name}” is not a study: choose {', '.join(STUDIES)}.")
    settings = study_settings(arguments.name, _setting(arguments), tuple(index.slug for index in indexes(workspace)))
    units = _across(arguments, workspace) if STUDIES[arguments.name].across else _units(arguments, workspace)
    request = ExplainRequest(units, settings, arguments.seed, budget_of(arguments), arguments.name)
    return _carry_out(arguments, workspace, request)


def explanation_document(view: ExplanationView) -> dict[str, Any]:
    """One explanation as `--json` prints it: its headline score, and the controls over the same records beside it."""
    own = view.headline()
    simulator = view.settings.get("simulator", {})
    document: dict[str, Any] = {
        "id": view.identity,
        "unit": str(view.unit),
        "text": view.text,
        "explainer": view.explainer,
        "author": view.author,
        "simulator": own.simulator if own is not None else simulator.get("name", ""),
        "setting": view.setting,
        "step": view.step,
        "score": None if own is None else _score_document(own),
        "controls": {},
        "scores": [_score_document(one) | {"role": one.role} for one in view.scores],
        "train_contexts": list(view.train),
        "failed": view.failed,
    }
    if own is not None:
        for role in ("lookup", "shuffled", "paraphrase"):
            control = view.score(role, own.score.kind, own.split)
            if control is not None:
                said = {"text": control.said, "unit": control.said_of} if control.said_of else {}
                document["controls"][role] = _score_document(control) | said
    return document


def _score_document(one: ScoreView) -> dict[str, Any]:
    score = one.score
    names = ("kind", "rho", "low", "high", "r2", "explained", "record_rho", "n_tokens", "n_records", "coverage", "reason")
    recipe = {"split": one.split, "simulator": one.simulator, "calibration": one.calibration, "contexts": list(one.contexts)}
    return {name: getattr(score, name) for name in names} | recipe


def _again(arguments: argparse.Namespace, workspace: Workspace, *, with_records: bool) -> int:
    setting = _setting(arguments)
    if arguments.say is not None:
        explainer, unit = ExplainerChoice("by-hand", text=arguments.say), UnitName.parse(arguments.what)
    elif arguments.what.count("/") == 3:
        raise AtlasError("A unit needs a sentence about it: add --say SENTENCE, or name an explanation in place of the unit.")
    else:
        explainer, unit = ExplainerChoice("given", given=arguments.what), load_explanation(workspace, arguments.what).unit
    request = ExplainRequest((unit,), (replace(setting, explainer=explainer.checked()).asked(),), arguments.seed, budget_of(arguments))
    return _carry_out(arguments, workspace, request, with_records=with_records)


def _units(arguments: argparse.Namespace, workspace: Workspace) -> tuple[UnitName, ...]:
    names = tuple(UnitName.parse(text) for text in arguments.units)
    if bool(names) == (arguments.filter is not None):
        raise AtlasError("Name units, or choose them with --filter, one of the two.")
    if names:
        for name in names:
            find_unit(workspace, name, arguments.run)
        return names
    selection = Selection.parse(arguments.filter)
    found = indexes(workspace)
    if arguments.run is not None:
        index = load_index(workspace, arguments.run)
    elif found:
        index = found[0]
    else:
        raise AtlasError("Nothing is indexed yet: start an index with `python -m core index`.")
    return tuple(select(workspace, index, selection))


def _across(arguments: argparse.Namespace, workspace: Workspace) -> tuple[UnitName, ...]:
    """A sample of every basis of the largest index's subject, and of its random-weights control."""
    if arguments.units:
        raise AtlasError("This study draws units of every basis: choose sites and a sample with --filter instead of naming units.")
    found = indexes(workspace) if arguments.run is None else [load_index(workspace, arguments.run)]
    slugs = {f"{found[0].slug.removesuffix('-random')}{ending}" for ending in ("", "-random")} if found else set[str]()
    mine = [index for index in found if index.slug in slugs and (not arguments.basis or index.basis in arguments.basis)]
    missing = sorted(set(arguments.basis or ()) - {index.basis for index in mine})
    if missing:
        raise AtlasError(f"The basis “{shown(missing[0])}” is not indexed: there is {', '.join(sorted({one.basis for one in found}))}.")
    return tuple(select_across(workspace, mine, Selection.parse(arguments.filter or f"sample={SAMPLE}")))


def _setting(arguments: argparse.Namespace) -> Setting:
    explaining, simulating = endpoint_of(arguments, "explainer"), endpoint_of(arguments, "simulator")
    explainer = ExplainerChoice(
        arguments.explainer,
        explaining if arguments.explainer in ("token-activation", "token-list", "logit-effect") else None,
        records=arguments.records,
        length=arguments.length,
        source=arguments.source,
        quantile=arguments.quantile,
        normalise=arguments.normalise,
        read=arguments.read,
        temperature=arguments.temperature,
    )
    simulator = SimulatorChoice(
        arguments.simulator,
        simulating if arguments.simulator in ("local", "completions", "chat") else None,
        arguments.calibration,
        arguments.logprobs,
    )
    controls = tuple(arguments.controls.split(",")) if arguments.controls else ()
    restates = "paraphrase" in controls and explainer.endpoint is None and simulator.endpoint is None
    return Setting(
        explainer=explainer.checked(),
        simulator=simulator.checked(),
        paraphraser=explaining or simulating if restates else None,
        kinds=tuple(arguments.kind or ["top-and-random"]),
        split=arguments.split,
        each=arguments.each,
        active_only=arguments.active_only,
        controls=controls,
        index=arguments.run or "",
    ).asked()


def endpoint_of(arguments: argparse.Namespace, role: str) -> Endpoint | None:
    """What `--explainer-model` and `--simulator-model` name; `--model` and `--endpoint` stand for both."""
    model = getattr(arguments, f"{role}_model") or arguments.model
    url = getattr(arguments, f"{role}_endpoint") or arguments.endpoint
    if not model:
        return None
    if arguments.simulator == "local" and role == "simulator":
        url = "in-process"
    return Endpoint(
        url or "in-process", model, arguments.key_env, arguments.concurrency, arguments.timeout, arguments.price_in, arguments.price_out
    )


def budget_of(arguments: argparse.Namespace) -> dict[str, float] | None:
    """The caps that were given."""
    caps = {"calls": arguments.max_calls, "tokens": arguments.max_tokens, "money": arguments.max_money}
    return {name: float(cap) for name, cap in caps.items() if cap is not None} or None


def _carry_out(arguments: argparse.Namespace, workspace: Workspace, request: ExplainRequest, *, with_records: bool = False) -> int:
    first = find_unit(workspace, request.units[0], request.settings[0].index or None)
    expected = cost(request, record_tokens(first.slice))
    check_budget(request.budget, expected)
    if expected.asked.calls or expected.loaded:
        note(f"before it starts: {expected}")
    if short := over_budget(request.budget, expected):
        note(short)
    lane = "interactive" if len(request.units) * len(request.settings) <= 8 else "batch"
    run = Registry(workspace).submit("explain", request.to_params(), lane=lane)
    return carry_out(arguments, workspace, run, with_records=with_records)


def carry_out(arguments: argparse.Namespace, workspace: Workspace, run: Run, *, with_records: bool = False) -> int:
    """Follow a queued run that explains to its end and print what came of it; only that it is queued when detached."""
    lanes.ensure_workers(workspace)
    if arguments.detach:
        emit(arguments, as_document(run), [f"{run.id} is {run.state}: `python -m core runs` shows how it goes"])
        return 0
    done = follow(workspace, run.id)
    for sentence in take_in(workspace):
        note(sentence)
    found = load_explained(workspace, done.id)
    views = _views(workspace, done.id) if with_records else load_scored(workspace, done.id)
    document = {
        **as_document(done),
        "study": found.study,
        "spend": found.spend,
        "explanations": [explanation_document(view) | (_records(view) if with_records else {}) for view in views],
    }
    lines = _lines(views)
    if found.study:
        document["table"], lines = study_result(found.study, [record(view, *places(found.run, view.identity)) for view in views])
    if with_records:
        lines += [line for view in views for line in _record_lines(view)]
    emit(arguments, document, [*lines, *_closing(done, views)])
    return 0


def _views(workspace: Workspace, run: str) -> list[ExplanationView]:
    """The explanations of a run with what was simulated on each record."""
    found = load_explained(workspace, run)
    tables = [read_columns(found.path(part, "explanations"), ["explanation"]) for part in found.parts]
    identities = [identity for part in tables for identity in part.column("explanation").to_pylist()]
    return [load_explanation(workspace, identity) for identity in sorted(identities, key=lambda identity: places(found.run, identity))]


def _lines(views: Sequence[ExplanationView]) -> list[str]:
    rows = [["UNIT", "RHO", "INTERVAL", "COVER", "LOOKUP", "SHUFFLED", "EXPLANATION"]]
    for view in views[:SHOWN]:
        document = explanation_document(view)
        own, controls = document["score"], document["controls"]
        name = str(view.unit).partition("/")[2] + (f" step {view.step}" if view.step else "")
        if own is None:
            rows.append([name, "–", "", "", "", "", f"failed: {printable(view.failed)}"])
            continue
        reason = f" ({own['reason']})" if own["reason"] else ""
        rows.append(
            [
                name,
                number(own["rho"], 2),
                f"{number(own['low'], 2)} to {number(own['high'], 2)}",
                f"{own['coverage']:.0%}",
                *(number(controls.get(role, {}).get("rho"), 2) for role in ("lookup", "shuffled")),
                printable(view.text) + reason,
            ]
        )
    more = [f"… and {len(views) - SHOWN:,} more: --json gives all"] if len(views) > SHOWN else []
    return table(rows, (1, 3, 4, 5)) + more


def _records(view: ExplanationView) -> dict[str, Any]:
    return {
        "records": [
            {
                "context": one.context, "split": one.split, "origin": one.origin, "pieces": list(one.pieces), "failed": one.failed,
                "activations": one.activations.tolist(), "simulated": one.simulated.tolist(), "scale": one.scale,
            }
            for one in view.simulations
        ]
    }  # fmt: skip


def _record_lines(view: ExplanationView) -> list[str]:
    lines: list[str] = []
    for one in view.simulations:
        lines += ["", f"{one.origin} record, context {one.context} ({one.split})" + (f": failed: {one.failed}" if one.failed else "")]
        rows = [["TOKEN", "TRUE", "SIMULATED"]]
        for piece, true, simulated in zip(one.pieces, one.activations.tolist(), one.simulated.tolist(), strict=False):
            rows.append([printable(piece), number(true, 2), number(simulated, 2)])
        lines += table(rows, (1, 2))
    return lines


def _closing(run: Run, views: Sequence[ExplanationView]) -> list[str]:
    spent = None if run.started is None or run.finished is None else run.finished - run.started
    return [f"{run.id} done in {duration(spent)}: {len(views):,} explanations"]
