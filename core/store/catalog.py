"""The catalog: which indexes the workspace holds, read from the manifests of its runs."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from core.errors import AtlasError, shown
from core.remembered import FileKey, Remembered, file_key
from core.store.parts import DamagedPart
from core.units import NEURONS, SITE_KINDS, Site, SiteKind, UnitName, check_slug, in_order
from core.workspace import Workspace

MANIFEST_SCHEMA = 1
IMPORTED = "imported.json"
"""What is in the folder of a run that came in a bundle, beside its manifest: from where."""
T = TypeVar("T")


@dataclass(frozen=True)
class IndexInfo:
    """One index run as its manifest describes it. `manifest` is the whole document."""

    run: str
    folder: Path
    written: float
    """When the manifest was last replaced, seconds since 1970."""
    state: str
    generation: int
    contexts_done: int
    contexts_total: int
    tokens_done: int
    subject: dict[str, Any]
    slice: dict[str, Any]
    basis: str
    sites: tuple[Site, ...]
    """All that the run was asked for."""
    published: tuple[Site, ...]
    """Those whose files are there, in the model's order; none before the first part is done."""
    signed: dict[str, bool]
    provenance: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def slug(self) -> str:
        return self.subject["slug"]

    @property
    def n_layers(self) -> int:
        return int(self.subject["n_layers"])

    @property
    def complete(self) -> bool:
        return self.state == "complete"

    @property
    def path(self) -> Path:
        return self.folder / "manifest.json"

    def units_at(self, site: Site) -> int:
        """How many units the basis has at a site."""
        units: dict[str, Any] = self.manifest.get("units") or {}
        return int(units.get(str(site), self.subject["widths"][site.kind]))

    @property
    def excerpt(self) -> bool:
        """Whether the run came in a bundle: chosen units only, with the contexts that they need."""
        return "text" in self.manifest

    @property
    def imported_from(self) -> str:
        """The program whose files it was made of, as sentences say it; empty for an index that was read here or there by this program."""
        return str((self.manifest.get("imported") or {}).get("from", ""))

    @property
    def bands_said(self) -> dict[str, str]:
        """What bands of its records hold, where that is other than in an index of this program's."""
        return (self.manifest.get("imported") or {}).get("bands", {})

    @property
    def text(self) -> str:
        """What names the contexts that its ranks mean: the slice, or the run itself when it brings an excerpt of its slice along."""
        return self.run if self.excerpt else str(self.slice["id"])

    def units_of(self, site: Site) -> Sequence[int]:
        """The numbers of the units whose results are there, ascending: all of the basis, except in an excerpt."""
        held: dict[str, list[int]] = self.manifest.get("held") or {}
        return held[str(site)] if str(site) in held else range(self.units_at(site))

    def dictionary(self, site: Site) -> dict[str, Any]:
        """What the run says of the dictionary at a site, see `core.bases.basis.Basis.said`; empty for plain neurons."""
        return (self.manifest.get("dictionaries") or {}).get(str(site), {})

    def part(self, site: Site, name: str) -> Path:
        """The Parquet file `name` (units, records, positions) of a site."""
        return self.folder / self.manifest["files"][str(site)][name]["path"]

    def effects(self, site: Site) -> Path | None:
        """The effects file of a site, None while there is none."""
        return self._late("effects", site)

    def codes(self, site: Site) -> Path | None:
        """The file with every non-zero activation of a site's units; None while there is none, and for units that are not sparse."""
        return self._late("codes", site)

    def _late(self, what: str, site: Site) -> Path | None:
        entry = (self.manifest.get(what) or {}).get(str(site))
        return None if entry is None else self.folder / entry["path"]

    def late(self) -> list[tuple[str, Path, dict[str, Any]]]:
        """The files that are made when all is read: (site, path, its entry in the manifest)."""
        found = [(site, entry) for what in ("effects", "codes") for site, entry in (self.manifest.get(what) or {}).items() if entry]
        return [(site, self.folder / entry["path"], entry) for site, entry in found]

    def parts(self) -> list[tuple[str, str, Path, dict[str, Any]]]:
        """Every file of the generation: (site, name, path, its entry in the manifest)."""
        files: dict[str, dict[str, dict[str, Any]]] = self.manifest["files"]
        return [(site, name, self.folder / entry["path"], entry) for site, named in files.items() for name, entry in named.items()]

    def texts(self) -> list[tuple[Path, dict[str, Any]]]:
        """The files of an excerpt's own text: (path, its entry in the manifest)."""
        return [(self.folder / entry["path"], entry) for entry in (self.manifest.get("text") or {}).values()]

    def inputs(self) -> list[tuple[Path, dict[str, Any]]]:
        """The files in which the run kept the inputs of its sites (`core.index.inputs`): (path, its entry in the manifest)."""
        return [(self.folder / entry["path"], entry) for entry in (self.manifest.get("inputs") or {}).values()]

    @property
    def tokens_kept(self) -> int:
        """Tokens, a BOS of each context among them, of which the inputs were kept and nobody has deleted them since."""
        there = [path.is_file() and path.stat().st_size == int(entry["bytes"]) for path, entry in self.inputs()]
        return self.tokens_done + self.contexts_done * int(bool(self.slice["bos"])) if there and all(there) else 0

    @property
    def bytes(self) -> int:
        """Size of the generation's files on disk, the late ones and the inputs that are there included."""
        entries = [entry for *_, entry in self.parts()] + [entry for *_, entry in self.late()] + [entry for _, entry in self.texts()]
        entries += [entry for path, entry in self.inputs() if path.is_file()]
        return sum(int(entry["bytes"]) for entry in entries)


