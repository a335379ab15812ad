"""Every page of a read-only dashboard: what is there to browse with, nothing to write with, and not a byte changed by any button."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.errors import ReadOnly
from core.ui import nav
from core.workspace import READ_ONLY_ENV, Workspace
from tests import read_only
from tests.pages.conftest import OpenPage, alerts, bodies, components, shown
from tests.read_only import OTHER, UNIT

Visit = Callable[..., AppTest]
FEATURE = "tiny/resid.0/planted-r2/5"
VISITS: dict[str, dict[str, str]] = {
    **{name: {} for pages in nav.PAGES.values() for name, _ in pages if name not in nav.WRITING},
    "unit of an index": {"unit": str(UNIT)},
    "unit without anything": {"unit": "tiny/mlp.1/neurons/7"},
    "unit of a dictionary": {"unit": FEATURE},
    "unit with an explanation": {"unit": str(UNIT), "explanation": "explain-test.1.0.0"},
    "compare two": {"units": f"{UNIT},{OTHER}"},
    "features opened": {"dictionary": "tiny/mlp.1/unmeasured", "compare": "tiny/mlp.1/one,tiny/mlp.1/other"},
    "features asked to train": {"make": "train"},
    "studies of puzzles": {"view": "puzzles"},
    "findings of a collection": {"collection": "{collection}"},
    "runs with a failed one": {"run": "{failed}"},
    "runs with a done one": {"run": "{done}"},
    "runs asked for a new one": {"new": "1"},
    "explain with a run": {"run": "{queued}"},
    "ablate_steer by a link": {"units": str(UNIT), "text": read_only.TEXT},
    "try_text by a link": {"text": read_only.TEXT},
    "rate by a link": {},
    "review by a link": {},
}
"""What is visited: the page is the first word."""

BROWSING = re.compile(
    r"index_choice|explore_\w+|(back|next)_\w+|close_one|curves_one|explore_one|unit-(chance|jump|basis|site|number|run|model|provenance)|"
    r"open-.*|explanations-more|explanation-(split|worst|record)|nf-history-.*|collection-history-toggle|effect-provenance|feature-counts|"
    r"scores_\w+|studies_view_view|findings_\w+|findings-(back|next)|(results|Details|Hide|explore|show)_.*|search[_-]\w+|compare[_-].*|"
    r"chosen-.*|causal_text|causal-index-largest|(ablate|steer|ablate)_\w+|overview_\w+|palette.*|dictionaries.*"
)
"""Keys of what only looks, sorts, filters, opens, or fills in the address."""
BROWSING_LABELS = {"Show others", "Show all", "Show all units", "Show everything", "Show all scores", "Record, token by token"}
"""The same for what has no key."""
LEADING_ELSEWHERE = {"See results", "Explore it", "Explore its features"}
"""Buttons that open another page, which a page tested alone does not know."""
KINDS = (
    "button", "text_area", "text_input", "checkbox", "toggle", "multiselect", "selectbox", "number_input", "button_group", "radio",
    "slider", "file_uploader", "chat_input", "data_editor", "date_input", "feedback", "form",
)  # fmt: skip


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, str], Path]:
    folder = tmp_path_factory.mktemp("read-only")
    workspace = Workspace.open(folder / "ws")
    return workspace, read_only.fill(workspace), folder / "own"


@pytest.fixture
def visit(filled: tuple[Workspace, dict[str, str], Path], open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    workspace, names, own = filled
    before = read_only.bytes_of(workspace)
    monkeypatch.setenv(READ_ONLY_ENV, str(own))
    yield lambda page, **query: open_page(workspace, page, **{name: value.format(**names) for name, value in query.items()})
    assert read_only.bytes_of(workspace) == before


def writing(page: AppTest) -> list[str]:
    """Widgets of a page that are not known to be for browsing."""
    found: list[str] = []
    for kind in KINDS:
        for one in page.get(kind):
            key, label = str(getattr(one, "key", None) or ""), str(getattr(one, "label", None) or "")
            if not (BROWSING.fullmatch(key) if key else label in BROWSING_LABELS):
                found.append(f"{kind} {label} [{key}]")
    return found


@pytest.mark.parametrize("what", VISITS)
def test_a_page_has_nothing_to_write_with_and_no_button_changes_anything(visit: Visit, what: str) -> None:
    page = visit(what.partition(" ")[0], **VISITS[what])
    assert not page.exception
    assert writing(page) == []
    if "by a link" not in what:
        assert [body for body in bodies(page) if re.search(rf'href="/({"|".join(nav.WRITING)})', body)] == []
        assert [data for data in components(page, "tokens") if data["body"].get("try_address")] == []
    for place in range(len(page.button)):
        pressed = visit(what.partition(" ")[0], **VISITS[what])
        button = pressed.button[place]
        if button.disabled or button.label in LEADING_ELSEWHERE:
            continue
        button.click().run()
        assert not pressed.exception, button.label
        assert writing(pressed) == [], button.label
        assert str(ReadOnly()) not in alerts(pressed), button.label


@pytest.mark.parametrize("page", sorted(nav.WRITING))
def test_a_page_that_only_writes_is_left_out_and_does_nothing_by_a_link(visit: Visit, page: str) -> None:
    opened = visit(page, text=read_only.TEXT, unit=str(UNIT))
    assert not opened.exception
    if page == "ablate_steer":  # which shows what was kept
        assert "Nothing was ablated" in shown(opened) or "Add a unit above" in shown(opened)
    else:
        assert str(ReadOnly()) in alerts(opened)
        assert writing(opened) == []
        assert [widget for kind in KINDS for widget in opened.get(kind)] == []


def test_what_people_wrote_is_there_to_read(visit: Visit) -> None:
    unit = shown(visit("unit", unit=str(UNIT)))
    assert "labels: lists" in " ".join(unit.split())
    assert "rates it 4" in unit
    assert "looks like" in unit
    assert "Wet" in unit
    assert "Wet" in shown(visit("findings"))


def test_the_owner_s_pages_have_all_of_it(filled: tuple[Workspace, dict[str, str], Path], open_page: OpenPage, tmp_path: Path) -> None:
    """The widgets that the test above looks for are there when they may be: it would see them."""
    owner = Workspace.open(tmp_path / "ws")
    names = read_only.fill(owner)
    for page, query, expected in (
        ("unit", {"unit": str(UNIT)}, ("findings-rating", "nf-edit", "effect-start")),
        (
            "features",
            {"dictionary": "tiny/mlp.1/unmeasured", "make": "train"},
            ("measure_one", "index_one", "remove_one", "start_dictionary_run"),
        ),
        ("runs", {"run": names["failed"]}, ("Resume", "Cancel", "Remove")),
        ("findings", {"collection": names["collection"]}, ("collection-edit", "out-")),
        ("explain", {}, ("start_explaining",)),
    ):
        found = " ".join(writing(open_page(owner, page, **query)))
        assert [one for one in expected if one not in found and not (one == "Resume" and "Retry" in found)] == [], found


def test_a_workspace_without_an_index_says_so(open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Workspace.open(tmp_path / "ws")
    before = read_only.bytes_of(empty)
    monkeypatch.setenv(READ_ONLY_ENV, str(tmp_path / "own"))
    for name in [name for pages in nav.PAGES.values() for name, _ in pages]:
        page = open_page(empty, name)
        assert not page.exception, name
        assert writing(page) == [], name
    assert read_only.bytes_of(empty) == before


def test_every_page_says_once_that_it_is_read_only(visit: Visit) -> None:
    page = visit("app")
    assert not page.exception
    assert shown(page).count("Read-only: to look at and to search.") == 1
