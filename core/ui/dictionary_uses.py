"""What else in the workspace depends on a dictionary, and what becomes of it when the dictionary is removed. No Streamlit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.errors import AtlasError
from core.runs.registry import Registry, Run
from core.store.catalog import indexes
from core.ui import words
from core.ui.dictionary_table import Entry
from core.units import NEURONS, parse_sites
from core.workspace import Workspace

_MANY_LAYERS = 10_000
_NAMED = 3


@dataclass(frozen=True)
class Uses:
    """Ids of runs. working: queued or at work with it. indexes: made with these very weights. explained: about its features."""

    working: Sequence[str]
    indexes: Sequence[str]
    explained: Sequence[str]


def uses_of(workspace: Workspace, registry: Registry, entry: Entry) -> Uses:
    """Everything that names the dictionary or pins the hash of its weights."""
    info = entry.info
    pinned = [
        index.run
        for index in indexes(workspace)
        if (index.slug, index.basis) == (info.subject, info.name) and index.dictionary(info.site).get("weights_sha256") == entry.one.hash
    ]
    runs = registry.list()
    explained = [run.id for run in runs if run.kind == "explain" and not run.active and _names(run, entry)]
    return Uses([run.id for run in runs if run.active and _names(run, entry)], pinned, explained)


def consequences(entry: Entry, uses: Uses) -> list[str]:
    """What removing does, a sentence each."""
    info = entry.info
    said = [f"{info.key} is deleted from this workspace: {words.size(entry.one.note['bytes'])} of weights, and what was measured of it."]
    if uses.indexes:
        read, kept = ("was", "its features stay") if len(uses.indexes) == 1 else ("were", "their features stay")
        said.append(
            f"{_listed(uses.indexes)} {read} read through these very weights: {kept} on Explore and Unit, but nothing more can be read"
            " through them: no Try text, no record again, not the rest of an index that was cut."
        )
    if uses.explained:
        said.append(f"What {_listed(uses.explained)} wrote about its features stays.")
    return [*said, f"To have it back it must be {_again(entry)}."]


def _again(entry: Entry) -> str:
    source = entry.info.source
    if source:
        where = str(source.get("repository") or source.get("path") or "")
        return f"loaded again{f' from {where}' if where else ''}"
    made = "trained again" if entry.info.family == "sae" else "made again"
    return f"{made}, as {entry.run} did" if entry.run else made


def _names(run: Run, entry: Entry) -> bool:
    """Whether a run's parameters name the dictionary."""
    info, params = entry.info, run.params
    if any(text == entry.key or text.startswith(f"{entry.key}/") for text in _texts(params)):
        return True  # as a dictionary, or as the basis of a unit, whatever the run does with it
    if run.kind != "index" or (params.get("model"), params.get("basis", NEURONS)) != (info.subject, info.name):
        return False
    try:
        return info.site in parse_sites(str(params.get("sites")), _MANY_LAYERS)
    except AtlasError:
        return False


def _texts(value: object) -> Iterator[str]:
    """Every text among parameters, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(each)


def _listed(runs: Sequence[str]) -> str:
    """`index-a and index-b`; of many the first few and how many more."""
    if len(runs) > _NAMED:
        return f"{', '.join(runs[:_NAMED])} and {len(runs) - _NAMED} more"
    return " and ".join([", ".join(runs[:-1]), runs[-1]] if len(runs) > 1 else runs)