_manifests: Remembered[FileKey, IndexInfo | None] = Remembered(4096)


class NewerManifest(Exception):
    """A manifest that a newer program wrote; its text is the layout's number."""


def indexes(workspace: Workspace) -> list[IndexInfo]:
    """Every readable index: excerpts last, those of plain neurons first, then the one over most tokens, then the newer.

    Damaged manifests are left out.
    """
    return scan(workspace)[0]


def damaged(workspace: Workspace) -> list[str]:
    """One sentence for each manifest that cannot be read."""
    return list(scan(workspace)[1].values())


def load_index(workspace: Workspace, run: str) -> IndexInfo:
    """One run's index. Raises AtlasError."""
    found, broken = scan(workspace)
    for index in found:
        if index.run == run:
            return index
    if run in broken:
        raise AtlasError(broken[run])
    raise AtlasError(f"The run “{shown(run)}” has no index here{_present(index.run for index in found)}.")


def indexes_of(workspace: Workspace, subject: str | None, run: str | None = None, basis: str | None = None) -> list[IndexInfo]:
    """The indexes of a subject, of run `run` and in `basis` only if those are given, the one over most tokens first; at least one.

    Without a subject those of the run's, or of the largest such index's. Raises AtlasError saying what there is.
    """
    found, broken = scan(workspace)
    if not found:
        raise AtlasError(
            next(iter(broken.values()), "Nothing is indexed yet: start an index on the Runs page or with python -m core index.")
        )
    if run is not None:
        found = [load_index(workspace, run)]
    where = "here" if run is None else f"in the run “{run}”"
    read_so = [index for index in found if basis in (None, index.basis)]
    chosen = (read_so or found)[0].slug if subject is None else subject
    if chosen not in {index.slug for index in found}:
        raise AtlasError(f"The model “{chosen}” is not indexed {where}{_present(index.slug for index in found)}.")
    mine = [index for index in read_so if index.slug == chosen]
    if not mine:
        have = _present(index.basis for index in found if index.slug == chosen)
        raise AtlasError(f"“{chosen}” is not indexed in the basis “{shown(str(basis))}” {where}{have}.")
    return mine


