"""Commands about dictionaries: `sae train | import | export | metrics | list | compare | remove` and `basis fit`."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from core.bases import shelf
from core.bases.fit_request import FitRequest
from core.bases.measure_request import HELD_OUT_CORPUS, MeasureRequest, text_for
from core.bases.metric_names import BY_NAME, METRICS
from core.bases.shelf import Shelved
from core.bases.train_request import TrainRequest, contexts_for
from core.commands.follow import as_document, follow
from core.commands.output import duration, emit, note, number, table
from core.commands.work import absolute
from core.errors import AtlasError
from core.runs import lanes
from core.runs.registry import Registry, Run
from core.workspace import Workspace

MODEL = ("revision", "dtype", "device", "architecture")
TEXT = ("split", "field", "contexts", "length", "stride", "bos")
LISTED = ("explained_variance", "l0", "dead", "loss_recovered")


def sae(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """One of the actions of `sae`."""
    actions = {
        "train": _train,
        "import": _import,
        "export": _export,
        "metrics": _metrics,
        "list": _list,
        "compare": _compare,
        "remove": _remove,
    }
    return actions[arguments.action](arguments, workspace)


def basis(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """`basis fit`: queue the run that makes baselines, and follow it."""
    options = ("head", "k", "name", "tokens", "ica_tokens", "ica_iterations", "seed", "sites")
    params = _model(arguments) | {"corpus": _text(arguments), "families": list(dict.fromkeys(arguments.families))}
    request = FitRequest.from_params(params | {name: getattr(arguments, name) for name in options})
    request.check_here()
    return _submit(arguments, workspace, "basis", request.params())


def carry_out(arguments: argparse.Namespace, workspace: Workspace, run: Run) -> int:
    """Follow a run of one of these kinds unless detached, and print what came of it."""
    lanes.ensure_workers(workspace)
    if arguments.detach:
        emit(arguments, as_document(run), [f"{run.id} is {run.state}: `python -m core runs` shows how it goes"])
        return 0
    done = follow(workspace, run.id)
    spent = None if done.started is None or done.finished is None else done.finished - done.started
    document = {**as_document(done), "folder": str(Registry(workspace).folder(done.id)), "seconds": spent}
    if done.kind == "measure":
        return _print_measured(arguments, workspace, done, document)
    made = made_by(workspace, done.id)
    lines = [f"{done.id} done in {duration(spent)}"]
    for one in made:
        info = one.info
        lines.append(f"{info.key}: {info.units:,} units, {_kind(one)}, in {one.folder}")
    if made:
        lines.append(f"measure it: python -m core sae metrics {made[0].info.key}")
    published = _manifest(workspace, done.id)
    lines += [str(sentence) for sentence in (*published.get("notes", ()), *published.get("warnings", ()))]
    emit(arguments, document | {"dictionaries": [_document(one) for one in made], "warnings": published.get("warnings", [])}, lines)
    return 0


def made_by(workspace: Workspace, run: str) -> list[Shelved]:
    """The dictionaries that a run put on the shelf and that are still there."""
    keys = _keys(_manifest(workspace, run))
    return [one for one in shelf.shelved(workspace) if one.info.key in keys or one.info.recipe.get("run") == run]


def is_damaged(workspace: Workspace, run: Run) -> bool:
    """Whether what a done run made is missing or not what it was."""
    document = _manifest(workspace, run.id)
    if document.get("state") != "complete":
        return True
    for key in _keys(document):
        try:
            shelf.check_weights(shelf.find_named(workspace, key))
        except AtlasError:
            return True
    return False


def _keys(manifest: Mapping[str, Any]) -> list[str]:
    """The dictionaries that a run's manifest names."""
    several = [str(one.get("key")) for one in manifest.get("dictionaries") or [] if isinstance(one, dict)]
    return [*several, str(manifest["dictionary"])] if isinstance(manifest.get("dictionary"), str) else several


