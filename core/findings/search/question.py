"""A question and its answer: words and filters, and the texts that fit best."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import AtlasError, shown
from core.findings.search.part import KINDS, Part, TextKind
from core.findings.search.ranking import rarity
from core.findings.search.words import Asked
from core.units import SITE_KINDS, UnitName

LONGEST = 500
"""Characters of a question."""
COMPLETIONS = 64
"""So many words that begin with the last one are looked for, those that most documents hold."""
COMPLETED = 0.5
"""What such a word counts against the word itself."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Question:
    """Words and filters; an empty filter wants all. kinds: of texts. site_kind: mlp, resid or attn. layers: None for all.

    labelled: only units that somebody gave a label. least: the lowest headline score, which only explanations have. author: who wrote it, a
    person or an explainer.
    """

    text: str
    kinds: tuple[TextKind, ...] = ()
    subject: str = ""
    site_kind: str = ""
    layers: tuple[int, ...] | None = None
    basis: str = ""
    labelled: bool = False
    least: float | None = None
    author: str = ""

    def check(self) -> None:
        """Raises AtlasError for what cannot be asked."""
        if len(self.text) > LONGEST:
            raise AtlasError(f"The search has {len(self.text):,} characters; at most {LONGEST} are taken.")
        read_kinds(self.kinds)
        if self.site_kind and self.site_kind not in SITE_KINDS:
            raise AtlasError(f"“{shown(self.site_kind)}” is not a kind of site: use {', '.join(SITE_KINDS)}.")
        if self.least is not None and not -1 <= self.least <= 1:
            raise AtlasError(f"{self.least:g} is not a score: choose one from −1 to 1.")

    @property
    def of_units(self) -> bool:
        """Whether only texts about units can fit."""
        return bool(self.subject or self.site_kind or self.basis or self.labelled) or self.layers is not None


def read_kinds(names: Iterable[str]) -> tuple[TextKind, ...]:
    """Kinds of texts by their names, each once, in the usual order. Raises AtlasError."""
    wanted = set(names)
    if unknown := wanted - set(KINDS):
        raise AtlasError(f"“{shown(min(unknown))}” is not a kind of text: use {', '.join(KINDS)}.")
    return tuple(kind for kind in KINDS if kind in wanted)


@dataclass(frozen=True)
class Hit:
    """A text that fits. score: BM25. rho: of an explanation, its headline score, None where there is none.

    identity: the explanation's, the finding's or the collection's id. unit: None for a collection.
    """

    kind: TextKind
    unit: UnitName | None
    text: str
    author: str
    rho: float | None
    identity: str
    score: float


@dataclass(frozen=True)
class Found:
    """The hits of a page, the best first, how many there are in all, and the words that were looked for."""

    hits: tuple[Hit, ...]
    total: int
    asked: Asked


@dataclass(frozen=True)
class Searched:
    """A part, and which of its documents may be found at all: a mask, shape (documents,), or None for all."""

    part: Part
    alive: Array | None = None


def find(parts: Sequence[Searched], question: Question, labelled: Collection[UnitName], limit: int, offset: int) -> Found:
    """The texts that hold words of the question, the best first.

    A text's score is the sum over the words, of each of which N and n are counted over all parts; words that begin with the last one count
    half, together as one word. Among equals the explanation with the higher score comes first, then the order of the parts.
    """
    asked = Asked.read(question.text)
    weighed = _weighed([each.part for each in parts], asked)
    scores = [_scores(each.part, weighed) for each in parts]
    matched = [_fitting(each, np.flatnonzero(score), question, labelled) for each, score in zip(parts, scores, strict=True)]
    total = sum(map(len, matched))
    best = _best(parts, scores, matched, offset + limit)[offset:]
    return Found(tuple(_hit(parts[place].part, document, float(scores[place][document])) for place, document in best), total, asked)


