"""Explore: what is listed, how the address narrows it, and what is said about an address that is wrong."""

import csv
import io

import pytest

from core.errors import AtlasError
from core.store import queries
from core.store.cache import Cache
from core.ui.explore_filters import Filters, parse_layers, parse_span
from core.ui.unit_frames import to_csv
from core.workspace import Workspace
from tests.pages.conftest import N_LAYERS, WIDTH, OpenPage, alerts, bodies, components, shown
from tests.synthetic import write_synthetic_index

TOTAL = N_LAYERS * WIDTH


def rows(tested) -> list[dict]:  # type: ignore[no-untyped-def]
    return components(tested, "unit_rows")[0]["rows"]


def test_all_units_are_listed_fifty_a_page(indexed: Workspace, open_page: OpenPage) -> None:
    first, second = open_page(indexed, "explore"), open_page(indexed, "explore", page="2")
    assert f"1–50 of  {TOTAL}" in shown(first)
    assert len(rows(first)) == 50
    assert len(rows(second)) == TOTAL - 50
    names = {row["name"] for row in rows(first) + rows(second)}
    assert len(names) == TOTAL


def test_each_row_links_to_its_unit_and_marks_its_peak(indexed: Workspace, open_page: OpenPage) -> None:
    for row in rows(open_page(indexed, "explore")):
        assert row["address"] == f"/unit?unit={row['name']}"
        before, mark, after = row["snippet"]
        assert mark.removeprefix(" ") == row["chip"] or (mark == "" and row["chip"].startswith("⟨"))
        assert len(before + mark + after) > len(mark)


def test_the_order_is_the_address(indexed: Workspace, open_page: OpenPage) -> None:
    def numbers(sort: str) -> list[float]:
        cells = [row["cells"][2] for row in rows(open_page(indexed, "explore", sort=sort))]
        return [float(cell.replace("−", "-")) for cell in cells if cell != "–"]

    assert numbers("-max") == sorted(numbers("-max"), reverse=True)
    assert numbers("max") == sorted(numbers("max"))
    assert [row["label"] for row in rows(open_page(indexed, "explore", sort="unit"))][:2] == ["mlp.0/0", "mlp.0/1"]


def test_filters_in_the_address_narrow_the_list(indexed: Workspace, open_page: OpenPage) -> None:
    tested = open_page(indexed, "explore", layer="1", density="<50", max=">0.5")
    assert {row["label"].split("/")[0] for row in rows(tested)} == {"mlp.1"}
    assert tested.text_input(key="explore_layer").value == "1"
    assert 0 < len(rows(tested)) < WIDTH


def test_typing_a_filter_changes_the_address_and_goes_back_to_the_first_page(indexed: Workspace, open_page: OpenPage) -> None:
    tested = open_page(indexed, "explore", page="2")
    tested.text_input(key="explore_layer").set_value("0-1").run()
    assert tested.query_params["layer"] == "0-1"
    assert "page" not in tested.query_params
    assert f"1–{2 * WIDTH} of  {2 * WIDTH}" in shown(tested)


def test_the_buttons_turn_pages(indexed: Workspace, open_page: OpenPage) -> None:
    tested = open_page(indexed, "explore")
    tested.button(key="next_top").click().run()
    assert tested.query_params["page"] == "2"
    assert f"51–{TOTAL} of  {TOTAL}" in shown(tested)
    assert tested.button(key="next_top").disabled
    tested.button(key="back_end").click().run()
    assert "page" not in tested.query_params


def test_no_match_says_how_to_widen_and_a_button_does_it(indexed: Workspace, open_page: OpenPage) -> None:
    tested = open_page(indexed, "explore", text="no text has this in it")
    assert alerts(tested) == ["No unit fits. Widen a range, shorten the search, or show all units again."]
    next(button for button in tested.button if button.label == "Show all units").click().run()
    assert len(rows(tested)) == 50
    assert "text" not in tested.query_params


