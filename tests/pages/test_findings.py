"""The Findings page: everything written, the newest first, filtered by the address; collections with their order; CSV."""

import csv
import io
import re
from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from core.findings.entry import Entry
from core.findings.findings import Findings
from core.findings.listing import CSV_COLUMNS, Wanted, listed, to_csv
from core.units import UnitName
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, bodies, shown

UNITS = [UnitName.parse(f"tiny/mlp.1/neurons/{number}") for number in range(4)]


@pytest.fixture
def written(workspace: Workspace) -> Workspace:
    ada, ben = Findings(workspace, "Ada"), Findings(workspace, "")
    ada.save_note(UNITS[0], "Fires on <b>rivers</b>")
    ada.label(UNITS[0], "water")
    ben.rate(UNITS[0], 5)
    ben.save_note(UNITS[1], "=HYPERLINK(1)")
    ben.rate(UNITS[1], 2)
    ada.explain(UNITS[2], "Names of lakes")
    ada.alike(UNITS[2], UNITS[3])
    made = ada.collections.create("Wet", "All *wet* ones")
    ada.collections.add(made.id, UNITS[:3])
    return workspace


@pytest.fixture
def opened(written: Workspace, open_page: OpenPage) -> "partial[AppTest]":
    return partial(open_page, written, "findings")


def rows(page: AppTest) -> list[str]:
    (table,) = [body for body in bodies(page) if 'class="nfl"' in body]
    found = re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>")[1])
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in found]


def order(page: AppTest) -> list[str]:
    return re.findall(r"\d+\. +mlp\.1/(\d)", shown(page))


def test_everything_is_listed_newest_first_with_links_and_inert(opened: "partial[AppTest]") -> None:
    page = opened()
    assert not page.exception
    assert len(rows(page)) == 11
    assert "put into Wet" in rows(page)[0]
    assert "Fires on &lt;b&gt;rivers" in rows(page)[-1]
    (table,) = [body for body in bodies(page) if 'class="nfl"' in body]
    assert '<a href="/unit?unit=tiny/mlp.1/neurons/0"' in table
    assert "of 11 , the newest first" in " ".join(shown(page).split())


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ({"kind": "note"}, ["note", "note"]),
        ({"label": "water"}, ["member", "rating", "label", "note"]),
        ({"author": "someone"}, ["rating", "note", "rating"]),
        ({"rating": "3"}, ["member", "rating", "label", "note"]),
        ({"rating": "2", "kind": "note"}, ["note", "note"]),
    ],
)
def test_filters_of_the_address_narrow_the_list(
    written: Workspace, opened: "partial[AppTest]", query: dict[str, str], kinds: list[str]
) -> None:
    wanted = Wanted(
        None, query.get("kind", ""), query.get("author", ""), query.get("label", ""), int(query["rating"]) if "rating" in query else None
    )
    found: list[Entry] = listed(Findings(written), wanted)
    assert [entry.kind for entry in found] == kinds
    assert len(rows(opened(**query))) == len(kinds)


def test_the_csv_has_every_row_and_no_formula(written: Workspace) -> None:
    found = Findings(written).entries()
    read = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert tuple(read[0]) == CSV_COLUMNS
    assert len(read) == len(found)
    by_text = {row["text"]: row for row in read}
    assert by_text["'=HYPERLINK(1)"]["author"] == "someone"
    assert by_text["Names of lakes"]["unit"] == str(UNITS[2])


def test_a_collection_shows_its_units_in_order_and_they_can_be_moved(written: Workspace, opened: "partial[AppTest]") -> None:
    collection = Findings(written).collections.find("Wet")
    page = opened(collection=collection.id)
    assert not page.exception
    assert [element.value for element in page.markdown] == ["All *wet* ones"]
    assert order(page) == ["0", "1", "2"]
    page.button(key=f"up-{collection.members[2].id}").click().run()
    assert order(page) == ["0", "2", "1"]
    page.button(key=f"out-{collection.members[0].id}").click().run()
    assert order(page) == ["2", "1"]
    assert Findings(written).collections.find("Wet").units == [UNITS[2], UNITS[1]]


def test_a_collection_is_described_anew_and_the_second_to_save_is_told(written: Workspace, opened: "partial[AppTest]") -> None:
    collection = Findings(written).collections.find("Wet")
    page = opened(collection=collection.id)
    page.button(key="collection-edit").click().run()
    Findings(written, "Ben").collections.describe(collection.id, "Wet", "Ben's words", base=collection.entry.base)
    page.text_area(key="collection-description").set_value("Ada's words")
    page.button(key="collection-save").click().run()
    assert any("Ben saved this meanwhile" in said for said in alerts(page))
    assert "Ben's words" in shown(page)
    page.text_area(key="collection-description").set_value("Ada's and Ben's words")
    page.button(key="collection-save").click().run()
    assert [element.value for element in page.markdown] == ["Ada's and Ben's words"]
    page.button(key="collection-undo").click().run()
    assert [element.value for element in page.markdown] == ["Ben's words"]
    page.button(key="collection-history-toggle").click().run()
    assert "took a change back" in shown(page)
    page.button(key="collection-remove").click().run()
    assert not page.exception
    assert Findings(written).collections.list() == []
    assert "a collection that was removed" in shown(page)


def test_a_new_collection_is_made_here(workspace: Workspace, open_page: OpenPage) -> None:
    page = open_page(workspace, "findings")
    assert "Nothing is written yet." in shown(page)
    page.session_state["collection-new"] = True
    page.run()
    page.text_input(key="collection-title").set_value("Rivers")
    page.text_area(key="collection-description").set_value("of the north")
    page.button(key="collection-make").click().run()
    assert not page.exception
    (made,) = Findings(workspace).collections.list()
    assert (made.title, made.description) == ("Rivers", "of the north")
    assert page.query_params["collection"] in (made.id, [made.id])
    assert "No unit is in it yet" in shown(page)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"kind": "x<b>"}, "is not a choice"),
        ({"collection": "gone"}, "is not a choice"),
        ({"page": "9"}, "out of range"),
        ({"rating": "7"}, "is not"),
    ],
)
def test_a_wrong_address_is_a_sentence(opened: "partial[AppTest]", query: dict[str, str], said: str) -> None:
    page = opened(**query)
    assert not page.exception
    assert [alert for alert in alerts(page) if said in alert] == alerts(page) != []
    assert "Show everything" in [button.label for button in page.button]
