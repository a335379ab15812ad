"""The Search page and what the palette offers: the address says what is asked, hits are inert and lead to units, and CSV has them all."""

import csv
import html
import io
import re
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.findings.findings import Findings
from core.findings.search import search as module
from core.findings.search.part import Part
from core.findings.search.question import Question
from core.findings.search.search import Search
from core.findings.search.words import Asked
from core.ui import nav
from core.ui.palette import answers, pages, units_called
from core.ui.search_rows import CSV_COLUMNS, marked_html, to_csv
from core.ui.searching import searching
from core.units import UnitName
from core.workspace import Workspace
from tests.pages.conftest import OpenPage, alerts, bodies, components, shown
from tests.searchable import SENTENCES, UNITS, fill
from tests.synthetic import write_synthetic_index


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("search-page") / "ws")
    fill(workspace)
    return workspace


@pytest.fixture
def opened(filled: Workspace, open_page: OpenPage) -> "partial[AppTest]":
    return partial(open_page, filled, "search")


def table(page: AppTest) -> str:
    (found,) = [body for body in bodies(page) if 'class="nsr"' in body]
    return found


def said(page: AppTest) -> list[str]:
    """The texts of the rows."""
    cells = re.findall(r'<td class="said">(.*?)</td>', table(page))
    return [html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in cells]


def test_an_explanation_is_found_without_the_stars_of_its_notation(filled: Workspace, opened: "partial[AppTest]") -> None:
    assert "*Paris*" in SENTENCES[1]
    assert said(opened(q="paris", kind="explanation")) == [SENTENCES[1].replace("*", "")]
    (hit,) = [one for one in answers(filled, "paris", "") if one["group"] == "Found" and one["note"] == "explanation"]
    assert "".join(piece for piece, _ in hit["text"]) == SENTENCES[1].replace("*", "")


def test_an_empty_search_says_what_can_be_searched(opened: "partial[AppTest]") -> None:
    page = opened()
    assert not page.exception
    assert f"Searched are {len(SENTENCES)} explanations" in shown(page)
    assert "2 notes" in shown(page)
    assert not [body for body in bodies(page) if 'class="nsr"' in body]


def test_where_nothing_is_the_page_says_what_would_be_found(workspace: Workspace, open_page: OpenPage) -> None:
    page = open_page(workspace, "search")
    assert not page.exception
    assert "There is nothing to search yet" in shown(page)


def test_hits_stand_in_order_marked_and_lead_to_their_units(filled: Workspace, opened: "partial[AppTest]") -> None:
    page = opened(q="river", kind="explanation,note")
    assert not page.exception
    found = Search(filled).find(Question("river", ("explanation", "note")))
    assert len(said(page)) == found.total == len(found.hits)
    assert said(page)[0] == found.hits[0].text
    body = table(page)
    assert "<mark>river</mark>" in body
    assert "<mark>rivers</mark>" in body, "the last word also finds those that begin with it"
    assert f'href="/unit?unit={UNITS[1]}&amp;explanation=explain-1.0.0.0"' in body
    assert f'href="/unit?unit={UNITS[1]}"' in body, "a note's link"
    assert 'href="/try_text?text=river"' in "".join(bodies(page))
    assert f"1–{found.total} of {found.total} texts" in shown(page)


def test_hostile_texts_are_text(opened: "partial[AppTest]") -> None:
    page = opened(q="<script>alert('river')")
    assert not page.exception
    assert any(text == SENTENCES[5] for text in said(page))
    assert "<script" not in "".join(bodies(page))


def test_a_collection_leads_to_its_list(filled: Workspace, opened: "partial[AppTest]") -> None:
    identity = Findings(filled).collections.find("Wet places").id
    assert f'href="/findings?collection={identity}"' in table(opened(q="wet places"))


