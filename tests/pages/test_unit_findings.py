"""The Unit page's section “Findings”: what is written is kept, shown, taken back, and never overwrites what somebody else saved."""

from functools import partial
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.findings.findings import Findings
from core.units import UnitName
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, shown
from tests.synthetic import write_synthetic_index

NAME = "tiny/mlp.1/neurons/5"
UNIT = UnitName.parse(NAME)
OTHER = UnitName.parse("tiny/mlp.0/neurons/2")


@pytest.fixture
def opened(workspace: Workspace, open_page: OpenPage) -> "partial[AppTest]":
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=16, length=16)
    Findings(workspace).set_usual_author("Ada")
    return partial(open_page, workspace, "unit", unit=NAME)


def press(page: AppTest, key: str) -> AppTest:
    page = page.button(key=key).click().run()
    assert not page.exception
    return page


def choose(page: AppTest, action: str) -> AppTest:
    page = page.segmented_control(key="findings-action").set_value(action).run()
    assert not page.exception
    return page


def texts(page: AppTest) -> list[str]:
    return [element.value for element in page.markdown]


def write(page: AppTest, text: str) -> AppTest:
    (area,) = [area for area in page.text_area if str(area.key).startswith("findings-text")]
    area.set_value(text)
    return press(page, "findings-save")


def test_a_note_is_written_edited_and_taken_back(workspace: Workspace, opened: "partial[AppTest]") -> None:
    page = write(choose(opened(), "Write a note"), "Fires on **rivers**.")
    (note,) = Findings(workspace).notes(UNIT)
    assert (note.current.text, note.current.author) == ("Fires on **rivers**.", "Ada")
    assert texts(page) == ["Fires on **rivers**."]
    assert not [area for area in page.text_area if str(area.key).startswith("findings-text")], "the editor is closed"
    page = write(press(page, f"nf-edit-{note.id}"), "Fires on **lakes**.")
    assert texts(page) == ["Fires on **lakes**."]
    page = press(page, f"nf-history-{note.id}")
    assert "Fires on **rivers**." in shown(page)
    assert "began" in shown(page)
    page = press(page, f"nf-undo-{note.id}")
    assert texts(page) == ["Fires on **rivers**."]
    page = press(page, f"nf-remove-{note.id}")
    assert (texts(page), Findings(workspace).notes(UNIT)) == ([], [])
    page = press(page, "findings-undo")
    assert texts(page) == ["Fires on **rivers**."]


def test_a_note_that_is_too_long_is_refused_with_its_length_and_stays_to_be_shortened(
    workspace: Workspace, opened: "partial[AppTest]"
) -> None:
    page = write(choose(opened(), "Write a note"), "x" * 20_001)
    assert any("20,001 characters: at most 20,000" in said for said in alerts(page))
    assert Findings(workspace).notes(UNIT) == []
    (area,) = [area for area in page.text_area if str(area.key).startswith("findings-text")]
    assert (area.value, area.proto.max_chars) == ("x" * 20_001, 0), "the browser does not drop a longer text that is pasted"


def test_two_long_texts_that_meet_are_shown_whole(workspace: Workspace, opened: "partial[AppTest]") -> None:
    note = Findings(workspace, "Ben").save_note(UNIT, "one")
    page = press(opened(), f"nf-edit-{note.id}")
    Findings(workspace, "Ben").save_note(UNIT, "b" * 15_000, entry=note.id, base=note.base)
    page = write(page, "a" * 15_000)
    (area,) = [area for area in page.text_area if str(area.key).startswith("findings-text")]
    assert area.value == "b" * 15_000 + "\n\n" + "a" * 15_000


def test_who_saves_second_is_shown_both_texts_and_makes_them_one(workspace: Workspace, opened: "partial[AppTest]") -> None:
    note = Findings(workspace, "Ben").save_note(UNIT, "one")
    page = press(opened(), f"nf-edit-{note.id}")
    Findings(workspace, "Ben").save_note(UNIT, "one, says Ben", entry=note.id, base=note.base)
    page = write(page, "one, says Ada")
    assert any("Ben saved this meanwhile. Nothing was overwritten" in said for said in alerts(page))
    assert Findings(workspace).entry(note.id).current.text == "one, says Ben"
    (area,) = [area for area in page.text_area if str(area.key).startswith("findings-text")]
    assert area.value == "one, says Ben\n\none, says Ada"
    again = Findings(workspace, "Ben").save_note(UNIT, "Ben again", entry=note.id, base=Findings(workspace).entry(note.id).base)
    page = press(page, "findings-save")
    assert "Ben again" in shown(page), "a third save is told as well"
    page = write(page, "what both say")
    assert texts(page) == ["what both say"]
    assert [version.text for version in Findings(workspace).history(note.id)] == ["what both say", "Ben again", "one, says Ben", "one"]
    assert again.id == note.id


def test_while_somebody_writes_the_page_says_that_another_saved(workspace: Workspace, opened: "partial[AppTest]") -> None:
    note = Findings(workspace, "Ben").save_note(UNIT, "one")
    page = press(opened(), f"nf-edit-{note.id}")
    assert "has saved this since you began" not in shown(page)
    Findings(workspace, "Ben").save_note(UNIT, "two", entry=note.id, base=note.base)
    assert "Ben has saved this since you began" in shown(page.run())


def test_two_versions_side_by_side_are_shown_until_they_are_made_one(
    workspace: Workspace, opened: "partial[AppTest]", tmp_path: Any
) -> None:
    ada, ben = Findings(workspace, "Ada"), Findings(Workspace.open(tmp_path / "ben"), "Ben")
    note = ada.save_note(UNIT, "one")
    ben.merge(ada.rows())
    ada.save_note(UNIT, "from Ada", entry=note.id, base=note.base)
    ben.save_note(UNIT, "from Ben", entry=note.id, base=note.base)
    ada.merge(ben.rows())
    page = opened()
    assert set(texts(page)) == {"from Ada", "from Ben"}
    assert any("2 versions hold side by side" in said for said in alerts(page))
    page = write(press(page, f"nf-edit-{note.id}"), "from both")
    assert (texts(page), alerts(page)) == (["from both"], [])


