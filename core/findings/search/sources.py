"""What can be searched: the finished parts of explaining runs, the top tokens of indexes, and what people wrote.

All is read from the files of runs and from findings.sqlite, never from the cache: a command may search while the dashboard owns that.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from core.errors import AtlasError
from core.findings.entry import Entry, Version
from core.findings.search.part import NOWHERE, PartMaker, TextKind, columns
from core.findings.search.words import words_of
from core.store.catalog import IndexInfo, indexes
from core.store.explained import ExplainedPart, ExplainedRun, explained_runs
from core.store.parts import DamagedPart, flat, lengths, read_columns
from core.store.texts import load_vocab
from core.units import Site
from core.workspace import Workspace

SCORE_KINDS = ("top-and-random", "random-only", "top-only")
SCORE_SPLITS = ("test", "validation", "calibration")
"""Of an explanation's scores the first by kind and then by split is its headline, as in `core.store.explanation_queries`."""
compute: Any = pyarrow.compute
_NOTES: dict[str, TextKind] = {"note": "note", "explanation": "own", "label": "label", "collection": "collection"}


@dataclass(frozen=True)
class ExplainedSource:
    """A finished part of an explaining run. It never changes."""

    run: ExplainedRun
    part: ExplainedPart

    @property
    def name(self) -> str:
        return f"{self.place}/{hashlib.sha256(self.part.hash().encode()).hexdigest()[:32]}"

    @property
    def place(self) -> str:
        """What a newer version of the same would share with it."""
        return f"{self.run.run}/{self.part.number}"

    @property
    def about(self) -> int:
        """How many documents it has, about."""
        return len(self.part.work)


@dataclass(frozen=True)
class TokenSource:
    """The top tokens of a site's units, from one generation of an index."""

    index: IndexInfo
    site: Site

    @property
    def name(self) -> str:
        return f"{self.place}/{self.index.manifest['files'][str(self.site)]['units']['sha256']}"

    @property
    def place(self) -> str:
        return f"{self.index.run}/{self.site}"

    @property
    def about(self) -> int:
        return len(self.index.units_of(self.site))


Source = ExplainedSource | TokenSource


def run_sources(workspace: Workspace) -> list[Source]:
    """Everything that runs have made so far. Of a site in a basis the tokens of one index, the one that its pages show."""
    found: list[Source] = [ExplainedSource(run, part) for run in explained_runs(workspace) for part in run.parts]
    whole: set[tuple[str, Site, str]] = set()
    for index in indexes(workspace):  # whole indexes come before excerpts
        for site in index.published:
            key = (index.slug, site, index.basis)
            if key not in whole:
                found.append(TokenSource(index, site))
                if not index.excerpt:
                    whole.add(key)
    return found


def signature(workspace: Workspace) -> tuple[Any, ...]:
    """Changes whenever `run_sources` would."""
    explained = tuple((run.run, run.written, run.generation, len(run.parts)) for run in explained_runs(workspace))
    return explained, tuple((index.run, index.written, index.generation) for index in indexes(workspace))


def add_explanations(maker: PartMaker, sources: Sequence[ExplainedSource]) -> None:
    """Add the explanations of some parts that have words. A part that cannot be read is left out; the ingest of the cache names it."""
    tables: list[Any] = []
    scores: list[Any] = []
    for source in sources:
        number = maker.source(source.name)
        try:
            table = _explanations(maker, source)
            scored = read_columns(source.run.path(source.part, "scores"), ["explanation", "role", "kind", "split", "rho"])
        except (AtlasError, ValueError, FileNotFoundError, DamagedPart):
            continue
        tables.append(table.append_column("source", pa.array(np.full(table.num_rows, number, np.int32))))
        scores.append(scored)
    if not tables:
        return
    table = pa.concat_tables(tables).combine_chunks()
    held, sizes = _words(maker, table.column("text").to_pylist())
    rows = columns(
        "explanation", place=table.column("place"), unit=table.column("number"), source=0, identity=table.column("explanation"),
        author=[maker.author(name) for name in table.column("author").to_pylist()], text=table.column("text"),
        rho=headlines(table.column("explanation"), pa.concat_tables(scores)),
    )  # fmt: skip
    maker.add(rows | {"source": table.column("source")}, held, sizes)


def _explanations(maker: PartMaker, source: ExplainedSource) -> Any:
    """What a part says in words, with each unit as a place and a number. Raises AtlasError and ValueError for a name that is none."""
    table = read_columns(source.run.path(source.part, "explanations"), ["explanation", "unit", "author", "text", "failed"])
    table = table.filter(compute.and_(compute.equal(table.column("failed"), ""), compute.not_equal(table.column("text"), "")))
    named = [name.rpartition("/") for name in table.column("unit").to_pylist()]
    places = pa.array([maker.place(place) for place, _, _ in named], pa.int32())
    numbers = pa.array([int(number) for _, _, number in named], pa.int32())
    return table.select(["explanation", "author", "text"]).append_column("place", places).append_column("number", numbers)