@pytest.mark.parametrize(
    ("query", "question"),
    [
        ({"kind": "tokens"}, {"kinds": ("tokens",)}),
        ({"site": "mlp", "layer": "0-1"}, {"site_kind": "mlp", "layers": (0, 1)}),
        ({"subject": "tiny", "basis": "neurons"}, {"subject": "tiny", "basis": "neurons"}),
        ({"author": "Ada"}, {"author": "Ada"}),
        ({"least": "0.2"}, {"least": 0.2}),
        ({"labelled": "1"}, {"labelled": True}),
    ],
)
def test_the_address_holds_every_filter(
    filled: Workspace, opened: "partial[AppTest]", query: dict[str, str], question: dict[str, Any]
) -> None:
    found = Search(filled).find(Question("river the", **question))
    page = opened(q="river the", **query)
    assert not page.exception
    assert len(said(page)) == min(25, found.total) > 0


def test_a_field_writes_the_address(opened: "partial[AppTest]") -> None:
    page = opened(q="river", page="1")
    page.text_input(key="search_q").set_value("bridge").run()
    assert page.query_params["q"] in ("bridge", ["bridge"])
    assert "<mark>bridge" in table(page)
    page.checkbox(key="search_labelled").check().run()
    assert page.query_params["labelled"] in ("1", ["1"])
    assert not page.exception


def test_pages_of_results(filled: Workspace, opened: "partial[AppTest]") -> None:
    total = Search(filled).find(Question("the river of in on and was to with near old bread def")).total
    assert total > 25
    page = opened(q="the river of in on and was to with near old bread def", page="2")
    assert len(said(page)) == min(25, total - 25)
    page.button(key="search-back").click().run()
    assert "page" not in page.query_params
    assert len(said(page)) == 25


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"kind": "poem"}, "is not a choice"),
        ({"subject": "x<b>"}, "is not a choice"),
        ({"layer": "x"}, "not a choice of layers"),
        ({"least": "much"}, "is not a number"),
        ({"least": "3"}, "is not a score"),
        ({"labelled": "maybe"}, "is not possible"),
        ({"page": "999"}, "out of range"),
        ({"q": "x" * 400}, "at most 300 characters"),
    ],
)
def test_a_wrong_address_is_a_sentence(opened: "partial[AppTest]", query: dict[str, str], sentence: str) -> None:
    page = opened(**{"q": "river", **query})
    assert not page.exception
    assert [alert for alert in alerts(page) if sentence in alert] == alerts(page) != []
    assert "Begin again" in [button.label for button in page.button]


def test_nothing_that_fits_says_so(opened: "partial[AppTest]") -> None:
    page = opened(q="qqqq")
    assert "Nothing fits" in shown(page)
    page.button[0].click().run()
    assert "q" not in page.query_params


def test_the_csv_has_every_hit_and_no_formula(filled: Workspace) -> None:
    Findings(filled, "=Eve").save_note(UNITS[3], "=HYPERLINK(river)")
    hits = Search(filled).find(Question("river"), limit=1000).hits
    read = list(csv.DictReader(io.StringIO(to_csv(hits))))
    assert tuple(read[0]) == CSV_COLUMNS
    assert len(read) == len(hits)
    mine = next(row for row in read if "HYPERLINK" in row["text"])
    assert (mine["text"][0], mine["author"][0], mine["unit"]) == ("'", "'", str(UNITS[3]))


def test_what_was_just_written_is_found(filled: Workspace, opened: "partial[AppTest]") -> None:
    page = opened(q="narwhal")
    assert "Nothing fits" in shown(page)
    note = Findings(filled, "Ada").save_note(UNITS[0], "narwhal")
    page.run()
    assert said(page) == ["narwhal"]
    Findings(filled).remove(note.id)


