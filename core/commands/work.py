"""Commands about work: `index`, `runs`, `cancel`, `resume`."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, cast

from core.bases import run_titles
from core.causal import run_titles as causal
from core.commands.follow import as_document, describe, follow
from core.commands.output import duration, emit, note, number, table
from core.errors import AtlasError, shown
from core.runs import lanes
from core.runs.locks import dashboard_lock
from core.runs.registry import Registry, Run
from core.units import NEURONS, check_slug, parse_sites
from core.workspace import Workspace

RECENT = 20
CANCEL_SECONDS = 15.0


def index(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Queue an index with the parameters that the dashboard would give it, and follow it unless detached."""
    from core.index.request import IndexRequest

    of_text = {name: getattr(arguments, name) for name in ("split", "field", "contexts", "length", "stride", "bos")}
    request = IndexRequest.from_params(
        {
            "model": absolute(arguments.model),
            "corpus": {"source": absolute(arguments.corpus), **of_text},
            **{name: getattr(arguments, name) for name in ("revision", "dtype", "device", "architecture", "basis", "workers")},
            "keep_inputs": arguments.keep_inputs,
            "sites": _sites(arguments, workspace),
        }
    )
    request.check_here(None)
    _check_layers(arguments, workspace)
    params = request.params()
    registry = Registry(workspace)
    known = registry.find_active("index", params)
    run = registry.submit("index", params)
    if known is not None:
        note(f"{run.id} already does this work")
    return _carry_out(arguments, workspace, run)


def _known(arguments: argparse.Namespace, workspace: Workspace) -> str | None:
    """The slug of the model that was named, where it was loaded here before."""
    from core.index.request import DEFAULT_MODEL
    from core.subject.info import registered, subject_info

    model = DEFAULT_MODEL if arguments.model == "default" else absolute(arguments.model)
    known = {slug: subject_info(workspace, slug).name_or_path for slug in registered(workspace)}
    return next((slug for slug, place in known.items() if model in (slug, place)), None)


def _check_layers(arguments: argparse.Namespace, workspace: Workspace) -> None:
    """Raises AtlasError for a site that a known model does not have: said at once, and no failed run is left. A folder may have changed."""
    from core.subject.info import subject_info

    slug = None if Path(arguments.model).is_dir() else _known(arguments, workspace)
    if slug is not None and arguments.sites is not None:
        parse_sites(arguments.sites, subject_info(workspace, slug).n_layers)


def _sites(arguments: argparse.Namespace, workspace: Workspace) -> str | None:
    """The sites as they were typed, else those that have the dictionary that was named. Raises AtlasError when there are none."""
    if arguments.basis in (None, NEURONS):
        return arguments.sites
    from core.bases import shelf
    from core.store.catalog import shown_sites

    slug = _known(arguments, workspace)
    found = [] if slug is None else shelf.sites_of(workspace, slug, check_slug(arguments.basis, "basis"))
    if arguments.sites is not None and (found or slug is None):
        return arguments.sites  # a model that was never loaded here may be a known one by another name
    if not found:
        there = sorted({one.info.name for one in shelf.shelved(workspace, slug)}) if slug is not None else []
        named = f": there is {', '.join(there[:12])}" if there else ""
        raise AtlasError(f"{slug or arguments.model} has no dictionary “{shown(arguments.basis)}”{named}.")
    return shown_sites(found)


