"""Bringing in a published dictionary: found on this machine or on the hub, read, and checked against the model that it is meant for."""

import hashlib
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.bases.dictionary import Dictionary
from core.bases.formats.found import Found
from core.bases.formats.hooks import check_model
from core.bases.formats.hub import fetch
from core.bases.formats.place import READERS, detect, locate
from core.bases.formats.safe import Place
from core.bases.info import BasisInfo, Prepare
from core.bases.part import heads_at
from core.bases.shelf import check_free
from core.errors import AtlasError, explain_os_error, shown
from core.subject.subject import Subject
from core.units import Site, slugify
from core.workspace import Workspace

__all__ = ["bring", "detect"]

_HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+(?:/[\w./ -]+)?")


def bring(
    workspace: Workspace,
    subject: Subject,
    source: str | Path,
    *,
    revision: str | None = None,
    file: str | None = None,
    name: str | None = None,
    site: Site | None = None,
    any_model: bool = False,
) -> Dictionary:
    """Read a dictionary and make sure that it fits the subject. It is not put on the shelf: `Dictionary.save` does.

    source: a folder, a file, or a hub id (`owner/name`, also with a path in the repository). file: which dictionary below it, where there
    are several. name: what to call it; None makes one from the path. site: where it reads, for files that do not say. any_model: also when
    the file names another model, or none.
    Raises AtlasError for whatever is wrong with the files, and for a model, site or width that is not the subject's.
    """
    origin = _open(source, revision, file)
    found = READERS[origin.weights](origin.place)
    notes = [*found.notes]
    doubt = check_model(found.model, subject.info, any_model)
    if doubt is not None:
        notes.append(doubt)
    if found.weights_hash not in (None, subject.info.weights_hash):
        notes.append(f"It was made on other weights than those of {subject.info.slug} here.")
    chosen = _site(found, site)
    _check_width(found, chosen, subject)
    prepare = _prepare(found, chosen, subject)
    called = name or _name(origin.place.label)
    source_said: dict[str, Any] = {
        "format": found.format,
        **origin.said,
        "sha256": _digest(origin.place.file(origin.weights)),
        "model": found.model,
        "hook": found.hook,
        "about": dict(found.about),
        "said": dict(found.said),
        "notes": notes,
    }
    info = BasisInfo(
        name=called,
        subject=subject.info.slug,
        site=chosen,
        family=found.family or ("sae" if found.d_out is None else "transcoder"),
        rule=found.rule,
        d_in=found.d_in,
        units=found.units,
        weights_hash=subject.info.weights_hash,
        head=found.head,
        d_out=found.d_out,
        writes_to=found.writes_to,
        k=found.k,
        tied=found.tied,
        subtract_decoder_bias=found.subtract_decoder_bias,
        prepare=prepare,
        recipe={**found.recipe, "brought": found.format, **found.about},
        source=source_said,
        created=time.time(),
    )
    _check_name(workspace, info)
    return Dictionary(info, found.tensors)


@dataclass(frozen=True)
class _Origin:
    """Where the files are, the name of the weights among them, and what to remember of both."""

    place: Place
    weights: str
    said: dict[str, Any]


def _open(source: str | Path, revision: str | None, file: str | None) -> _Origin:
    given = str(source).strip()
    path = Path(given).expanduser()
    if not given or not given.isprintable():
        raise AtlasError("No dictionary was named: give a folder, a file, or a hub id such as owner/name.")
    try:
        there = path.exists()
    except OSError:
        there = False
    if there:
        if revision is not None:
            raise AtlasError(f"{given} is on this machine, where nothing has revisions: leave out “{shown(revision)}”.")
        place, weights = locate(path, file)
        return _Origin(place, weights, {"from": "path", "path": str((place.folder / weights).absolute())})
    if isinstance(source, Path) or given.startswith(("/", ".", "~", "\\")) or _HUB.fullmatch(given) is None:
        raise AtlasError(f"There is nothing at {given[:200]}: check the path, or write a hub id as owner/name.")
    owner, name, *rest = given.split("/")
    repository, below = f"{owner}/{name}", "/".join([*rest, *([file] if file else [])]) or None
    got = fetch(repository, revision, below)
    where = f"{got.path}/{got.weights}".lstrip("/")
    return _Origin(got.place, got.weights, {"from": "hub", "repository": repository, "revision": got.commit, "path": where})


def _site(found: Found, given: Site | None) -> Site:
    if found.site is not None and given is not None and found.site != given:
        raise AtlasError(f"The file says that it reads {found.site} ({shown(found.hook or '')}), not {given}: leave the site out.")
    chosen = given or found.site
    if chosen is None:
        raise AtlasError("The file does not say where the dictionary reads: say it with --site, such as resid.9.")
    return chosen


def _check_width(found: Found, site: Site, subject: Subject) -> None:
    card = subject.info
    if site.layer >= card.n_layers:
        raise AtlasError(
            f"The dictionary reads {site}, and the layers of {card.slug} are 0 to {card.n_layers - 1}: it is of another model."
        )
    width = card.widths[site.kind]
    if found.head is None:
        if found.d_in != width:
            raise AtlasError(
                f"The dictionary reads {found.d_in:,} numbers, and {site} of {card.slug} has {width:,}: it is of another model."
            )
        return
    heads, each = heads_at(subject, site)
    if not heads:
        raise AtlasError(f"The dictionary reads head {found.head} of {site}, which has no heads of one size in {card.slug}.")
    if found.d_in != each or not 0 <= found.head < heads:
        raise AtlasError(
            f"The dictionary reads {found.d_in:,} numbers of head {found.head}, and {card.slug} has heads 0 to {heads - 1} of"
            f" {each:,}: it is of another model."
        )


def _prepare(found: Found, site: Site, subject: Subject) -> Prepare:
    """Centred writing weights give a residual stream whose mean over d is taken off. TransformerLens centres them for LayerNorm only."""
    rms = hasattr(subject.model.config.get_text_config(decoder=True), "rms_norm_eps")
    if found.centred and site.kind == "resid" and not rms and found.d_out is None:
        return Prepare("per_token", found.prepare.normalise, found.prepare.scale)
    return found.prepare


def _name(label: str) -> str:
    """A name from the last two parts of the path that say something."""
    parts = [part for part in label.replace("\\", "/").split("/") if part]
    return slugify("-".join(parts[-2:]) if parts else "dictionary")


def _check_name(workspace: Workspace, info: BasisInfo) -> None:
    """Bringing the same file again replaces it; another of the same name would put earlier numbers beside the wrong weights."""
    check_free(workspace, info.subject, info.site, info.name, lambda before: before.source.get("sha256") == info.source["sha256"])


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise explain_os_error(error, f"reading {path.name}") from None
