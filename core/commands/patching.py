"""The command `ioi`: the baseline of sentences about an indirect object, and curves of patching features into them."""

import argparse
from collections.abc import Iterable
from typing import Any

import numpy as np

from core.causal.ioi_request import ORDER_NAMES, IoiRequest, offered
from core.commands.follow import as_document, follow
from core.commands.output import duration, emit, note, number, table
from core.errors import AtlasError
from core.runs import lanes
from core.runs.registry import Registry, Run
from core.store.ioi import POINTS, Curve, IoiRun, load_ioi, points, ranked
from core.workspace import Workspace

SHOWN_SIZES = (0, 1, 4, 16, 64, 256, 1024)
LISTED = 20
"""Features of each curve in the document."""


def ioi(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Queue the run with what the page would give it, and print its curves when it is done."""
    options = ("model", "dtype", "pairs", "seeds", "first_seed", "thresholds", "lowest", "highest", "again", "bos")
    params: dict[str, Any] = {name: getattr(arguments, name) for name in options}
    params["decompositions"] = list(dict.fromkeys([*arguments.decompositions, *_at(workspace, arguments.model, arguments.sites)]))
    params["orders"] = None if arguments.orders is None else _listed(arguments.orders)
    wording = {"templates": arguments.template}
    wording |= {
        name: None if getattr(arguments, name) is None else _listed(getattr(arguments, name)) for name in ("names", "places", "objects")
    }
    params["wording"] = wording
    request = IoiRequest.from_params(params)
    request.check_here(workspace)
    registry, made = Registry(workspace), request.to_params()
    known = registry.find_active("ioi", made)
    run = registry.submit("ioi", made, lane="batch" if request.decompositions else "model")
    if known is not None:
        note(f"{run.id} already does this work")
    return carry_out(arguments, workspace, run)


def carry_out(arguments: argparse.Namespace, workspace: Workspace, run: Run) -> int:
    """Follow a queued run unless detached, and print it."""
    lanes.ensure_workers(workspace)
    if arguments.detach:
        emit(arguments, as_document(run), [f"{run.id} is {run.state}: `python -m core runs` shows how it goes"])
        return 0
    done = follow(workspace, run.id)
    found = load_ioi(workspace, done.id)
    curves = list(_curves(workspace, found))
    spent = None if done.started is None or done.finished is None else done.finished - done.started
    document = {**as_document(done), "folder": str(found.folder), "seconds": spent, "subject": found.slug}
    document |= {"baseline": [{"seed": one.seed, "dropped_names": list(one.dropped), **one.baseline} for one in found.sentences]}
    emit(arguments, document | {"curves": curves, "provenance": found.manifest["provenance"]}, _lines(found, curves, spent))
    return 0


def is_damaged(workspace: Workspace, run: Run) -> bool:
    """Whether a done run's files cannot be read."""
    try:
        found = load_ioi(workspace, run.id)
        points(workspace, found)
    except AtlasError:
        return True
    return not found.complete


def _curves(workspace: Workspace, found: IoiRun) -> Iterable[dict[str, Any]]:
    everything: Any = points(workspace, found)
    for one in found.curves:
        mine = everything[(everything["key"] == one.key) & (everything["order"] == one.order) & (everything["seed"] == one.seed)]
        made = [{name: row[name] for name in POINTS} for row in mine.sort_values("features").to_dict("records")]
        best: Any = ranked(workspace, found, one.key, one.order).head(LISTED)
        yield {
            "basis": one.key,
            "order": one.order,
            "seed": one.seed,
            "points": [{**point, "features": int(point["features"])} for point in made],
            "top": [{"unit": int(row["unit"]), "rank": float(row["rank"])} for row in best.to_dict("records")],
            **_said(one),
        }


def _said(one: Curve) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ("units", "supported", "items", "plain", "seconds", "texts", "positions")}


def _lines(found: IoiRun, curves: list[dict[str, Any]], spent: float | None) -> list[str]:
    rows = [["SEED", "SENTENCES", "PAIRS", "ACCURACY", "LOGIT DIFF.", "COUNTERF.", "LOGIT DIFF.", "KL"]]
    for one in found.sentences:
        for kind, told in one.baseline.items():
            texts = [cell for text in ("original", "counterfactual") for cell in _text(told[text])]
            rows.append([str(one.seed), kind, str(told["pairs"]), *texts, number(told["kl"])])
    lines = [f"{found.run} done in {duration(spent)}", "", *table(rows, (0, 2, 3, 4, 5, 6, 7))]
    if dropped := sorted({name for one in found.sentences for name in one.dropped}):
        lines.append(f"{len(dropped)} of our names are not single tokens here and were left out")
    if not curves:
        return lines
    most = max(point["features"] for one in curves for point in one["points"])
    sizes = [size for size in SHOWN_SIZES if size < most]
    rows = [["DECOMPOSITION", "ORDER", "SEED", *(f"KL {size:,}" for size in sizes), "ALL"]]
    for one in curves:
        x, y = ([point[name] for point in one["points"]] for name in ("features", "kl"))
        cells = [number(float(np.interp(size, x, y))) if size <= x[-1] else "–" for size in sizes]
        rows.append([one["basis"], ORDER_NAMES[one["order"]], str(one["seed"]), *cells, number(y[-1])])
    return [*lines, "", "KL from the counterfactual, in nats, with so many features patched:", *table(rows, range(2, len(rows[0])))]


def _text(told: dict[str, float]) -> list[str]:
    return [f"{told['accuracy']:.0%}", number(told["logit_difference"], 2)]


def _at(workspace: Workspace, model: str, sites: str | None) -> list[str]:
    """Everything that can be patched at some sites. Raises AtlasError for a site that has no dictionary."""
    if sites is None:
        return []
    found: list[str] = []
    there = offered(workspace, model)
    for site in _listed(sites):
        here = [key for key in there if key.split("/")[0] == site]
        if not here:
            raise AtlasError(f"{model} has no dictionary at {site}: write {site}/neurons for its axes, or train one there.")
        found += here
    return found


def _listed(text: str) -> list[str]:
    return [piece.strip() for piece in text.split(",") if piece.strip()]