def _weighed(parts: Sequence[Part], asked: Asked) -> list[tuple[float, list[str]]]:
    """Groups of words and what each group's frequency is multiplied by."""
    documents = sum(map(len, parts))
    groups: list[tuple[float, list[str]]] = []
    for word in asked.words:
        holding = sum(part.ranking.holding(word) for part in parts)
        if holding:
            groups.append((rarity(documents, holding), [word]))
    if asked.beginning:
        counts: dict[str, int] = {}
        for part in parts:
            for word, count in part.ranking.beginning(asked.beginning):
                counts[word] = counts.get(word, 0) + count
        common = sorted(counts, key=lambda word: (-counts[word], word))[:COMPLETIONS]
        if common:
            holding = min(documents, sum(counts[word] for word in common))
            groups.append((COMPLETED * rarity(documents, holding), common))
    return groups


def _scores(part: Part, weighed: list[tuple[float, list[str]]]) -> Array:
    """float32, shape (documents,): 0 for documents without any of the words."""
    total = np.zeros(len(part), np.float32)
    for weight, words in weighed:
        frequency = part.ranking.scores(words)
        if frequency is not None:
            frequency *= np.float32(weight)
            total += frequency
    return total


def _fitting(searched: Searched, at: Array, question: Question, labelled: Collection[UnitName]) -> Array:
    """Those of some documents that pass the filters."""
    part = searched.part
    if searched.alive is not None:
        at = at[searched.alive[at]]
    if question.kinds:
        at = at[np.isin(np.arange(len(KINDS)), [KINDS.index(kind) for kind in question.kinds])[part.column("kind")[at]]]
    if question.of_units:
        fits = [
            (not question.subject or place.subject == question.subject)
            and (not question.site_kind or place.site.kind == question.site_kind)
            and (question.layers is None or place.site.layer in question.layers)
            and (not question.basis or place.basis == question.basis)
            for place in part.places
        ]
        at = at[np.array([*fits, False])[part.column("place")[at]]]  # the last stands for NOWHERE, which is −1
    if question.least is not None:
        at = at[part.column("rho")[at] >= np.float32(question.least)]  # an undefined score is in no range
    if question.author:
        author = part.authors.index(question.author) if question.author in part.authors else -1
        at = at[part.column("author")[at] == author]
    if question.labelled:
        place_of = {str(place): number for number, place in enumerate(part.places)}
        named = ((str(unit).rpartition("/")[0], unit.index) for unit in labelled)
        keys = np.sort(np.array([place_of[place] << 32 | unit for place, unit in named if place in place_of] or [-1], np.int64))
        units = part.column("place")[at].astype(np.int64) << 32 | part.column("unit")[at].astype(np.int64)
        at = at[keys[np.minimum(np.searchsorted(keys, units), len(keys) - 1)] == units]
    return at


def _best(parts: Sequence[Searched], scores: Sequence[Array], matched: Sequence[Array], wanted: int) -> list[tuple[int, int]]:
    """The best documents in order, at most `wanted`, as (part, document)."""
    values = np.concatenate([each[at] for each, at in zip(scores, matched, strict=True)] or [np.empty(0, np.float32)])
    if not len(values):
        return []
    if wanted < len(values):
        least = np.partition(values, len(values) - wanted)[len(values) - wanted]
        matched = [at[each[at] >= least] for each, at in zip(scores, matched, strict=True)]
    place = np.repeat(np.arange(len(parts)), [len(at) for at in matched])
    document = np.concatenate(list(matched))
    score = np.concatenate([each[at] for each, at in zip(scores, matched, strict=True)])
    rho = np.concatenate([each.part.column("rho")[at] for each, at in zip(parts, matched, strict=True)])
    order = np.lexsort((document, place, -np.nan_to_num(rho, nan=-2), -score))[:wanted]
    return list(zip(place[order].tolist(), document[order].tolist(), strict=True))


def _hit(part: Part, document: int, score: float) -> Hit:
    rho = float(part.column("rho")[document])
    return Hit(
        KINDS[int(part.column("kind")[document])], part.unit(document), part.text(document),
        part.authors[int(part.column("author")[document])], None if np.isnan(rho) else rho, part.identity(document), score,
    )  # fmt: skip