def test_while_much_is_read_the_page_says_how_far_it_is_and_finds_what_people_wrote(
    workspace: Workspace, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(workspace)
    go_on, read = threading.Event(), module._read

    def slow(*given: Any) -> Part:
        go_on.wait(60)
        return read(*given)

    monkeypatch.setattr(module, "AT_ONCE", 3)
    monkeypatch.setattr(module, "_read", slow)
    page = open_page(workspace, "search", q="river", kind="note,explanation")
    try:
        assert not page.exception
        assert "0 of about" in shown(page)
        assert len(said(page)) == 1, "the note"
    finally:
        go_on.set()
    assert searching(str(workspace.path)).wait(60)
    page.run()
    assert "of about" not in shown(page)
    assert len(said(page)) == 1 + Search(workspace).find(Question("river", ("explanation",))).total > 2


def test_marking_escapes_what_it_marks() -> None:
    assert marked_html("<b>x</b> & river", Asked.read("b river")) == (
        "&lt;<mark>b</mark>&gt;x&lt;/<mark>b</mark>&gt; &amp; <mark>river</mark>"
    )


# The palette


def test_the_palette_is_on_every_page_and_names_the_pages(filled: Workspace, open_page: OpenPage) -> None:
    page = open_page(filled, "app")
    assert not page.exception
    (data,) = components(page, "palette")
    assert [each["page"] for each in data["pages"]] == [name for found in nav.PAGES.values() for name, _ in found]
    assert data["answer"] is None


@pytest.mark.parametrize(
    ("text", "here", "names"),
    [
        ("mlp.1/5", "", ["tiny/mlp.1/neurons/5"]),
        ("2/5", "", ["tiny/mlp.2/neurons/5"]),
        ("7", "tiny/mlp.1/neurons/4", ["tiny/mlp.1/neurons/7"]),
        ("mlp.0/neurons/3", "", ["tiny/mlp.0/neurons/3"]),
        ("mlp.0/neu/3", "", ["tiny/mlp.0/neurons/3"]),
        ("tiny/mlp.0/neurons/3", "", ["tiny/mlp.0/neurons/3"]),
        ("mlp.0/99", "", []),
        ("mlp.9/1", "", []),
        ("river", "", []),
        ("a/b/c/d/e", "", []),
        ("../../x", "", []),
        ("", "", []),
    ],
)
def test_a_units_name_or_a_part_of_it_is_offered_if_the_unit_is_there(filled: Workspace, text: str, here: str, names: list[str]) -> None:
    assert units_called(filled, text, here) == list(map(UnitName.parse, names))


def test_where_nothing_is_indexed_no_unit_is_offered(workspace: Workspace) -> None:
    assert units_called(workspace, "mlp.1/5", "") == []


def test_the_palette_offers_units_before_texts_and_marks_words(filled: Workspace) -> None:
    found = answers(filled, "mlp.1/1", "")
    assert (found[0]["group"], found[0]["target"]) == ("Units", {"unit": "tiny/mlp.1/neurons/1"})
    hits = answers(filled, "rivers and bridges", "")
    assert hits[0]["target"] == {"unit": str(UNITS[0]), "explanation": "explain-0.0.0.0"}
    assert ("rivers", True) in hits[0]["text"]
    assert answers(filled, "  ", "") == []


def test_a_unit_that_is_not_indexed_leads_to_its_page_and_not_to_another_unit(filled: Workspace) -> None:
    first = answers(filled, "mlp.1/4000", "")[0]
    assert (first["note"], first["target"]) == ("not indexed here", {"unit": "tiny/mlp.1/neurons/4000"})
    assert not any(item["group"] == "Units" for item in answers(filled, "and/or", ""))


def test_where_nothing_may_be_written_no_page_is_offered_that_is_about_that(filled: Workspace, tmp_path: Path) -> None:
    offered = {each["page"] for each in pages(Workspace(filled.path, tmp_path))}
    assert offered == {name for found in nav.PAGES.values() for name, _ in found} - nav.WRITING


def test_a_basis_with_a_longer_name_may_be_cut_short(workspace: Workspace) -> None:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=16, length=16)
    assert units_called(workspace, "mlp.1/n/3", "") == [UnitName.parse("tiny/mlp.1/neurons/3")]
    assert units_called(workspace, "mlp.1/x/3", "") == []