def headlines(identities: Any, scores: Any) -> Any:
    """Each explanation's headline ρ, NaN where it has no score or an undefined one, float32."""
    scores = scores.filter(compute.equal(scores.column("role"), "simulated")).combine_chunks()
    of = compute.index_in(scores.column("explanation"), value_set=identities.combine_chunks()).to_numpy(zero_copy_only=False)
    kind, split = (
        compute.fill_null(compute.index_in(scores.column(name), value_set=pa.array(order)), len(order)).to_numpy()
        for name, order in (("kind", SCORE_KINDS), ("split", SCORE_SPLITS))
    )
    known = ~np.isnan(of.astype(np.float64))
    of, kind, split = of[known].astype(np.int64), kind[known], split[known]
    rho = scores.column("rho").to_numpy()[known]
    order = np.lexsort((split, kind, of))
    first = order[np.unique(of[order], return_index=True)[1]]
    found = np.full(len(identities), np.nan, np.float32)
    found[of[first]] = rho[first]
    return found


class TokenWords:
    """A subject's tokens as labels and as words, worked out once for the tokens that are asked for."""

    def __init__(self, maker: PartMaker, workspace: Workspace, slug: str) -> None:
        """Raises AtlasError."""
        self._maker = maker
        self._vocab = load_vocab(workspace, slug)
        size = self._vocab.size
        self._labels = np.full(size, "", object)
        self._words: list[list[int]] = [[]] * size
        self._known = np.zeros(size, bool)

    def learn(self, tokens: Any) -> None:
        """Raises AtlasError for a token that there is not."""
        for token in np.unique(tokens).tolist():
            raw = self._vocab.bytes_of(token)
            if not self._known[token]:
                self._known[token] = True
                self._labels[token] = self._vocab.label(token)
                self._words[token] = [self._maker.word(word) for word in words_of(raw.decode("utf8", "ignore"))]

    def add(self, source: TokenSource) -> None:
        """Add the units of a source that are active on some token. Raises AtlasError, FileNotFoundError and DamagedPart."""
        number = self._maker.source(source.name)
        table = read_columns(source.index.part(source.site, "units"), ["unit", "top_tokens", "top_token_means"])
        tokens, means = flat(table.column("top_tokens"), np.int64), flat(table.column("top_token_means"), np.float32)
        owners = np.repeat(np.arange(table.num_rows), lengths(table.column("top_tokens")))
        active = (means != 0) & ~np.isnan(means)  # a list is filled up with tokens on which the unit is not active
        tokens, owners = tokens[active], owners[active]
        self.learn(tokens)
        counts = np.bincount(owners, minlength=table.num_rows)
        has = counts > 0
        offsets = np.concatenate([[0], np.cumsum(counts[has])]).astype(np.int32)
        texts: Any = pa.ListArray.from_arrays(offsets, pa.array(self._labels[tokens], pa.string()))
        each = [self._words[token] for token in tokens.tolist()]
        sizes = np.bincount(owners, weights=[len(words) for words in each], minlength=table.num_rows)[has].astype(np.int64)
        held = np.fromiter((word for words in each for word in words), np.int64)
        text = compute.binary_join(texts, " ")
        place = self._maker.place(f"{source.index.slug}/{source.site}/{source.index.basis}")
        units = table.column("unit").to_numpy()[has]
        rows = columns(
            "tokens", place=place, unit=units, author=self._maker.author(""), source=number, identity=[""] * len(text), text=text
        )  # fmt: skip
        self._maker.add(rows, held, sizes)


def add_tokens(maker: PartMaker, workspace: Workspace, sources: Sequence[TokenSource]) -> None:
    """Add the top tokens of some sites. What cannot be read is left out; the ingest of the cache names it."""
    by_subject: dict[str, TokenWords] = {}
    for source in sources:
        slug = source.index.slug
        try:
            if slug not in by_subject:
                by_subject[slug] = TokenWords(maker, workspace, slug)
            by_subject[slug].add(source)
        except (AtlasError, FileNotFoundError, DamagedPart):
            maker.source(source.name)


def add_findings(maker: PartMaker, entries: Sequence[Entry]) -> None:
    """Add what people wrote in words: notes, own explanations, labels, collections; of a fork every side."""
    for written, kind in _NOTES.items():
        mine = [(entry, version) for entry in entries if entry.kind == written for version in entry.alternatives]
        texts = [_text(version) for _, version in mine]
        held, sizes = _words(maker, texts)
        units = [entry.unit for entry, _ in mine]
        rows = columns(
            kind, place=[NOWHERE if unit is None else maker.place(str(unit).rpartition("/")[0]) for unit in units],
            unit=[0 if unit is None else unit.index for unit in units], author=[maker.author(version.by) for _, version in mine],
            source=maker.source("findings"), identity=[entry.id for entry, _ in mine], text=texts,
        )  # fmt: skip
        maker.add(rows, held, sizes)


def _text(version: Version) -> str:
    described = str(version.body.get("description", "")) if version.kind == "collection" else ""
    return f"{version.text}\n{described}" if described else version.text


def _words(maker: PartMaker, texts: Sequence[str]) -> tuple[Any, Any]:
    """The words of texts end to end, and how many each has."""
    held: list[int] = []
    sizes: list[int] = []
    word = maker.word
    for text in texts:
        found = words_of(text)
        held.extend(map(word, found))
        sizes.append(len(found))
    return np.array(held, np.int64), np.array(sizes, np.int64)