def find_index(workspace: Workspace, subject: str, site: Site, basis: str = NEURONS, run: str | None = None) -> IndexInfo:
    """The index that answers for a basis at a site: of run `run`, else the one over most tokens. Raises AtlasError saying what there is."""
    mine = indexes_of(workspace, subject, run)
    if site.layer >= mine[0].n_layers:
        raise AtlasError(f"Layer {site.layer} is out of range: the model's layers are 0 to {mine[0].n_layers - 1}.")
    for index in mine:
        if site in index.published and index.basis == basis:
            return index
    others = sorted({index.basis for index in mine if site in index.published})
    if others:
        raise AtlasError(f"{site} is not indexed in the basis “{shown(basis)}”: the index has {', '.join(others)}.")
    have = {site for index in mine for site in index.published}
    if not have:
        raise AtlasError(f"{site} of {subject} is not indexed yet: its first results are still being made.")
    raise AtlasError(f"{site} of {subject} is not indexed; indexed are {shown_sites(have)}.")


def find_unit(workspace: Workspace, name: UnitName, run: str | None = None) -> IndexInfo:
    """The index that answers for a unit, which it holds: of run `run`, else the one over most tokens. Raises AtlasError."""
    index = find_index(workspace, name.subject, name.site, name.basis, run)
    width = index.units_at(name.site)
    if not 0 <= name.index < width:
        raise AtlasError(f"Unit {name.index} is out of range: {name.site} has units 0 to {width - 1}.")
    if name.index in index.units_of(name.site):
        return index
    for other in indexes_of(workspace, name.subject, run, name.basis):
        if name.site in other.published and name.index in other.units_of(name.site):
            return other
    raise AtlasError(f"{name} is not in the bundle that was imported; of {name.site} it has {_some(index.units_of(name.site))}.")


def _some(units: Sequence[int]) -> str:
    more = f" and {len(units) - 8} more" if len(units) > 8 else ""
    return f"{', '.join(map(str, units[:8]))}{more}"


def read_current(workspace: Workspace, index: IndexInfo, read: Callable[[IndexInfo], T]) -> T:
    """Run `read(index)`; if a file is gone because a newer generation was published meanwhile, once more with that one.

    Raises AtlasError naming the file that is missing or damaged.
    """
    try:
        try:
            return read(index)
        except FileNotFoundError:
            current = load_index(workspace, index.run)
            if current.generation == index.generation:
                raise
            return read(current)
    except FileNotFoundError as error:
        raise AtlasError(broken_file(workspace, index.run, Path(str(error.filename)), "is missing")) from None
    except DamagedPart as damage:
        raise AtlasError(broken_file(workspace, index.run, damage.path, "is damaged")) from None


def imported_runs(workspace: Workspace) -> list[str]:
    """The runs of the workspace that came in a file, of any kind, by name."""
    return sorted(path.parent.name for path in workspace.runs.glob(f"*/{IMPORTED}"))


def broken_file(workspace: Workspace, run: str, path: Path, what: str) -> str:
    """The sentence about a file of a run that “is missing” or “is damaged”."""
    place = path.relative_to(workspace.path) if path.is_relative_to(workspace.path) else path.name
    if (workspace.runs / run / IMPORTED).exists():
        return f"{place} {what}: import its bundle again."
    return f"{place} {what}: make it again with python -m core resume {run}."


def newer_manifest(run: str, error: NewerManifest) -> str:
    """The sentence about a manifest that this program is too old to read."""
    return f"runs/{run}/manifest.json was written by a newer Neuron Atlas (layout {error}): update the program to see this run."


def shown_sites(sites: Iterable[Site]) -> str:
    """Sites as a person writes them: “mlp.0-29, resid.3”."""
    spans: list[str] = []
    chosen = set(sites)
    for kind in SITE_KINDS:
        spans += [_span(kind, first, last) for first, last in _runs(sorted(site.layer for site in chosen if site.kind == kind))]
    return ", ".join(spans)


