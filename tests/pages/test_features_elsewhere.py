"""The other pages, and going from unit to unit, over an index of features beside one of neurons."""

import html
from collections.abc import Callable
from functools import partial

import pytest
from streamlit.testing.v1 import AppTest

from core.runs.registry import Registry
from core.store.catalog import indexes
from core.ui.index_choice import describe
from core.ui.unit_address import near
from core.workspace import Workspace
from tests.pages import conftest
from tests.pages.conftest import OpenPage, alerts, components, shown
from tests.synthetic import write_synthetic_index
from tests.synthetic_features import NAME, RUN, SITE, UNITS, write_synthetic_features

FEATURE = f"tiny/{SITE}/{NAME}/12"
Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Features of a dictionary at resid.0, and neurons of mlp.0 and resid.0, half as many. Shared: look only."""
    workspace = Workspace.open(tmp_path_factory.mktemp("both"))
    write_synthetic_features(workspace)
    write_synthetic_index(workspace, n_layers=1, width=UNITS // 2, contexts=48, length=16, kinds=("mlp", "resid"))
    return workspace


@pytest.fixture
def opened(both: Workspace, open_page: OpenPage) -> Open:
    return partial(open_page, both)


def address(page: AppTest, name: str) -> str:
    value = page.query_params[name]
    return value if isinstance(value, str) else value[-1]


def jumped(page: AppTest, text: str) -> AppTest:
    return page.text_input("unit-jump").set_value(text).run()


def test_an_index_says_that_its_units_are_features_and_of_which_dictionary(both: Workspace) -> None:
    neurons, features = indexes(both)
    assert describe(features).startswith(f"{UNITS} features of {NAME}, a dictionary of tiny (resid.0), read over ")
    assert describe(neurons).startswith("16 units of tiny (mlp.0, resid.0), read over ")


def test_overview_and_explore_speak_of_features_and_pickers_name_the_dictionary(opened: Open) -> None:
    overview = opened("overview", run=RUN)
    assert not overview.exception
    assert "Features worth a look" in shown(overview)
    assert "Neurons" not in shown(overview)
    assert any(option.startswith(f"{NAME} at resid.0 · ") for option in overview.selectbox(key="index_choice").options)
    explore = opened("explore", run=RUN)
    assert not explore.exception
    assert f"of {UNITS} {NAME} features of tiny" in " ".join(shown(explore).split())
    (listed,) = components(explore, "unit_rows")
    assert all(row["name"].startswith(f"tiny/{SITE}/{NAME}/") for row in listed["rows"])
    assert all(f"run={RUN}" in row["address"] for row in listed["rows"])


@pytest.mark.parametrize(
    ("here", "typed", "there"),
    [
        ("tiny/mlp.0/neurons/3", f"resid.0/{NAME}/15", f"tiny/resid.0/{NAME}/15"),
        (FEATURE, "14", f"tiny/resid.0/{NAME}/14"),
        (FEATURE, "0/9", f"tiny/resid.0/{NAME}/9"),
        (FEATURE, "mlp.0/neurons/7", "tiny/mlp.0/neurons/7"),
    ],
)
def test_a_jump_leads_between_neurons_and_features(opened: Open, here: str, typed: str, there: str) -> None:
    page = jumped(opened("unit", unit=here, run="index-test" if "neurons" in here else RUN), typed)
    assert not alerts(page)
    assert address(page, "unit") == there
    assert ("run" in page.query_params) == (here.split("/")[2] == there.split("/")[2])


def test_the_pickers_lead_to_another_basis_and_site_and_stay_in_range(opened: Open) -> None:
    page = opened("unit", unit=f"tiny/{SITE}/{NAME}/15")
    assert page.selectbox(key="unit-basis").options == ["neurons", NAME]
    assert page.number_input(key="unit-number").max == UNITS - 1
    page.selectbox(key="unit-basis").set_value("neurons").run()
    assert address(page, "unit") == "tiny/resid.0/neurons/0"
    page.selectbox(key="unit-basis").set_value(NAME).run()
    assert address(page, "unit") == f"tiny/resid.0/{NAME}/0"


def test_a_wrong_feature_is_a_sentence_with_features_nearby(both: Workspace, opened: Open) -> None:
    page = opened("unit", unit=f"tiny/{SITE}/{NAME}/99")
    assert alerts(page) == ["Unit 99 is out of range: resid.0 has units 0 to 15."]
    assert [str(unit) for unit in near(indexes(both), f"tiny/{SITE}/{NAME}/99")] == [f"tiny/resid.0/{NAME}/15", f"tiny/resid.0/{NAME}/0"]
    assert "Nearby" in html.unescape("\n".join(conftest.bodies(page)))
    assert str(near(indexes(both), "tiny/attn.0/nothing/99")[0]) == "tiny/mlp.0/neurons/7"


def test_a_record_of_a_feature_is_tried_over_its_own_index(opened: Open) -> None:
    (records,) = [data for data in components(opened("unit", unit=FEATURE)) if "body" in data]
    assert f"run={RUN}" in records["body"]["try_address"]
    (records,) = [data for data in components(opened("unit", unit="tiny/mlp.0/neurons/3")) if "body" in data]
    assert "run=" not in records["body"]["try_address"]


def test_explain_chooses_features_of_the_index_that_the_address_names(opened: Open) -> None:
    page = opened("explain", index=RUN, sample="5")
    assert not page.exception
    assert f"{UNITS} units fit of tiny; 5 units of each site at most are drawn: 5." in shown(page)
    page = opened("explain", index=RUN, choose="list", units=f"resid.0/3 {FEATURE}")
    assert "2 units." in shown(page)
    assert not alerts(page)


def test_the_form_indexes_a_dictionary_at_the_sites_that_have_it(workspace: Workspace, open_page: OpenPage) -> None:
    write_synthetic_features(workspace)
    page = open_page(workspace, "runs", new="1")
    page.selectbox(key="index_basis_tiny").set_value(NAME).run()
    assert page.text_input(key=f"index_sites_{NAME}").value == "resid.0"
    assert f"{UNITS} units, about" in shown(page)
    next(button for button in page.button if button.label == "Start the index").click().run()
    run = Registry(workspace).list()[0]
    assert (run.params["basis"], run.params["sites"], run.params["model"]) == (NAME, "resid.0", "tiny")
    assert f"Index {NAME} · tiny · embedded · resid.0" in shown(page)


def test_a_site_without_the_dictionary_is_said_in_the_form(workspace: Workspace, open_page: OpenPage) -> None:
    write_synthetic_features(workspace)
    page = open_page(workspace, "runs", new="1")
    page.selectbox(key="index_basis_tiny").set_value(NAME).run()
    page.text_input(key=f"index_sites_{NAME}").set_value("mlp.0").run()
    assert alerts(page) == [f"tiny has no dictionary “{NAME}” at mlp.0."]
    assert next(button for button in page.button if button.label == "Start the index").disabled


def test_a_model_without_dictionaries_is_not_asked_for_a_basis(workspace: Workspace, open_page: OpenPage) -> None:
    write_synthetic_index(workspace, n_layers=1, width=8, contexts=16, length=16)
    page = open_page(workspace, "runs", new="1")
    assert not [box for box in page.selectbox if box.label == "Basis"]
