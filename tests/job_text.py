"""A small random text, and a slice of it: what runs over dictionaries read in tests."""

import json
import random
from pathlib import Path

from core.corpus.build import build_slice
from core.corpus.slice import Slice
from core.corpus.spec import CorpusSpec
from core.subject.info import subject_folder
from core.subject.subject import Subject
from core.subject.tokenizer import SubjectTokenizer
from core.vocab import Vocab
from core.workspace import Workspace

_WORDS = ["the", "cat", "and", "a", "dog", "of", "house", "on", "it", "water", "one", "river", "went", "red", "old", "they", "saw", "ores"]


def write_text(path: Path, documents: int = 40, words: int = 30, seed: int = 0) -> Path:
    """Documents of random words, one a line."""
    rng = random.Random(seed)
    lines = [json.dumps({"text": " ".join(rng.choice(_WORDS) for _ in range(words))}) for _ in range(documents)]
    path.write_text("\n".join(lines), "utf8")
    return path


def slice_of(workspace: Workspace, subject: Subject, *, contexts: int, length: int, bos: bool) -> Slice:
    path = write_text(workspace.path.parent / "text.jsonl")
    vocab = Vocab.load(subject_folder(workspace, subject.info.slug) / "vocab.parquet")
    return build_slice(workspace, CorpusSpec(str(path), contexts, length, bos=bos), SubjectTokenizer(subject, vocab))