def resume(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Queue a failed, cancelled or damaged run again, and follow it unless detached."""
    registry = Registry(workspace)
    found = registry.get(arguments.run)
    damaged = found.state == "done" and _is_damaged(workspace, found)
    run = registry.resume(found.id, repair=damaged)
    if run.kind == "explain":
        from core.commands import explaining

        return explaining.carry_out(arguments, workspace, run)
    if run.kind in run_titles.KINDS:
        from core.commands import bases

        return bases.carry_out(arguments, workspace, run)
    if run.kind == "ioi":
        from core.commands import patching

        return patching.carry_out(arguments, workspace, run)
    if run.kind == "steer":
        from core.commands import steering

        return steering.carry_out(arguments, workspace, run)
    return _carry_out(arguments, workspace, run)


def cancel(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Ask a run to stop and wait a little until it has."""
    registry = Registry(workspace)
    run = registry.request_cancel(arguments.run)
    end = time.monotonic() + CANCEL_SECONDS
    while run.active and time.monotonic() < end:
        time.sleep(0.1)
        run = registry.get(run.id)
    emit(arguments, as_document(run), [f"{run.id} {run.state if not run.active else 'was asked to stop and will at its next part'}"])
    return 0


def runs(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """List runs, the newest first."""
    registry = Registry(workspace)
    found = registry.list(limit=1_000_000 if arguments.all else RECENT)
    rows = [["RUN", "STATE", "DONE", "OF", "LEFT", "ABOUT"]]
    rows += [[run.id, run.state, number(run.done), number(run.total), duration(run.seconds_left), _about(run)] for run in found]
    empty = "No runs yet: start one with `python -m core index`."
    emit(arguments, {"runs": [as_document(run) for run in found]}, table(rows, (2, 3)) if found else [empty])
    return 0


def _carry_out(arguments: argparse.Namespace, workspace: Workspace, run: Run) -> int:
    lanes.ensure_workers(workspace)
    if arguments.detach:
        emit(arguments, as_document(run), [f"{run.id} is {run.state}: `python -m core runs` shows how it goes"])
        return 0
    done = follow(workspace, run.id)
    remarks = take_in(workspace)
    from core.store.catalog import load_index

    found = load_index(workspace, done.id)
    spent = None if done.started is None or done.finished is None else done.finished - done.started
    units = sum(found.units_at(site) for site in found.sites)
    document: dict[str, Any] = {
        **as_document(done),
        "folder": str(found.folder),
        "subject": found.slug,
        "sites": [str(site) for site in found.sites],
        "units": units,
        "contexts": found.contexts_done,
        "tokens": found.tokens_done,
        "bytes": found.bytes,
        "seconds": spent,
    }
    emit(
        arguments,
        document,
        [
            f"{done.id} done in {duration(spent)}: {units:,} units of {found.slug} over {found.tokens_done:,} tokens"
            f" in {found.contexts_done:,} contexts",
            f"its results are in {found.folder}",
            f"show one: python -m core show {found.slug}/{found.sites[0]}/{found.basis}/0",
        ],
    )
    sys.stdout.flush()  # the remarks come after what they are about
    for sentence in remarks:
        note(sentence)
    return 0


def take_in(workspace: Workspace) -> list[str]:
    """Bring the cache up to date if nobody has it open (an open dashboard does so by itself), and return remarks.

    The run is done and on disk whatever happens here, such as a full disk: that is a remark too.
    """
    import duckdb

    from core.store.cache import Cache

    if dashboard_lock(workspace).held_elsewhere():
        return []
    try:
        cache = Cache.open(workspace)
        try:
            return [*cache.notices, *cache.ingest()]
        finally:
            cache.close()
    except (AtlasError, OSError, duckdb.Error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        return [f"The run is done, but the cache could not take it in ({reason}): the dashboard does so when it next starts."]


def _is_damaged(workspace: Workspace, run: Run) -> bool:
    """Whether the files of a done run are not what its manifest says."""
    if run.kind in run_titles.KINDS:
        from core.commands import bases

        return bases.is_damaged(workspace, run)
    if run.kind == "ioi":
        from core.commands import patching

        return patching.is_damaged(workspace, run)
    if run.kind == "steer":
        from core.commands import steering

        return steering.is_damaged(workspace, run)
    from core.store.catalog import load_index
    from core.store.explained import load_explained
    from core.store.explained_ingest import verify_run
    from core.store.ingest import verify
    from core.store.parts import DamagedPart

    try:
        if run.kind == "explain":
            verify_run(load_explained(workspace, run.id), whole=True)
        else:
            verify(load_index(workspace, run.id), whole=True)
    except (AtlasError, DamagedPart, FileNotFoundError):
        return True
    return False


def absolute(text: str) -> str:
    """Paths are taken from where the command was typed; the worker runs elsewhere."""
    path = os.path.expanduser(text)  # an unknown user's ~ stays as it is
    return str(Path(path).absolute()) if text and (os.path.exists(path) or text.startswith(("~", "./", "../"))) else text


def _about(run: Run) -> str:
    if run.state == "running":
        return describe(run).partition(": ")[2]
    if run.error:
        return run.error
    if told := run_titles.title(run.kind, run.params) or causal.title(run.kind, run.params):
        return told
    if run.kind in ("explain", "puzzles"):
        from core.ui.explain_estimate import title

        return title(run.params)
    corpus = run.params.get("corpus")
    source = cast(dict[str, Any], corpus).get("source", "") if isinstance(corpus, dict) else ""
    basis = str(run.params.get("basis") or "")
    what = f"{basis} of {run.params.get('model', '')}" if basis else str(run.params.get("model", ""))
    return " over ".join(part for part in (what, str(source)) if part)