def _train(arguments: argparse.Namespace, workspace: Workspace) -> int:
    options = ("site", "head", "kind", "name", "ratio", "k", "tokens", "batch", "lr", "warmup", "decay", "centre", "scale")
    further = (
        "dead_tokens",
        "revive",
        "seed",
        "k_aux",
        "aux_coefficient",
        "bias_rate",
        "buffer",
        "block",
        "checkpoint_seconds",
        "evaluations",
    )
    params = _model(arguments) | {"corpus": _text(arguments), "alphas": arguments.alpha, "mse_reduction": arguments.mse}
    if arguments.contexts is None:
        params["corpus"]["contexts"] = contexts_for(arguments.tokens, arguments.length)
    request = TrainRequest.from_params(params | {name: getattr(arguments, name) for name in (*options, *further)})
    request.check_here()
    return _submit(arguments, workspace, "sae", request.params())


def _import(arguments: argparse.Namespace, workspace: Workspace) -> int:
    from core.bases.formats.bring_request import CONTEXTS, BringRequest

    options = ("site", "name", "file", "any_model", "dtype", "device")
    params: dict[str, Any] = {name: getattr(arguments, name) for name in options}
    params |= {"source": absolute(arguments.source), "model": absolute(arguments.model), "source_revision": arguments.revision}
    params["corpus"] = {"source": absolute(arguments.corpus), "contexts": CONTEXTS}
    request = BringRequest.from_params(params)
    request.check_here()
    return _submit(arguments, workspace, "dictionary", request.params())


def _export(arguments: argparse.Namespace, workspace: Workspace) -> int:
    from core.bases import dictionary
    from core.bases.formats import saelens

    one = shelf.find_named(workspace, arguments.name)
    folder = Path(arguments.out).expanduser().absolute()
    notes = saelens.export(dictionary.load(one), folder)
    document = {"dictionary": one.info.key, "folder": str(folder), "files": sorted(path.name for path in folder.iterdir()), "notes": notes}
    emit(arguments, document, [f"{one.info.key} is in {folder}", *notes])
    return 0


def _metrics(arguments: argparse.Namespace, workspace: Workspace) -> int:
    chosen = [shelf.find_named(workspace, name) for name in dict.fromkeys(arguments.names)]
    if arguments.stored:
        without = next((one for one in chosen if not one.info.metrics), None)
        if without is not None:
            raise AtlasError(f"{without.info.key} has not been measured: leave out --stored.")
        return _print_metrics(arguments, [(one.info.key, one.info.metrics) for one in chosen], {})
    corpus = text_for(chosen[0].info)
    if arguments.corpus is not None:
        corpus = {**HELD_OUT_CORPUS, "source": absolute(arguments.corpus)}
    if arguments.length is not None:
        corpus["length"] = arguments.length
    params: dict[str, Any] = {"dictionaries": [one.info.key for one in chosen], "corpus": corpus}
    options = ("contexts", "output_contexts", "dtype", "device")
    request = MeasureRequest.from_params(params | {name: getattr(arguments, name) for name in options})
    request.check_here()
    return _submit(arguments, workspace, "measure", request.params())


def _list(arguments: argparse.Namespace, workspace: Workspace) -> int:
    found = shelf.shelved(workspace, arguments.subject)
    broken = shelf.damaged(workspace)
    heads = [BY_NAME[name].label.upper() for name in LISTED]
    rows = [["NAME", "SITE", "MODEL", "KIND", "UNITS", *heads]]
    for one in found:
        info = one.info
        rows.append(
            [info.name, str(info.site), info.subject, _kind(one), f"{info.units:,}", *(_shown(info.metrics, name) for name in LISTED)]
        )
    empty = "No dictionaries yet: train one with `python -m core sae train`, or make a baseline with `python -m core basis fit`."
    emit(arguments, {"dictionaries": [_document(one) for one in found], "damaged": broken}, table(rows, range(4, 9)) if found else [empty])
    for sentence in broken:
        note(sentence)
    return 0


