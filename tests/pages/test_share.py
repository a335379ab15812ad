"""Sharing from pages: what can be saved of a unit, a collection and a list, and the field for a file that somebody sent."""

import html
import re
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.findings.findings import Findings
from core.ui.share_files import FORMATS
from core.units import UnitName
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, shown
from tests.synthetic import write_synthetic_index

UNITS = [UnitName.parse(f"tiny/mlp.1/neurons/{number}") for number in range(3)]


@pytest.fixture
def written(workspace: Workspace) -> Workspace:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=24, length=16)
    ada = Findings(workspace, "Ada")
    for unit in UNITS[:2]:
        ada.save_note(unit, "A note")
    made = ada.collections.create("Wet <b>")
    ada.collections.add(made.id, UNITS)
    return workspace


def buttons(page: AppTest) -> list[Any]:
    return [element.proto for element in page.get("download_button")]


def opened(page: AppTest, key: str) -> AppTest:
    """With the fold of that key open."""
    page.session_state[f"{key}-share"] = True
    return page.run()


def saves(page: AppTest) -> list[str]:
    return [proto.label for proto in buttons(page) if proto.label.startswith("Save ") and "unit" in proto.label]


def test_a_units_page_offers_every_format_and_says_what_each_cannot_carry(written: Workspace, open_page: OpenPage) -> None:
    page = open_page(written, "unit", unit=str(UNITS[0]))
    assert saves(page) == [], "nothing is made ready before the fold is open"
    opened(page, "unit")
    assert not page.exception
    assert saves(page) == ["Save 1 unit"]
    for name, chosen in FORMATS.items():
        page.selectbox(key="unit-format").set_value(name).run()
        assert not page.exception
        assert f"It cannot carry: {'; '.join(chosen.lacks)}." in shown(page)
        assert bool([one for one in page.toggle if one.key == "unit-words"]) == (name == "bundle")


def test_a_collection_and_a_chosen_list_are_shared(written: Workspace, open_page: OpenPage) -> None:
    collection = Findings(written).collections.find("Wet <b>")
    page = opened(open_page(written, "findings", collection=collection.id), "collection")
    assert not page.exception
    assert saves(page) == ["Save 3 units"]
    page = opened(open_page(written, "findings", kind="note"), "listed")
    assert not page.exception
    assert saves(page) == ["Save 2 units"]
    assert saves(opened(open_page(written, "findings", kind="label"), "listed")) == []


def test_the_field_for_a_file_takes_bundles_up_to_a_size(written: Workspace, open_page: OpenPage) -> None:
    page = open_page(written, "findings")
    page.session_state["import-fold"] = True
    page.run()
    assert not page.exception
    (field,) = page.get("file_uploader")
    proto: Any = field.proto  # type: ignore[attr-defined]
    assert proto.max_upload_size_mb == 200
    assert ".zip" in list(proto.type)
    assert "changes nothing" in html.unescape(re.sub("<[^>]*>", "", shown(page)))
