"""Dictionaries on the hub: which files of a repository belong to one, and fetching those and no others."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from core.bases.formats.place import WEIGHT_FILES, choose
from core.bases.formats.safe import Place
from core.errors import AtlasError, explain_os_error, shown

MAX_DOWNLOAD = 20 << 30
_BESIDE = ("cfg.json", "config.json", "eval_results.json")
"""Fetched with the weights from the same folder and the two above it, where they lie there."""


def fetch(repository: str, revision: str | None, file: str | None) -> tuple[Place, str, str]:
    """Fetch one dictionary of a repository `owner/name`, or find it in the hub's cache.

    file: the folder or file in the repository, needed where it holds several dictionaries.
    Returns its place, the name of the file with the weights, and the commit. Raises AtlasError, also when this machine is offline and the
    cache lacks it.
    """
    cache = constants.HF_HUB_CACHE
    with _explained(repository, revision):
        if constants.HF_HUB_OFFLINE:
            root = Path(snapshot_download(repository, revision=revision, cache_dir=cache, local_files_only=True))
            names = {path.relative_to(root).as_posix(): 0 for path in root.rglob("*") if path.is_file()}
        else:
            info: Any = HfApi().model_info(repository, revision=revision, files_metadata=True)
            names = {str(one.rfilename): int(one.size or 0) for one in info.siblings or ()}
            revision = str(info.sha)
            root = None
    weights = choose([name for name in names if name.rsplit("/", 1)[-1] in WEIGHT_FILES or name == file], file, repository)
    folder = weights.rpartition("/")[0]
    if root is None:
        wanted = [weights, *_beside(folder, names)]
        size = sum(names[name] for name in wanted)
        if size > MAX_DOWNLOAD:
            raise AtlasError(f"{weights} of {repository} has {size / 2**30:.0f} GiB; at most {MAX_DOWNLOAD >> 30} GiB are fetched.")
        with _explained(repository, revision):
            root = Path(snapshot_download(repository, revision=revision, cache_dir=cache, allow_patterns=wanted))
    label = f"{repository}/{folder}".rstrip("/")
    return Place.at(root / folder, label), weights.rsplit("/", 1)[-1], root.name


def _beside(folder: str, names: dict[str, int]) -> list[str]:
    above = [folder, folder.rpartition("/")[0], folder.rpartition("/")[0].rpartition("/")[0]]
    found = {f"{place}/{name}".lstrip("/") for place in above for name in _BESIDE}
    return sorted(found & names.keys())


@contextmanager
def _explained(repository: str, revision: str | None) -> Generator[None]:
    """Turn what the hub's library raises into one sentence."""
    named = shown(repository)
    try:
        yield
    except HFValidationError:
        raise AtlasError(f"“{named}” is neither a folder nor a repository: write owner/name, or a path.") from None
    except GatedRepoError:
        raise AtlasError(f"“{named}” is gated: accept its terms on the hub and log in with `hf auth login`, then try again.") from None
    except RevisionNotFoundError:
        raise AtlasError(f"“{named}” has no revision “{shown(str(revision))}” on the hub: check the branch, tag or commit.") from None
    except RepositoryNotFoundError:
        raise AtlasError(f"There is no repository “{named}” on the hub, or it is private: check the name, or give a path.") from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        why = (
            "HF_HUB_OFFLINE forbids fetching it: unset it"
            if constants.HF_HUB_OFFLINE
            else "the hub cannot be reached: check the connection"
        )
        raise AtlasError(f"“{named}” is not on this machine and {why}, or give a folder's path.") from None
    except HfHubHTTPError as error:
        raise AtlasError(f"“{named}” could not be fetched ({shown(str(error).splitlines()[0])}): try again, or give a path.") from None
    except OSError as error:
        if error.errno is not None:
            raise explain_os_error(error, f"fetching {named}") from None
        raise AtlasError(f"“{named}” could not be fetched ({shown(str(error))}): check the connection, or give a path.") from None
    except Exception as error:
        # The library lets errors of its HTTP client through, whose class depends on the version of both.
        if not type(error).__module__.partition(".")[0].startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise
        raise AtlasError(f"“{named}” could not be fetched, as the hub cannot be reached: check the connection, or give a path.") from None