def _compare(arguments: argparse.Namespace, workspace: Workspace) -> int:
    from core.bases import dictionary, mmcs

    one, other = shelf.find_named(workspace, arguments.name), shelf.find_named(workspace, arguments.other)
    found = mmcs.similarity(dictionary.load(one), dictionary.load(other))
    lines = [
        f"{one.info.key} in {other.info.key}: MMCS {found['forth']:.4f}; {found['above_09']:.1%} of its units have a partner above 0.9",
        f"{other.info.key} in {one.info.key}: MMCS {found['back']:.4f}",
    ]
    emit(arguments, {"one": one.info.key, "other": other.info.key, **found}, lines)
    return 0


def _remove(arguments: argparse.Namespace, workspace: Workspace) -> int:
    key = shelf.remove(workspace, arguments.name)
    emit(arguments, {"removed": key}, [f"{key} is gone; what was indexed with it stays readable"])
    return 0


def _submit(arguments: argparse.Namespace, workspace: Workspace, kind: str, params: dict[str, Any]) -> int:
    registry = Registry(workspace)
    known = registry.find_active(kind, params)
    run = registry.submit(kind, params)
    if known is not None:
        note(f"{run.id} already does this work")
    return carry_out(arguments, workspace, run)


def _print_measured(arguments: argparse.Namespace, workspace: Workspace, run: Run, document: dict[str, Any]) -> int:
    measured = _manifest(workspace, run.id).get("metrics")
    if not isinstance(measured, dict):
        raise AtlasError(f"The results of {run.id} are damaged: measure again.")
    found = cast(Mapping[str, Mapping[str, Any]], measured)
    keys = [key for key in run.params["dictionaries"] if key in found]
    return _print_metrics(arguments, [(key, found[key]) for key in keys], document)


def _print_metrics(arguments: argparse.Namespace, found: Sequence[tuple[str, Mapping[str, Any]]], run: Mapping[str, Any]) -> int:
    """One dictionary's numbers as a document of their own, several as a list."""
    documents = [{"dictionary": key, **metrics} for key, metrics in found]
    document = documents[0] if len(documents) == 1 else {"run": run.get("id"), "dictionaries": documents}
    plain = [metric for metric in METRICS if any(isinstance(metrics.get(metric.name), float | int) for _, metrics in found)]
    rows = [["", *(key for key, _ in found)]]
    rows += [[f"{metric.label}", *(_shown(metrics, metric.name) for _, metrics in found)] for metric in plain]
    lines = table(rows, range(1, len(rows[0])))
    for key, metrics in found:
        lines.append(f"{key}: {metrics['tokens']:,} held-out tokens, {metrics['output_tokens']:,} predictions; {metrics['excluded']}")
        lines += [f"{BY_NAME[name].label}: {reason}" for name, reason in metrics["undefined"].items() if name in BY_NAME]
    emit(arguments, document, lines)
    return 0


def _model(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"model": absolute(arguments.model), **{name: getattr(arguments, name) for name in MODEL}}


def _text(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"source": absolute(arguments.corpus), **{name: getattr(arguments, name) for name in TEXT}}


def _manifest(workspace: Workspace, run: str) -> dict[str, Any]:
    try:
        found = json.loads((workspace.runs / run / "manifest.json").read_text("utf8"))
    except (OSError, ValueError):
        return {}
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def _document(one: Shelved) -> dict[str, Any]:
    return {"key": one.info.key, "folder": str(one.folder), "bytes": one.note["bytes"], "weights": one.hash, **one.info.to_json()}


def _kind(one: Shelved) -> str:
    info = one.info
    return f"{info.family} {info.rule}{f' k={info.k}' if info.k is not None else ''}"


def _shown(metrics: Mapping[str, Any], name: str) -> str:
    value = metrics.get(name)
    return number(float(value), 2 if name in ("l0", "l1") else 4) if isinstance(value, float | int) else number(None)
