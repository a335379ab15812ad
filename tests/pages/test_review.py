"""The Review page: the list that the address asks for, the first unit not yet done, and a sentence for what is wrong."""

from functools import partial
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.findings.findings import Findings
from core.units import UnitName
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, bodies, components, shown
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import write_synthetic_explanations

WIDTH = 8
EXPLAINED = "tiny/mlp.1/neurons/3"


@pytest.fixture
def reviewed(workspace: Workspace) -> Workspace:
    write_synthetic_index(workspace, n_layers=2, width=WIDTH, contexts=48, length=16)
    write_synthetic_explanations(workspace, units=[EXPLAINED], text="Fires on *rivers* <b>{unit}</b>.")
    Findings(workspace).set_usual_author("Ada")
    return workspace


@pytest.fixture
def opened(reviewed: Workspace, open_page: OpenPage) -> "partial[AppTest]":
    return partial(open_page, reviewed, "review")


def told(page: AppTest) -> dict[str, Any]:
    """What the browser is told."""
    (data,) = components(page, "review")
    return data


def test_the_first_unit_is_the_first_not_done_and_the_next_ones_are_ready(opened: "partial[AppTest]", reviewed: Workspace) -> None:
    page = opened()
    assert not page.exception
    first = told(page)
    assert (first["done"], first["total"]) == (0, 2 * WIDTH)
    assert {card["unit"] for card in first["cards"]} >= {first["at"], *first["ahead"], *first["around"], first["chance"]}
    Findings(reviewed).rate(UnitName.parse(first["at"]), 4)
    Findings(reviewed).label(UnitName.parse(first["ahead"][0]), "water")
    Findings(reviewed, "Ben").rate(UnitName.parse(first["ahead"][1]), 4)
    again = told(opened())
    assert (again["at"], again["done"]) == (first["ahead"][1], 2)
    written = again["written"][again["at"]]
    assert (written["rating"], [(said["by"], said["text"]) for said in written["said"]]) == (None, [("Ben", "4")])


def test_a_card_has_the_best_explanation_the_records_and_what_people_wrote(opened: "partial[AppTest]", reviewed: Workspace) -> None:
    Findings(reviewed).save_note(UnitName.parse(EXPLAINED), "A <i>note</i>")
    data = told(opened(explained="yes"))
    assert (data["at"], data["total"], data["ahead"]) == (EXPLAINED, 1, [])
    (card,) = data["cards"]
    assert card["said"]["words"] == [["Fires on ", False], ["rivers", True], [" <b>3</b>.", False]]
    assert card["said"]["facts"][0].startswith("ρ 0.")
    assert 0 < len(card["records"]["rows"]) <= 8
    assert card["tokens"]
    assert card["address"] == f"/unit?unit={EXPLAINED}&run=index-test"
    (said,) = data["written"][EXPLAINED]["said"]
    assert (said["kind"], said["text"], said["by"]) == ("note", "A <i>note</i>", "Ada")


@pytest.mark.parametrize(
    ("query", "count"),
    [({"layer": "1"}, WIDTH), ({"explained": "no"}, 2 * WIDTH - 1), ({"layer": "0", "explained": "yes"}, 0), ({"kurtosis": ">100000"}, 0)],
)
def test_the_address_narrows_the_queue(opened: "partial[AppTest]", query: dict[str, str], count: int) -> None:
    page = opened(**query)
    assert not page.exception
    if count:
        assert told(page)["total"] == count
    else:
        assert any("No unit fits" in alert for alert in alerts(page))
        assert "Review all units" in [button.label for button in page.button]
    assert ("narrowed by the address: kurtosis >100000" in shown(page)) == ("kurtosis" in query)


def test_a_collection_is_reviewed_in_its_order_and_a_label_chooses_units(opened: "partial[AppTest]", reviewed: Workspace) -> None:
    units = [UnitName.parse(f"tiny/mlp.1/neurons/{number}") for number in (5, 2, 7)]
    known = Findings(reviewed)
    made = known.collections.create("Wet")
    known.collections.add(made.id, units)
    Findings(reviewed, "Ben").label(units[1], "water")
    data = told(opened(collection=made.id))
    assert [data["at"], *data["ahead"]] == [str(unit) for unit in units]
    assert told(opened(label="water"))["at"] == str(units[1])
    page = opened(collection=made.id, order="random", seed="3")
    assert told(page)["total"] == 3
    page.selectbox(key="review_collection").set_value("").run()
    assert told(page)["total"] == 2 * WIDTH


def test_every_unit_done_is_said_by_no_unit(opened: "partial[AppTest]", reviewed: Workspace) -> None:
    Findings(reviewed).rate(UnitName.parse(EXPLAINED), 1)
    data = told(opened(explained="yes"))
    assert (data["at"], data["done"], data["total"], data["cards"]) == ("", 1, 1, [])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"order": "<b>x"}, "is not a choice for “Order”"),
        ({"seed": "-1", "order": "random"}, "is not possible for “Seed”"),
        ({"layer": "9"}, "out of range"),
        ({"density": "zz"}, "is not a range"),
        ({"kind": "head"}, "is not a choice for “Site”"),
        ({"explained": "perhaps"}, "is not a choice"),
        ({"collection": "gone"}, "is not a choice"),
        ({"label": "gone"}, "is not a choice"),
    ],
)
def test_a_wrong_address_is_a_sentence(opened: "partial[AppTest]", query: dict[str, str], said: str) -> None:
    page = opened(**query)
    assert not page.exception
    assert [alert for alert in alerts(page) if said in alert] == alerts(page) != []
    assert components(page, "review") == []


def test_who_writes_is_asked_once(workspace: Workspace, open_page: OpenPage) -> None:
    write_synthetic_index(workspace, n_layers=1, width=4, contexts=24, length=16)
    page = open_page(workspace, "review")
    page.text_input(key="findings-name").set_value("Ben").run()
    assert not page.exception
    assert Findings(workspace).usual_author == "Ben"
    assert "Your name" not in [field.label for field in page.text_input]


def test_without_an_index_the_page_says_what_would_fill_it(workspace: Workspace, open_page: OpenPage) -> None:
    page = open_page(workspace, "review")
    assert not page.exception
    assert components(page, "review") == []
    assert [button.label for button in page.button] == ["Start an index"]


def test_explore_and_a_collection_lead_here(opened: "partial[AppTest]", reviewed: Workspace, open_page: OpenPage) -> None:
    page = open_page(reviewed, "explore", layer="1", kurtosis=">3")
    assert "Review" in [button.label for button in page.button]
    assert told(opened(layer="1", kurtosis=">3"))["total"] == int(shown(page).partition(" of ")[2].split()[0])
    made = Findings(reviewed).collections.create("Wet")
    Findings(reviewed).collections.add(made.id, [UnitName.parse(EXPLAINED)])
    assert f'href="/review?collection={made.id}"' in "".join(bodies(open_page(reviewed, "findings", collection=made.id)))