def _span(kind: SiteKind, first: int, last: int) -> str:
    return f"{kind}.{first}" if first == last else f"{kind}.{first}-{last}"


def _runs(layers: list[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for layer in layers:
        if spans and layer == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], layer)
        else:
            spans.append((layer, layer))
    return spans


def _present(names: Iterable[str]) -> str:
    found = sorted(set(names))
    return f": there is {', '.join(found)}" if found else ""


def scan(workspace: Workspace) -> tuple[list[IndexInfo], dict[str, str]]:
    """What `indexes` returns and, by run, the sentences of `damaged`, in one reading."""
    found, broken = scan_manifests(workspace, _manifests, _read)
    return sorted(found, key=lambda index: (index.excerpt, index.basis != NEURONS, -index.tokens_done, -index.written, index.run)), broken


def scan_manifests(
    workspace: Workspace, remembered: Remembered[FileKey, T | None], read: Callable[[Path, FileKey], T | None]
) -> tuple[list[T], dict[str, str]]:
    """What `read` makes of each run's manifest (None: not of its kind), and one sentence by run for each that cannot be read."""
    found: list[T] = []
    broken: dict[str, str] = {}
    for path in sorted(workspace.runs.glob("*/manifest.json")):
        run = path.parent.name
        try:
            key = file_key(path)
            made = remembered.get(key, lambda path=path, key=key: read(path, key))
        except FileNotFoundError:
            continue  # the run was deleted between the listing and the reading
        except NewerManifest as error:
            broken[run] = newer_manifest(run, error)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, AtlasError):
            broken[run] = broken_file(workspace, run, path, "is damaged")
        else:
            if made is not None:
                found.append(made)
    return found, broken


def _read(path: Path, key: FileKey) -> IndexInfo | None:
    document: dict[str, Any] = json.loads(path.read_text("utf8"))
    if document["kind"] != "index":
        return None  # what other kinds publish is theirs to read, see core/store/explained.py
    if document["schema"] > MANIFEST_SCHEMA:
        raise NewerManifest(document["schema"])
    index = IndexInfo(
        run=path.parent.name,
        folder=path.parent,
        written=key[1] / 1e9,
        state=document["state"],
        generation=int(document["generation"]),
        contexts_done=int(document["contexts_done"]),
        contexts_total=int(document["contexts_total"]),
        tokens_done=int(document["tokens_done"]),
        subject=document["subject"],
        slice=document["slice"],
        basis=document["basis"],
        sites=tuple(Site.parse(name) for name in document["sites"]),
        published=tuple(in_order(Site.parse(name) for name in document["files"])),
        signed={name: bool(value) for name, value in document["signed"].items()},
        provenance=document.get("provenance") or {},
        manifest=document,
    )
    for site, name, part, entry in index.parts():  # what is read later must be there, and inside the run's folder
        if not part.resolve().is_relative_to(path.parent.resolve()) or int(entry["bytes"]) < 0 or index.units_at(Site.parse(site)) < 1:
            raise ValueError(f"{site} {name}")
    for site, part, entry in index.late():
        if not part.resolve().is_relative_to(path.parent.resolve()) or int(entry["bytes"]) < 0 or Site.parse(site) not in index.published:
            raise ValueError(site)
    for part, entry in [*index.texts(), *index.inputs()]:
        if not part.resolve().is_relative_to(path.parent.resolve()) or int(entry["bytes"]) < 0:
            raise ValueError("text or inputs")
    for site in index.published if index.excerpt else ():
        units = document["held"][str(site)]
        if not units or units != sorted(set(map(int, units))) or units[0] < 0 or units[-1] >= index.units_at(site):
            raise ValueError(f"{site} held")
    check_slug(index.slug, "subject")
    check_slug(index.slice["id"], "slice")
    if index.n_layers < 1 or int(index.slice["length"]) < 1:
        raise ValueError("layers or length")
    return index