def test_rating_and_labels_write_as_soon_as_they_change(workspace: Workspace, opened: "partial[AppTest]") -> None:
    Findings(workspace, "Ben").rate(UNIT, 2)
    Findings(workspace, "Ben").label(OTHER, "river")
    page = opened()
    assert "Ben 2" in " ".join(shown(page).split())
    page = page.segmented_control(key=f"findings-rating-{NAME}").set_value(4).run()
    assert Findings(workspace).rating(UNIT) == 4
    labels = page.multiselect(key=f"findings-labels-{NAME}")
    assert labels.options == ["river"], "labels of other units are offered"
    page = labels.set_value(["river", "wet place"]).run()
    assert Findings(workspace).labels(UNIT) == ["river", "wet place"]
    page = page.multiselect(key=f"findings-labels-{NAME}").set_value(["wet place"]).run()
    assert Findings(workspace).labels(UNIT) == ["wet place"]
    page = press(page, "findings-undo")
    assert page.multiselect(key=f"findings-labels-{NAME}").value == ["river", "wet place"]
    page = page.multiselect(key=f"findings-labels-{NAME}").set_value(["x" * 61]).run()
    assert any("at most 60" in said for said in alerts(page))
    page = page.segmented_control(key=f"findings-rating-{NAME}").set_value(None).run()
    assert Findings(workspace).rating(UNIT) is None
    assert Findings(workspace, "Ben").rating(UNIT) == 2


def test_an_own_explanation_can_be_scored_as_it_is(workspace: Workspace, opened: "partial[AppTest]") -> None:
    page = write(choose(opened(), "Write an explanation"), "the word *river*")
    (entry,) = Findings(workspace).entries(unit=UNIT, kind="explanation")
    page = press(page, f"nf-score-{entry.id}")
    assert page.text_area(key=f"explain-mine-{NAME}").value == "the word *river*"


def test_units_that_look_alike_are_units_of_this_workspace(workspace: Workspace, opened: "partial[AppTest]") -> None:
    page = choose(opened(), "Looks like…")
    page.text_input(key="findings-other").set_value("0/2")
    page = press(page, "findings-link")
    (entry,) = Findings(workspace).entries(unit=UNIT)
    assert entry.current.body == {"unit": str(OTHER)}
    assert f"looks like {OTHER}" in " ".join(shown(page).split())
    for wrong in ("0/999", "nonsense", NAME):
        page.text_input(key="findings-other").set_value(wrong)
        page = press(page, "findings-link")
        assert len(alerts(page)) == 1, wrong
    page = press(page, f"nf-remove-{entry.id}")
    assert Findings(workspace).entries(unit=UNIT) == []


def test_a_unit_is_put_into_a_collection_and_taken_out(workspace: Workspace, opened: "partial[AppTest]") -> None:
    made = Findings(workspace).collections.create("Rivers")
    page = choose(opened(), "Add to a collection")
    page = press(page, "findings-collect")
    assert any("Choose a collection" in said for said in alerts(page))
    page.selectbox(key="findings-collection").set_value(made.id)
    page = press(page, "findings-collect")
    (collection,) = Findings(workspace).collections.list()
    assert (collection.title, collection.units) == ("Rivers", [UNIT])
    assert "in Rivers" in " ".join(shown(page).split())
    page = press(page, f"nf-remove-{collection.members[0].id}")
    assert Findings(workspace).collections.find("Rivers").units == []


def test_the_name_is_asked_once(workspace: Workspace, open_page: OpenPage) -> None:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=16, length=16)
    page = choose(open_page(workspace, "unit", unit=NAME), "Write a note")
    page = page.text_input(key="findings-name").set_value("Ada").run()
    assert Findings(workspace).usual_author == "Ada"
    assert "findings-name" not in [field.key for field in page.text_input]
    page = write(page, "mine")
    page = choose(page, "Your name")
    page = page.text_input(key="findings-name").set_value("Ben").run()
    page = write(choose(page, "Write a note"), "his")
    assert sorted((note.current.author, note.current.text) for note in Findings(workspace).notes(UNIT)) == [("Ada", "mine"), ("Ben", "his")]
    assert Findings(workspace).usual_author == "Ada", "another browser's name does not change everybody's"


def test_what_was_typed_is_there_again_after_a_refused_save_and_after_another_unit(opened: "partial[AppTest]") -> None:
    page = choose(opened(), "Write a note")
    page = write(page, "bad \x07 bell")
    assert any("U+0007" in said for said in alerts(page))
    (area,) = [area for area in page.text_area if str(area.key).startswith("findings-text")]
    assert area.value == "bad \x07 bell"
    area.set_value("half a thought").run()
    page.query_params["unit"] = str(OTHER)
    page.run()
    assert not [area for area in page.text_area if str(area.key).startswith("findings-text")]
    page.query_params["unit"] = NAME
    page.run()
    (area,) = [area for area in page.text_area if str(area.key).startswith("findings-text")]
    assert area.value == "half a thought"


def test_an_image_in_a_note_is_a_link_and_html_is_text(workspace: Workspace, opened: "partial[AppTest]") -> None:
    Findings(workspace).save_note(UNIT, "![x](https://example.com/a.png) <img src=x onerror=alert(1)>")
    (text,) = texts(opened())
    assert "![" not in text
    (element,) = opened().markdown
    assert element.allow_html is False
