"""Pages over an imported bundle: the same figures as where it came from, steps among what came, and no button that could not work."""

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.findings.bundle.importing import import_bundle
from core.findings.bundle.staging import stage
from core.workspace import Workspace
from tests.pages import conftest
from tests.pages.conftest import OpenPage, alerts, shown
from tests.shared_bundle import UNITS, exported, fill


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Workspace]:
    """A workspace, and one into which four units of it were imported."""
    folder: Path = tmp_path_factory.mktemp("both")
    source, target = Workspace.open(folder / "source"), Workspace.open(folder / "target")
    fill(source)
    import_bundle(target, exported(source, folder / "four.atlas.zip"), stage=stage)
    return source, target


def tables(page: AppTest) -> list[Any]:
    """What the records and tables are drawn from, without the names of runs and addresses."""
    found = [data for data in conftest.components(page) if "here" not in data]
    return [_without(data) for data in found]


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(inside) for key, inside in value.items() if key not in ("key", "identity", "run") and "address" not in key}
    return [_without(inside) for inside in value] if isinstance(value, list) else value


@pytest.mark.parametrize("at", range(len(UNITS)))
def test_the_page_of_an_imported_unit_shows_what_the_other_one_showed(
    both: tuple[Workspace, Workspace], open_page: OpenPage, at: int
) -> None:
    there, here = (open_page(workspace, "unit", unit=str(UNITS[at])) for workspace in both)
    for page in (there, here):
        assert not page.exception
        assert not alerts(page)
    theirs, ours = ("\n".join(one.proto.body for one in page.get("html") if "nu-stats" in one.proto.body) for page in (there, here))
    assert theirs == ours != ""
    assert tables(there) == tables(here)


@pytest.mark.parametrize("page", ["overview", "explore", "scores", "runs", "explain", "features", "studies"])
def test_no_page_stumbles_over_an_imported_workspace(both: tuple[Workspace, Workspace], open_page: OpenPage, page: str) -> None:
    opened = open_page(both[1], page)
    assert not opened.exception
    assert not alerts(opened)


def test_the_pickers_offer_the_units_that_came(both: tuple[Workspace, Workspace], open_page: OpenPage) -> None:
    page = open_page(both[1], "unit", unit=str(UNITS[2]))
    picker = next(one for one in page.selectbox if one.key == "unit-number")
    assert picker.options == ["2", "5"]


def test_the_runs_that_came_are_named_where_runs_are(both: tuple[Workspace, Workspace], open_page: OpenPage) -> None:
    page = open_page(both[1], "runs")
    assert [one.label for one in page.expander if "came in files" in one.label] == ["4 runs came in files of others"]
    came = [run.name for run in both[1].runs.iterdir()]
    assert len(came) == 4
    assert all(run in shown(page) for run in came)
    assert not [one.label for one in open_page(both[0], "runs").expander if "came in files" in one.label]


def test_a_unit_that_did_not_come_is_named_with_those_that_did(both: tuple[Workspace, Workspace], open_page: OpenPage) -> None:
    page = open_page(both[1], "unit", unit="tiny/mlp.1/neurons/6")
    assert not page.exception
    said = "\n".join(one.proto.body for one in page.get("html"))
    assert "not in the bundle that was imported" in said
    assert str(UNITS[0]) in said