WRONG = {
    "layer": ["99", "-1", "abc", "1-", "2-1", "１", "%31"],
    "density": ["abc", "2..1", "..", "<", "nan", "1e999.."],
    "kurtosis": ["<script>alert(1)</script>"],
    "max": ["1..2..3"],
    "sort": ["colour", "--max", "max; DROP TABLE units"],
    "kind": ["attn", "x"],
    "page": ["0", "-2", "99", "2.5", "x"],
    "run": ["nope", "../../etc", "x" * 300],
    "text": ["x" * 201],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_address_is_one_sentence_and_no_list(indexed: Workspace, open_page: OpenPage, name: str, value: str) -> None:
    tested = open_page(indexed, "explore", **{name: value})
    assert not tested.exception
    assert len(alerts(tested)) == 1
    assert not components(tested, "unit_rows")
    assert "<script>" not in "".join(bodies(tested))


def test_hostile_tokens_are_data_and_never_markup(hostile: Workspace, open_page: OpenPage) -> None:
    tested = open_page(hostile, "explore")
    assert not tested.exception
    everything = rows(tested) + rows(open_page(hostile, "explore", sort="kurtosis"))
    assert any("script>" in "".join(row["snippet"]) for row in everything)
    assert "<script" not in "".join(bodies(tested))
    assert "\u202e" not in shown(tested)


def test_hostile_text_can_be_searched_for(hostile: Workspace, open_page: OpenPage) -> None:
    for text in ("</script>", "%_'\";--", "\n\n", "(?:"):
        tested = open_page(hostile, "explore", text=text)
        assert not tested.exception


def test_several_kinds_of_sites_can_be_told_apart(workspace: Workspace, open_page: OpenPage) -> None:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=24, length=16, kinds=("mlp", "resid"))
    tested = open_page(workspace, "explore", kind="resid")
    assert {row["label"].split(".")[0] for row in rows(tested)} == {"resid"}
    assert tested.selectbox(key="explore_kind").value == "resid"


def test_an_empty_workspace_says_what_would_fill_it(workspace: Workspace, open_page: OpenPage) -> None:
    tested = open_page(workspace, "explore")
    assert "Nothing is indexed yet" in shown(tested)
    assert [button.label for button in tested.button] == ["Start an index"]


def test_the_csv_holds_every_unit_of_the_filter_and_survives_reading(workspace: Workspace) -> None:
    write_synthetic_index(workspace, n_layers=2, width=24, contexts=48, length=16, hostile=True)
    cache = Cache.open(workspace)
    cache.ingest()
    frame, total = queries.explore(cache, "index-test", layers=[1], limit=1000)
    cache.close()
    read = list(csv.DictReader(io.StringIO(to_csv(frame).decode("utf8"), newline="")))
    assert len(read) == total == 24
    assert [row["snippet"] for row in read] == [text or "" for text in frame["snippet"]]
    assert {row["layer"] for row in read} == {"1"}


def test_spans_are_read_as_people_write_them() -> None:
    assert parse_span("0.1..2", "x") == (0.1, 2.0)
    assert parse_span(" ..1 ", "x") == (None, 1.0)
    assert parse_span("-3..", "x") == (-3.0, None)
    assert parse_span(">=100", "x") == parse_span("> 100", "x") == (100.0, None)
    assert parse_span("", "x") == (None, None)


def test_layers_are_read_as_people_write_them() -> None:
    assert parse_layers("0-2, 5", 6) == (0, 1, 2, 5)
    assert parse_layers(" ", 6) is None
    with pytest.raises(AtlasError, match="layers are 0 to 5"):
        parse_layers("6", 6)


def test_a_heading_sorts_the_usual_way_first_and_then_the_other() -> None:
    usual = Filters()
    assert usual.flipped("kurtosis") == "kurtosis"
    assert usual.flipped("max") == "-max"
    assert usual.flipped("unit") == "unit"
    assert Filters(sort="max", descending=False).flipped("max") == "-max"
