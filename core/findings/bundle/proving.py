"""The proof of what was imported: all of it is read as the pages and the cache will read it, before it is put in place."""

from core.errors import AtlasError
from core.findings.bundle import schemas
from core.findings.bundle.archive import Refused
from core.findings.bundle.reduced import SELF, Reduced
from core.store import explanation_view, units
from core.store.catalog import scan
from core.store.effects import load_effect
from core.store.explained import load_explained
from core.store.explained_ingest import part_rows, verify_run
from core.store.features import load_feature
from core.store.ingest import site_rows, verify
from core.store.parts import DamagedPart
from core.store.texts import load_text, load_vocab
from core.units import UnitName
from core.workspace import Workspace


def prove(staged: Workspace, made: list[Reduced]) -> None:
    """Read all of it as the pages and the cache will. Raises Refused."""
    try:
        found, broken = scan(staged)
        if broken or {index.run for index in found} != {one.run for one in made if one.kind == "index"}:
            raise AtlasError(next(iter(broken.values()), "An index in the bundle cannot be read."))
        for index in found:
            verify(index, whole=True)
            text = load_text(staged, index)
            size = load_vocab(staged, index.slug).size
            if len(text) != int(index.slice["contexts"]) or (len(text.tokens) and int(text.tokens.max()) >= size):
                raise AtlasError("The text in the bundle has tokens that its vocabulary lacks.")
            for site in index.published:
                site_rows(index, site, text, 0)
                for unit in index.units_of(site):
                    view = units.load_unit(staged, UnitName(index.slug, site, index.basis, unit), index.run)
                    load_feature(staged, view)
                    for kind in ("strong", "sampled"):
                        view.positions(kind)
        for one in made:
            if one.kind == "explain":
                _prove_explained(staged, one)
            elif one.kind == "effect":
                load_effect(staged, one.run)
    except Refused:
        raise
    except (AtlasError, DamagedPart) as error:
        raise Refused(f"What is in the bundle cannot be shown ({str(error).replace(str(staged.path), '')[:300]}).") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, ArithmeticError, RecursionError):
        raise Refused("What is in the bundle cannot be shown.") from None


def _prove_explained(staged: Workspace, one: Reduced) -> None:
    found = load_explained(staged, one.run)
    verify_run(found, whole=True)
    for part in found.parts:
        part_rows(found, part)
    for place, table in one.tables.items():
        if place.form is schemas.EXPLANATIONS:
            for identity in table.column("explanation").to_pylist():
                explanation_view.load_explanation(staged, one.run + identity[len(SELF) :])
