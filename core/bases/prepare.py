"""How runs over dictionaries begin: load the model, cut the text, keep a part of it for measuring."""

from dataclasses import dataclass
from typing import Protocol

from core.bases.held_out import Ranks, split
from core.corpus.build import build_slice
from core.corpus.slice import Slice
from core.corpus.spec import CorpusSpec
from core.errors import AtlasError
from core.runs.progress import Progress
from core.subject.info import subject_folder
from core.subject.load import load_subject
from core.subject.subject import Subject
from core.subject.tokenizer import SubjectTokenizer
from core.vocab import Vocab
from core.workspace import Workspace


class Wanted(Protocol):
    """What a request has to say: `JobRequest` does."""

    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def dtype(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def architecture(self) -> str | None: ...
    @property
    def corpus(self) -> CorpusSpec: ...


@dataclass(frozen=True)
class Job:
    """train, held_out: ranks of the slice's contexts, in order; together all of them."""

    subject: Subject
    piece: Slice
    train: Ranks
    held_out: Ranks


def load_job(workspace: Workspace, wanted: Wanted, progress: Progress) -> Job:
    """Load the model and cut the text. Raises AtlasError for whatever is wrong with them, and Cancelled."""
    progress.stage("loading the model")
    subject = load_subject(
        workspace, wanted.model, revision=wanted.revision, dtype=wanted.dtype, device=wanted.device, architecture=wanted.architecture
    )
    vocab = Vocab.load(subject_folder(workspace, subject.info.slug) / "vocab.parquet")
    progress.stage("cutting the text")
    piece = build_slice(
        workspace,
        wanted.corpus,
        SubjectTokenizer(subject, vocab),
        lambda done, total, doing: progress.update(done, total, doing, "contexts"),
    )
    if len(piece) < 2:
        raise AtlasError("The text gives one context, and a part of it has to be held out: choose a text with at least two.")
    train, held_out = split(piece)
    progress.log(f"slice {piece.id}: {len(train)} contexts to read, {len(held_out)} held out")
    return Job(subject, piece, train, held_out)
