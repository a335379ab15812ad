"""Load a subject by its slug, by path, by hub id, or the embedded default, and register it in the workspace."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from core.errors import AtlasError, explain_os_error
from core.subject import embedded, random_weights
from core.subject.architectures import architecture_of
from core.subject.checkpoint import commit_of, explained, hash_weights, read_config, weight_files
from core.subject.heap import keep_freed_memory
from core.subject.info import IMPORTED_SOURCE, SubjectInfo, subject_folder, subject_info
from core.subject.matmul import choose_matmul
from core.subject.subject import Modules, Subject
from core.subject.tokens import hash_tokenizer, make_vocab
from core.units import slugify
from core.vocab import Vocab
from core.workspace import Workspace, write_json

_DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_UNBOUNDED = 1_000_000
"""Tokenizers without a limit of their own report one beyond this."""
_FALLBACK_LIMIT = 2048
"""Context limit of a model that states none (BLOOM, whose positions are relative, was trained on this length)."""


@dataclass(frozen=True)
class _Place:
    """Where a model is loaded from, and under which name it was registered, if it was."""

    source: Literal["embedded", "folder", "hub"]
    path: str
    """A folder, or a hub id."""
    name: str
    """What subject.json calls it."""
    revision: str | None = None
    architecture: str | None = None
    info: SubjectInfo | None = None


def load_subject(
    workspace: Workspace,
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    architecture: str | None = None,
) -> Subject:
    """Load a decoder-only language model and register it (subjects/<slug>/) the first time.

    name: a slug of this workspace, `default` for the embedded model, a folder, or a hub id; `random:` before it for the same model with
    random weights.
    dtype: `float32` or `bfloat16`. device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
    architecture: module paths by hand, for a model that the table does not know (see `architecture_by_hand`).
    Raises AtlasError for whatever is wrong with the name, the files, the architecture or the device. Code that comes with a
    model is never run.
    """
    if dtype not in _DTYPES:
        raise AtlasError(f"“{dtype}” is not a number format that is supported: choose float32 or bfloat16.")
    chosen = _device(device)
    place = _place(workspace, name, revision)
    by_hand = architecture or place.architecture
    config = read_config(place.path, place.revision)
    row = architecture_of(config, by_hand)
    commit = commit_of(place.path, place.revision)
    files = weight_files(place.path, commit)
    tokenizer = _tokenizer(place, commit)
    model = _model(place, commit, _DTYPES[dtype])
    text_config = config.get_text_config(decoder=True)
    modules = Modules.find(model, row)
    vocab = make_vocab(tokenizer, int(text_config.vocab_size))
    info = SubjectInfo(
        slug=embedded.SLUG if place.source == "embedded" else slugify(place.name),
        source=place.source,
        revision=embedded.VERSION if place.source == "embedded" else commit,
        architecture=row.name,
        n_layers=len(modules.blocks),
        d_model=int(text_config.hidden_size),
        widths=modules.widths(int(text_config.hidden_size)),
        vocab_size=int(text_config.vocab_size),
        context_limit=_context_limit(text_config, tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        tokenizer_hash=hash_tokenizer(tokenizer, vocab),
        weights_hash=hash_weights(workspace, files),
        name_or_path=place.name,
    )
    info = _register(workspace, info, vocab, place.info)
    matmul = choose_matmul(dtype, chosen)
    if dtype == "bfloat16" and chosen.type == "cpu":
        # Products are so quick then that fresh memory would take a sixth of the time; in float32 it makes no difference.
        keep_freed_memory()
    with explained(place.name, commit, f"moving to {chosen}"):
        model = model.to(chosen)
    return Subject(info, model, tokenizer, modules, chosen, dtype, matmul)


def _place(workspace: Workspace, name: str, revision: str | None) -> _Place:
    """Decide what `name` means: the embedded model, a registered slug, a folder, or a hub id, in this order."""
    name = name.strip()
    if not name:
        raise AtlasError("No model was named: give a folder's path, a hub id such as EleutherAI/pythia-70m, or default.")
    if not name.isprintable():
        raise AtlasError("A model's name holds only printable characters: give a folder's path, a hub id, or default.")
    if "://" in name:
        raise AtlasError(f"{name} is an address: write the model's name on the hub, such as EleutherAI/pythia-70m, or a folder's path.")
    if name.startswith(random_weights.PREFIX):
        base = _place(workspace, name.removeprefix(random_weights.PREFIX), revision)
        called = base.info.slug if base.info is not None else embedded.SLUG if base.source == "embedded" else base.name
        folder = str(random_weights.prepare(workspace, base.path, commit_of(base.path, base.revision), called))
        return _Place("folder", folder, folder, architecture=base.architecture)
    if name in ("default", embedded.SLUG):
        return _Place("embedded", str(embedded.prepare(workspace)), embedded.SOURCE)
    plain = not any(character in name for character in "/\\~ ")
    if plain and slugify(name) == name and (subject_folder(workspace, name) / "subject.json").is_file():
        info = subject_info(workspace, name)
        if info.source == IMPORTED_SOURCE:
            raise AtlasError(f"“{name}” came with another program's files and has no weights: name the model by its path or hub id.")
        if revision is None or revision == info.revision:
            where = "hub" if info.source == "hub" else "folder"
            by_hand = info.architecture if "=" in info.architecture else None
            if where == "folder" and not Path(info.name_or_path).is_dir():
                raise AtlasError(
                    f"The folder of “{name}” is gone ({info.name_or_path}): put it back, or load the model from where it is now."
                )
            return _Place(where, info.name_or_path, info.name_or_path, info.revision, by_hand, info)
        name = info.name_or_path
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise AtlasError(f"{name} is a folder, and a folder has no revisions: leave out “{revision}”.")
        return _Place("folder", str(folder.resolve()), str(folder.resolve()))
    if folder.exists():
        raise AtlasError(f"{name} is a file: give the folder that holds config.json and the weights.")
    if name.startswith(("/", ".", "~", "\\")) or name.count("/") > 1 or "\\" in name:
        raise AtlasError(f"There is no folder {name}: check the path.")
    return _Place("hub", name, name, revision)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise AtlasError(f"“{name}” is not a device: choose auto, cpu, cuda or mps.") from None
    usable = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not usable.get(device.type, False):
        raise AtlasError(f"This machine has no device “{name}” that torch can use: choose auto or cpu.")
    return device


def _tokenizer(place: _Place, commit: str | None) -> Any:
    try:
        with explained(place.name, commit, "reading the tokenizer of"):
            return AutoTokenizer.from_pretrained(place.path, revision=commit, trust_remote_code=False)
    except AtlasError:
        if place.source == "hub":
            raise
        if (Path(place.path) / "tokenizer.json").is_file():
            raise AtlasError(f"The tokenizer in {place.path} cannot be read: save it there again with save_pretrained.") from None
        raise AtlasError(f"The folder {place.path} has no tokenizer that can be read: put its tokenizer.json there.") from None


def _model(place: _Place, commit: str | None, dtype: torch.dtype) -> Any:
    """The model with every weight from its files, in evaluation mode. Raises AtlasError when some are missing."""
    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what matters of the loading report is raised below
    try:
        with explained(place.name, commit, "loading the weights of"):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                place.path,
                revision=commit,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
            )
    finally:
        logging.set_verbosity(verbosity)
    model, report = loaded
    missing: list[str] = sorted(report["missing_keys"])
    if report["mismatched_keys"]:
        name = min(key[0] for key in report["mismatched_keys"])
        raise AtlasError(f"The weights of “{place.name}” do not fit its config.json: {name} has another shape. Save the model again.")
    if missing:
        others = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise AtlasError(f"The weights of “{place.name}” are incomplete: {missing[0]}{others} missing. Download or save the model again.")
    return model.eval().requires_grad_(False)


def _context_limit(config: Any, tokenizer: Any) -> int:
    stated = getattr(config, "max_position_embeddings", None) or getattr(config, "seq_length", None)
    if isinstance(stated, int):
        return stated
    return tokenizer.model_max_length if 0 < tokenizer.model_max_length < _UNBOUNDED else _FALLBACK_LIMIT


def _register(workspace: Workspace, info: SubjectInfo, vocab: Vocab, known: SubjectInfo | None) -> SubjectInfo:
    """Write subject.json and vocab.parquet the first time, under a slug of its own. Returns the card with that slug.

    The same weights and tokenizer are the same subject wherever they lie; another model of the same name gets the first
    eight digits of its weights' hash behind its slug.
    """
    if known is not None:
        if not _same(info, known):
            raise AtlasError(
                f"The model at {info.name_or_path} has changed since “{known.slug}” was made: load it by its path, as a new one."
            )
        return _write(workspace, replace(info, slug=known.slug), vocab)
    reserved = info.source != "embedded" and info.slug == embedded.SLUG
    for slug in (
        info.slug,
        f"{info.slug[:71]}-{info.weights_hash[:8]}",
        f"{info.slug[:62]}-{info.weights_hash[:8]}-{info.tokenizer_hash[:8]}",
    ):
        if reserved and slug == embedded.SLUG:
            continue
        if not (subject_folder(workspace, slug) / "subject.json").is_file() or _same(info, subject_info(workspace, slug)):
            return _write(workspace, replace(info, slug=slug), vocab)
    raise AtlasError(f"The workspace already has another model with the name and weights of “{info.name_or_path}”: use another workspace.")


def _same(one: SubjectInfo, other: SubjectInfo) -> bool:
    return (one.weights_hash, one.tokenizer_hash, one.architecture) == (other.weights_hash, other.tokenizer_hash, other.architecture)


def _write(workspace: Workspace, info: SubjectInfo, vocab: Vocab) -> SubjectInfo:
    workspace.check_writable()
    folder = subject_folder(workspace, info.slug)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        card = folder / "subject.json"
        if not card.is_file() or not (folder / "vocab.parquet").is_file():  # without a card, what lies there may be another's
            vocab.save(folder / "vocab.parquet")
        if not card.is_file() or subject_info(workspace, info.slug) != info:
            write_json(card, info.to_json())
    except OSError as error:
        raise explain_os_error(error, f"registering the model {info.slug}") from None
    return info
