"""A model's files: where they are, whether they can be used, and their hash. Every failure is one sentence."""

import hashlib
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from transformers import AutoConfig
from transformers.models.auto import modeling_auto
from transformers.utils.hub import cached_file, extract_commit_hash

from core.errors import AtlasError, explain_os_error
from core.workspace import Workspace, write_json

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


@contextmanager
def explained(name: str, revision: str | None, doing: str) -> Generator[None]:
    """Turn what the model libraries raise into one sentence about the model called `name`."""
    try:
        yield
    except (AtlasError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  the libraries raise many kinds; each becomes a sentence
        raise _sentence(error, name, revision, doing) from None


def _sentence(error: BaseException, name: str, revision: str | None, doing: str) -> AtlasError:
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)

    def of(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if of(HFValidationError):
        return AtlasError(f"“{name}” is neither a folder nor a model's name: write owner/name, a folder's path, or default.")
    if of(GatedRepoError):
        return AtlasError(f"“{name}” is gated: accept its terms on the hub and log in with `hf auth login`, then try again.")
    if of(RevisionNotFoundError):
        return AtlasError(f"“{name}” has no revision “{revision}” on the hub: check the branch, tag or commit.")
    if of(RepositoryNotFoundError):
        return AtlasError(f"There is no model “{name}” on the hub, or it is private: check the name, or give a folder's path.")
    if of(LocalEntryNotFoundError, OfflineModeIsEnabled):
        if constants.HF_HUB_OFFLINE:
            return AtlasError(
                f"“{name}” is not on this machine and HF_HUB_OFFLINE forbids downloading it: unset it, or give a folder's path."
            )
        return AtlasError(
            f"“{name}” is not on this machine and the hub cannot be reached: check the name and the connection, or give a path."
        )
    if of(EntryNotFoundError):
        return AtlasError(f"“{name}” holds no model that can be read here: it lacks config.json.")
    if of(SafetensorError):
        return AtlasError(
            f"The weights of “{name}” are damaged: a safetensors file is cut off or not one. Download or save the model again."
        )
    if any("trust_remote_code" in str(link) for link in chain):
        return AtlasError(f"“{name}” only works with program code of its own, which is never run here: choose another model.")
    if any("does not recognize this architecture" in str(link) for link in chain):
        return AtlasError(
            f"“{name}” is of a kind that the installed transformers does not know: update transformers, or choose another model."
        )
    system = next((link for link in chain if isinstance(link, OSError) and link.errno is not None), None)
    if system is not None:
        return explain_os_error(system, f"{doing} “{name}”")
    first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return AtlasError(f"“{name}” cannot be used: {doing} it failed ({first[:200].rstrip('.')}).")


def read_config(name: str, revision: str | None) -> Any:
    """The model's configuration. Raises AtlasError when there is no model, or none that predicts the next token."""
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise AtlasError(f"The folder {name} holds no model: there is no config.json in it.")
    with explained(name, revision, "reading the configuration of"):
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    kind = str(config.model_type)
    if getattr(config, "is_encoder_decoder", False):
        raise AtlasError(f"“{name}” ({kind}) is an encoder-decoder: only decoder-only language models can be read.")
    if kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise AtlasError(
            f"“{name}” ({kind}) is an encoder: it fills in words from both sides. Only decoder-only language models can be read."
        )
    if kind not in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise AtlasError(f"“{name}” ({kind}) is not a language model that predicts the next token: choose a decoder-only one.")
    return config


def commit_of(name: str, revision: str | None) -> str | None:
    """The commit that a hub model's files come from (the cache keeps them in a folder of that name); None for a folder."""
    if Path(name).is_dir():
        return None
    with explained(name, revision, "looking up the revision of"):
        return extract_commit_hash(cached_file(name, "config.json", revision=revision), None)


def weight_files(name: str, revision: str | None) -> list[Path]:
    """The safetensors files of a model, downloaded when it is on the hub, sorted by name.

    Raises AtlasError when it has none: pickled weights are never read, as opening them can run their author's code.
    """

    def find(file: str) -> Path | None:
        found = cached_file(name, file, revision=revision, _raise_exceptions_for_missing_entries=False)
        return None if found is None else Path(found)

    with explained(name, revision, "fetching the weights of"):
        single = find(_SINGLE)
        if single is not None:
            return [single]
        index = find(_INDEX)
        shards = [] if index is None else sorted(set(json.loads(index.read_text("utf8"))["weight_map"].values()))
        files = {shard: find(shard) for shard in shards}
    lost = [shard for shard, path in files.items() if path is None]
    if lost:
        raise AtlasError(f"“{name}” is incomplete: {lost[0]} is missing. Download or save the model again.")
    if not files:
        raise AtlasError(
            f"“{name}” has no safetensors weights; pickled ones (.bin, .pt) are not read, as opening them can run code:"
            " convert it to safetensors first."
        )
    return [path for path in files.values() if path is not None]


def _remembered(memory: Path) -> str | None:
    """The hash in a note of an earlier look; None when there is none, or when the note is damaged."""
    try:
        known = json.loads(memory.read_text("utf8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if isinstance(known, str) else None


def hash_weights(workspace: Workspace, files: list[Path]) -> str:
    """SHA-256 over the files' contents in the order of their names, remembered by path, size and time of change."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    memory = workspace.scratch / "weights" / f"{key}.json"
    known = _remembered(memory)
    if known is not None:
        return known
    digest = hashlib.sha256()
    try:
        for path in files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        memory.parent.mkdir(exist_ok=True)
        write_json(memory, {"sha256": digest.hexdigest()})
    except OSError as error:
        raise explain_os_error(error, f"reading the weights {files[0]}") from None
    return digest.hexdigest()
