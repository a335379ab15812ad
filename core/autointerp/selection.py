"""Choosing units for a run: by site, by what the index says of them, by a token, or a sample of those."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import AtlasError, shown
from core.store.catalog import IndexInfo, read_current
from core.store.density import density
from core.store.parts import flat, lengths, read_columns
from core.store.texts import load_vocab
from core.units import Site, UnitName, parse_sites
from core.vocab import Vocab
from core.workspace import Workspace

Span = tuple[float | None, float | None]
ANY: Span = (None, None)
_NUMBERS = ("density", "kurtosis", "max")
_WORDS = ("sites", "token", "sample", "seed", *_NUMBERS)


class NoUnit(AtlasError):
    """No unit fits."""


@dataclass(frozen=True)
class Selection:
    """sites: a choice such as `mlp.0-5`, empty for all that are indexed. density, kurtosis, maximum: closed ranges. token: one of the
    unit's top tokens, ignoring case and spaces around it. sample: at most so many of each site, drawn by `seed`; None for all."""

    sites: str = ""
    density: Span = ANY
    kurtosis: Span = ANY
    maximum: Span = ANY
    token: str = ""
    sample: int | None = None
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> "Selection":
        """Read `sites=mlp.0-5 sample=100 density=0.001..0.05 kurtosis=10.. token=fight`. Raises AtlasError naming what is wrong."""
        given: dict[str, Any] = {}
        for item in text.split():
            name, equals, value = item.partition("=")
            if not equals or name not in _WORDS:
                raise AtlasError(f"“{shown(item)}” is not a filter: write {', '.join(f'{word}=…' for word in _WORDS)}.")
            if name in _NUMBERS:
                given["maximum" if name == "max" else name] = _span(name, value)
            elif name in ("sample", "seed"):
                if not value.isascii() or not value.isdigit() or len(value) > 9:
                    raise AtlasError(f"“{shown(value)}” is not a number for {name}: write a whole number.")
                given[name] = int(value)
            else:
                given[name] = value
        return cls(**given)


def select(workspace: Workspace, index: IndexInfo, selection: Selection) -> list[UnitName]:
    """The units of an index that fit, in the model's order. Raises AtlasError when none does or a site is not indexed."""
    sites = list(index.published) if not selection.sites else parse_sites(selection.sites, index.n_layers)
    missing = [str(site) for site in sites if site not in index.published]
    if missing:
        raise AtlasError(f"{missing[0]} of {index.slug} is not indexed in the run {index.run}: choose among its sites.")
    vocab = load_vocab(workspace, index.slug) if selection.token else None
    found = read_current(workspace, index, lambda current: [name for site in sites for name in _of_site(current, site, selection, vocab)])
    if not found:
        raise NoUnit("No unit fits the filter: widen a range or leave one out.")
    return found


ALIVE = float(np.finfo(np.float32).tiny)
"""Less than the smallest maximum of a unit that was ever active."""


def select_across(workspace: Workspace, indexes: Sequence[IndexInfo], selection: Selection) -> list[UnitName]:
    """The units that fit at each site of several indexes, one index for each subject, basis and site: the first that has it.

    A unit that is never active has no records to be scored on and is left out. Raises AtlasError when no unit fits.
    """
    if not indexes:
        raise AtlasError("Nothing is indexed yet: start an index with `python -m core index`.")
    alive = selection if selection.maximum != ANY else replace(selection, maximum=(ALIVE, None))
    wanted = set(parse_sites(selection.sites, max(index.n_layers for index in indexes))) if selection.sites else None
    found: list[UnitName] = []
    taken: set[tuple[str, str, Site]] = set()
    for index in indexes:
        for site in index.published:
            key = (index.slug, index.basis, site)
            if (wanted is None or site in wanted) and key not in taken:
                taken.add(key)
                with suppress(NoUnit):
                    found += select(workspace, index, replace(alive, sites=str(site)))
    if not found:
        raise NoUnit("No unit fits at these sites: index a basis there, or choose other sites.")
    return found


def _of_site(index: IndexInfo, site: Site, selection: Selection, vocab: Vocab | None) -> list[UnitName]:
    numbers = np.asarray(index.units_of(site))
    fits = np.ones(len(numbers), bool)
    columns = ["kurtosis", "min", "max"]
    if selection.density != ANY:
        columns += ["bins", "counts"]
    if vocab is not None:
        columns += ["top_tokens"]
    if len(columns) > 3 or selection.kurtosis != ANY or selection.maximum != ANY:
        table = read_columns(index.part(site, "units"), columns)
        low, high = table.column("min").to_numpy(), table.column("max").to_numpy()
        fits &= _inside(table.column("kurtosis").to_numpy(), selection.kurtosis) & _inside(high, selection.maximum)
        if selection.density != ANY:
            bins, counts = flat(table.column("bins"), np.int64), flat(table.column("counts"), np.int64)
            fits &= _inside(density(bins, counts, lengths(table.column("bins")), low, high), selection.density)
        if vocab is not None:
            wanted = selection.token.strip().casefold() or selection.token
            tokens = flat(table.column("top_tokens"), np.int64)
            same = np.array(
                [piece.strip().casefold() == wanted or piece == selection.token for piece in vocab.pieces(tokens.tolist())], bool
            )
            owners = np.repeat(np.arange(len(fits)), lengths(table.column("top_tokens")))
            fits &= np.bincount(owners, same, len(fits)) > 0
    units = numbers[fits]
    if selection.sample is not None and len(units) > selection.sample:
        units = np.sort(np.random.default_rng([selection.seed, site.layer]).choice(units, selection.sample, replace=False))
    return [UnitName(index.slug, site, index.basis, int(unit)) for unit in units]


def _inside(values: npt.NDArray[Any], span: Span) -> npt.NDArray[np.bool_]:
    """NaN is in no range that has an end."""
    low, high = span
    fits = np.ones(len(values), bool)
    if low is not None:
        fits &= values >= low
    if high is not None:
        fits &= values <= high
    return fits


def _span(name: str, text: str) -> Span:
    ends: Sequence[str] = text.split("..") if ".." in text else (text, text)
    try:
        low, high = (float(end) if end else None for end in ends)
    except ValueError:
        raise AtlasError(f"“{shown(text)}” is not a range for {name}: write low..high, and leave an end out to keep it open.") from None
    return low, high
