"""Units compared: each one, what every two of them have in common, and the contexts that they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from core.errors import AtlasError
from core.store.catalog import IndexInfo, find_unit, indexes
from core.store.compare.activity import Activity, load_activity
from core.store.compare.contexts import SharedContext, shared_contexts
from core.store.compare.likeness import Cosine, Overlap, cosine, raised_tokens, top_tokens
from core.store.compare.together import Strongest, Together, strongest, together
from core.store.units import UnitView, load_unit
from core.units import UnitName
from core.workspace import Workspace

LEAST, MOST = 2, 4
LETTERS = "ABCD"
"""What the units of a comparison are called where there is no room for their names."""


@dataclass(frozen=True)
class Pair:
    """Two of the units, by their places. together, strongest: empty and None where they were read over different texts.

    top, raised: None where their models have different tokens, or the weights' effects are not known.
    """

    one: int
    other: int
    together: tuple[Together, ...]
    strongest: Strongest | None
    top: Overlap | None
    raised: Overlap | None
    cosine: Cosine

    @property
    def called(self) -> str:
        """The pair by its letters."""
        return f"{LETTERS[self.one]} and {LETTERS[self.other]}"


@dataclass(frozen=True)
class Compared:
    """units: in the order asked for. pairs: every two of them. shared: their shared contexts, the most telling first."""

    units: tuple[Activity, ...]
    pairs: tuple[Pair, ...]
    shared: tuple[SharedContext, ...]

    @property
    def views(self) -> tuple[UnitView, ...]:
        return tuple(unit.view for unit in self.units)

    @property
    def apart(self) -> str:
        """One sentence where not all units were read over the same text, else empty."""
        texts = {text: [] for text in dict.fromkeys(unit.text for unit in self.units)}
        for letter, unit in zip(LETTERS, self.units, strict=False):
            texts[unit.text].append(letter)
        if len(texts) < 2:
            return ""
        groups = "; ".join(" and ".join(letters) for letters in texts.values())
        return f"Not all were read over the same text ({groups}): contexts and activity are compared within one text only."


def check_names(names: Sequence[UnitName]) -> None:
    """Raises AtlasError unless two to four different units are named."""
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise AtlasError(f"{twice} was named twice: name each unit once.")
    if not LEAST <= len(names) <= MOST:
        raise AtlasError(f"Two to four units are compared at a time, not {len(names):,}: name as many.")


def compare(workspace: Workspace, views: Sequence[UnitView]) -> Compared:
    """Compare two to four different units that were loaded. Raises AtlasError."""
    check_names([view.name for view in views])
    units = tuple(load_activity(workspace, view) for view in views)
    pairs = tuple(_pair(workspace, units, one, other) for one, other in combinations(range(len(units)), 2))
    return Compared(units, pairs, tuple(shared_contexts(units)))


def load_views(workspace: Workspace, names: Sequence[UnitName], run: str | None = None) -> list[UnitView]:
    """The units as `compare` takes them. run: the index that all are read from; else `choose_indexes` chooses. Raises AtlasError."""
    check_names(names)
    chosen = [find_unit(workspace, name, run) for name in names] if run else choose_indexes(workspace, names)
    return [load_unit(workspace, name, index.run) for name, index in zip(names, chosen, strict=True)]


def choose_indexes(workspace: Workspace, names: Sequence[UnitName]) -> list[IndexInfo]:
    """The index that answers for each unit: those over one text that all were read over, else each unit's largest. Raises AtlasError."""
    usual = [find_unit(workspace, name) for name in names]
    held = [{_text(index): index for index in reversed(_holders(workspace, name))} for name in names]
    common = set[str](held[0]).intersection(*held[1:]) if held else set[str]()
    if len({_text(index) for index in usual}) == 1 or not common:
        return usual
    best = max(sorted(common), key=lambda text: min(found[text].tokens_done for found in held))
    return [found[best] for found in held]


def _holders(workspace: Workspace, name: UnitName) -> list[IndexInfo]:
    mine = [index for index in indexes(workspace) if (index.slug, index.basis) == (name.subject, name.basis)]
    return [index for index in mine if name.site in index.published and name.index in index.units_of(name.site)]


def _text(index: IndexInfo) -> str:
    return str(index.slice["hash"])


def _pair(workspace: Workspace, units: Sequence[Activity], one: int, other: int) -> Pair:
    a, b = units[one], units[other]
    return Pair(
        one,
        other,
        tuple(together(a, b)),
        strongest(a, b),
        top_tokens(a.view, b.view),
        raised_tokens(a.view, b.view),
        cosine(workspace, a.view, b.view),
    )
