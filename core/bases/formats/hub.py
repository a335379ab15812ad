"""Dictionaries on the hub: which files of a repository belong to one, and fetching those and no others."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from core.bases.formats.place import WEIGHT_FILES, choose
from core.bases.formats.safe import Place
from core.errors import AtlasError, explain_os_error, shown

MAX_DOWNLOAD = 20 << 30
_MAIN = "main"
_REVISION = re.compile(r"\w[\w.-]*(/[\w-][\w.-]*)*")
_BESIDE = ("cfg.json", "config.json", "eval_results.json")
"""Fetched with the weights from the same folder and the two above it, where they lie there."""


class _Unreachable(Exception):
    """The hub did not answer."""


@dataclass(frozen=True)
class Fetched:
    """Where a dictionary of the hub lies on this machine. weights: the name of that file. path: of its folder in the repository."""

    place: Place
    weights: str
    path: str
    commit: str


def fetch(repository: str, revision: str | None, file: str | None) -> Fetched:
    """Fetch one dictionary of a repository `owner/name`. When the hub cannot be asked, it is looked for in the hub's cache.

    file: the folder or file in the repository, needed where it holds several dictionaries. Raises AtlasError.
    """
    wanted = revision or _MAIN
    if _REVISION.fullmatch(wanted) is None:
        raise AtlasError(f"“{shown(wanted)}” is not a revision: write a branch, a tag or a commit.")
    with _explained(repository, wanted):
        validate_repo_id(repository)
        try:
            return _online(repository, wanted, file)
        except _Unreachable:
            return _cached(repository, wanted, file)


def _online(repository: str, revision: str, file: str | None) -> Fetched:
    if constants.HF_HUB_OFFLINE:
        raise _Unreachable
    with _reaching():
        info: Any = HfApi().model_info(repository, revision=revision, files_metadata=True)
    sizes = {str(one.rfilename): int(one.size or 0) for one in info.siblings or ()}
    weights = choose([name for name in sizes if _may_be(name)], file, repository)
    wanted = [weights, *_beside(weights, sizes)]
    size = sum(sizes[name] for name in wanted)
    if size > MAX_DOWNLOAD:
        raise AtlasError(f"{weights} of {repository} has {size / 2**30:.0f} GiB; at most {MAX_DOWNLOAD >> 30} GiB are fetched.")
    with _reaching():
        paths = [Path(hf_hub_download(repository, name, revision=revision, cache_dir=constants.HF_HUB_CACHE)) for name in wanted]
    roots = {path.parents[name.count("/")] for path, name in zip(paths, wanted, strict=True)}
    if len(roots) > 1:
        raise AtlasError(f"“{repository}” changed while it was being fetched: try again.")
    return _fetched(repository, roots.pop(), weights)


def _cached(repository: str, revision: str, file: str | None) -> Fetched:
    """From the cache, in the layout that the hub's library documents: `refs/<revision>` names the commit, `snapshots/<commit>/` has it."""
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    reference = folder / "refs" / revision
    commit = reference.read_text("utf8").strip() if reference.is_file() else revision
    root = folder / "snapshots" / commit
    if _REVISION.fullmatch(commit) is None or not root.is_dir():
        raise LocalEntryNotFoundError(f"{repository} at {revision}")
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if _may_be(path.name) and path.is_file()]
    return _fetched(repository, root, choose(names, file, f"the cached part of {repository}"))


def _fetched(repository: str, root: Path, weights: str) -> Fetched:
    path, _, name = weights.rpartition("/")
    return Fetched(Place.at(root / path, f"{repository}/{path}".rstrip("/")), name, path, root.name)


def _may_be(name: str) -> bool:
    return name.rsplit("/", 1)[-1] in WEIGHT_FILES


def _beside(weights: str, names: dict[str, int]) -> list[str]:
    folder = weights.rpartition("/")[0]
    above = [folder, folder.rpartition("/")[0], folder.rpartition("/")[0].rpartition("/")[0]]
    found = {f"{place}/{name}".lstrip("/") for place in above for name in _BESIDE}
    return sorted(found & names.keys())


@contextmanager
def _reaching() -> Generator[None]:
    """Tell what says that nobody answered. The class of such errors depends on the HTTP client, and that on the library's version."""
    try:
        yield
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise _Unreachable from None
    except HfHubHTTPError:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0].startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise _Unreachable from None
        raise


@contextmanager
def _explained(repository: str, revision: str) -> Generator[None]:
    """Turn what the hub's library raises into one sentence."""
    named = shown(repository)
    try:
        yield
    except HFValidationError:
        raise AtlasError(f"“{named}” is neither a folder nor a repository: write owner/name, or a path.") from None
    except GatedRepoError:
        raise AtlasError(f"“{named}” is gated: accept its terms on the hub and log in with `hf auth login`, then try again.") from None
    except RevisionNotFoundError:
        raise AtlasError(f"“{named}” has no revision “{shown(revision)}” on the hub: check the branch, tag or commit.") from None
    except RepositoryNotFoundError:
        raise AtlasError(f"There is no repository “{named}” on the hub, or it is private: check the name, or give a path.") from None
    except LocalEntryNotFoundError:
        offline = constants.HF_HUB_OFFLINE
        why = "HF_HUB_OFFLINE forbids fetching it: unset it" if offline else "the hub cannot be reached: check the connection"
        raise AtlasError(f"“{named}” is not on this machine and {why}, or give a folder's path.") from None
    except HfHubHTTPError as error:
        raise AtlasError(f"“{named}” could not be fetched ({shown(str(error).splitlines()[0])}): try again, or give a path.") from None
    except OSError as error:
        if error.errno is not None:
            raise explain_os_error(error, f"fetching {named}") from None
        raise AtlasError(f"“{named}” could not be fetched ({shown(str(error))}): check the connection, or give a path.") from None
