"""Which unit an address or a person asks for. What is wrong is said in a sentence, with valid units nearby; never mended in silence."""

import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from core.errors import AtlasError
from core.store.catalog import IndexInfo, find_unit
from core.units import Site, UnitName, in_order
from core.workspace import Workspace

_NUMBER = re.compile(r"\d{1,9}")
_LAYER = re.compile(r"\d{1,4}")


@dataclass(frozen=True)
class Asked:
    """A unit that exists in an index."""

    name: UnitName
    index: IndexInfo


class WrongAddress(AtlasError):
    """The address names no unit. `near` are units that do exist and are close to what was asked."""

    def __init__(self, sentence: str, near: list[UnitName]) -> None:
        super().__init__(sentence)
        self.near = near


def resolve(workspace: Workspace, found: list[IndexInfo], unit: str, run: str | None) -> Asked:
    """The unit named in the address and the index that answers for it. found: all indexes, at least one. Raises WrongAddress."""
    try:
        name = UnitName.parse(unit)
        index = find_unit(workspace, name, run)
    except AtlasError as error:
        raise WrongAddress(str(error), near(found, unit)) from None
    return Asked(name, index)


def near(found: Iterable[IndexInfo], unit: str) -> list[UnitName]:
    """At most three units that exist, as close as can be to what was written."""
    parts = [*unit.split("/"), "", "", ""]
    indexes = list(found)
    mine = [each for each in indexes if each.slug == parts[0] and each.published]
    index = next((each for each in mine if each.basis == parts[2]), (mine or indexes)[0])
    sites = indexed_sites([each for each in indexes if (each.slug, each.basis) == (index.slug, index.basis)])
    if not sites:
        return []
    kind, _, layer = parts[1].partition(".")
    wanted = int(layer) if _LAYER.fullmatch(layer) and layer.isascii() else 0
    site = min((each for each in sites if each.kind == kind), key=lambda each: abs(each.layer - wanted), default=sites[0])
    holder = next(each for each in indexes if (each.slug, each.basis) == (index.slug, index.basis) and site in each.published)
    number = int(parts[3]) if _NUMBER.fullmatch(parts[3]) and parts[3].isascii() else 0
    first = next(each for each in indexes if (each.slug, each.basis) == (index.slug, index.basis) and sites[0] in each.published)
    chosen = [(site, nearest(holder, site, number)), (site, holder.units_of(site)[0]), (sites[0], first.units_of(sites[0])[0])]
    return [UnitName(index.slug, place, index.basis, at) for place, at in dict.fromkeys(chosen)]


def nearest(index: IndexInfo, site: Site, number: int) -> int:
    """The unit that an index holds at a site whose number is nearest, the lower of equals."""
    units = index.units_of(site)
    at = bisect_left(units, number)
    return min(units[max(0, at - 1) : at + 1], key=lambda unit: abs(unit - number))


def indexed_sites(indexes: Iterable[IndexInfo]) -> list[Site]:
    """The sites whose files are there, layer by layer."""
    return in_order({site for index in indexes for site in index.published})


def jump(here: UnitName, typed: str) -> str:
    """What a person typed into the jump box, as a unit's full name: `1352`, `5/1352`, `mlp.5/1352`, `mlp.5/neurons/1352` or all of it.

    What is left out is taken from `here`. The result may still name no unit. Raises AtlasError when it cannot be read.
    """
    parts = [part.strip() for part in typed.strip().split("/")]
    if len(parts) == 2 and _LAYER.fullmatch(parts[0]):
        parts[0] = f"{here.site.kind}.{parts[0]}"
    if len(parts) == 1 and parts[0]:
        return str(UnitName.parse(f"{here.subject}/{here.site}/{here.basis}/{parts[0]}"))
    if len(parts) == 2:
        return str(UnitName.parse(f"{here.subject}/{parts[0]}/{here.basis}/{parts[1]}"))
    if len(parts) == 3:
        return str(UnitName.parse("/".join([here.subject, *parts])))
    return str(UnitName.parse("/".join(parts)))


def holders(found: Iterable[IndexInfo], name: UnitName) -> list[IndexInfo]:
    """The indexes that hold a unit, the one over most tokens first."""
    mine = [index for index in found if index.slug == name.subject and index.basis == name.basis and name.site in index.published]
    return [index for index in mine if name.index in index.units_of(name.site)]


def step(asked: Asked, by: int) -> UnitName:
    """The unit `by` places further (before, if negative); after a site's last unit comes the first of the index's next site, and round."""
    name = asked.name
    sizes = [len(asked.index.units_of(site)) for site in asked.index.published]
    firsts = dict(zip(asked.index.published, accumulate(sizes, initial=0), strict=False))
    place = (firsts[name.site] + asked.index.units_of(name.site).index(name.index) + by) % sum(sizes)
    site = max((site for site in firsts if firsts[site] <= place), key=firsts.__getitem__)
    return UnitName(name.subject, site, name.basis, asked.index.units_of(site)[place - firsts[site]])


def describe(index: IndexInfo) -> str:
    """An index in a few words, for a picker."""
    text = ", ".join(index.slice.get("sources", {})) or str(index.slice["id"])
    return f"{index.tokens_done:,} tokens · {text[:40]} · {index.run}"
