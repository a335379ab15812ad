"""What the page Compare shows, made once and kept: each unit as its own page has it, and what the units have in common."""

from dataclasses import dataclass

from core.findings.findings import Findings
from core.remembered import Remembered
from core.store.catalog import IndexInfo, find_unit
from core.store.compare.compared import LETTERS, Compared, choose_indexes, compare
from core.store.texts import load_vocab
from core.store.units import UnitView
from core.ui import nav
from core.ui.server import Server
from core.ui.unit_data import UnitData, unit_data
from core.units import UnitName
from core.vocab import Vocab
from core.workspace import Workspace

KEPT = 6


@dataclass(frozen=True)
class CompareData:
    """units: as the Unit page has them, in the order of the address. compared: of one unit alone, nothing. vocabularies: theirs."""

    units: tuple[UnitData, ...]
    compared: Compared
    vocabularies: tuple[Vocab, ...]

    @property
    def views(self) -> tuple[UnitView, ...]:
        return tuple(unit.view for unit in self.units)

    @property
    def names(self) -> list[UnitName]:
        return [view.name for view in self.views]

    def vocab(self, place: int) -> Vocab:
        """The tokens of a unit's model."""
        return self.vocabularies[place]

    @property
    def key(self) -> str:
        """Changes exactly when what is shown does."""
        return "|".join(f"{view.index.run}:{view.index.generation}:{view.name}" for view in self.views)


_kept: Remembered[tuple[tuple[str, float, int, UnitName], ...], Compared] = Remembered(KEPT)


def compare_data(workspace: Workspace, names: list[UnitName], run: str | None) -> CompareData:
    """The units and their comparison as the indexes have them now. run: of the address. Raises AtlasError."""
    chosen = [find_unit(workspace, name, run) for name in names] if run else choose_indexes(workspace, names)
    units = _units(workspace, names, chosen)
    key = tuple((str(index.path), index.written, index.generation, name) for index, name in zip(chosen, names, strict=True))
    return CompareData(units, _kept.get(key, lambda: compare(workspace, [unit.view for unit in units])), _vocabularies(workspace, names))


def single(workspace: Workspace, name: UnitName, run: str | None) -> CompareData:
    """One unit, with nothing to compare it to. Raises AtlasError."""
    return CompareData(_units(workspace, [name], [find_unit(workspace, name, run)]), Compared((), (), ()), _vocabularies(workspace, [name]))


def offered(server: Server, data: CompareData) -> dict[str, list[UnitName]]:
    """Units that something is known to tie to the only one, by what it is. Raises AtlasError."""
    unit = data.units[0]
    together = [each.name for each in unit.feature.feature.coactive] if unit.feature is not None else []
    alike = [entry for entry in Findings(server.workspace).entries(unit=unit.view.name) if entry.kind == "alike"]
    return {"is active together with": together, "somebody said it looks like": [UnitName.parse(entry.current.text) for entry in alike]}


def named(view: UnitView) -> str:
    """A unit in a list of several: `mlp.5 / neurons / 1352`."""
    return f"{view.name.site} / {view.name.basis} / {view.name.index}"


def marked(view: UnitView, place: int) -> str:
    """A unit where there is little room: its letter and its number."""
    return f"{LETTERS[place]} {view.name.index}"


def address_of(view: UnitView) -> str:
    """The page of a unit over the very text that is compared."""
    return nav.unit_address(view.name, view.index.run)


def _vocabularies(workspace: Workspace, names: list[UnitName]) -> tuple[Vocab, ...]:
    return tuple(load_vocab(workspace, name.subject) for name in names)


def _units(workspace: Workspace, names: list[UnitName], chosen: list[IndexInfo]) -> tuple[UnitData, ...]:
    return tuple(unit_data(workspace, index, name) for name, index in zip(names, chosen, strict=True))
