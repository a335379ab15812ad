"""Features, saving and removing a dictionary: the file, what depends on it, and what is refused."""

import json
from typing import Any

import pytest

from core.bases.shelf import find_named, shelved
from core.runs.registry import Registry
from core.ui import dictionary_details
from core.ui.dictionary_table import entries
from core.ui.dictionary_uses import Uses, consequences, uses_of
from core.workspace import Workspace
from tests.pages.conftest import alerts, components, shown
from tests.pages.features.conftest import Open, names
from tests.synthetic import write_synthetic_index
from tests.synthetic_dictionaries import write_dictionary

Asked = list[tuple[str, dict[str, Any]]]
KEY = "tiny/mlp.1/s-a1"


def indexed_with(workspace: Workspace, name: str, run: str = "index-features") -> None:
    """An index that was read through the dictionary's weights."""
    write_synthetic_index(workspace, n_layers=2, width=24, run=run)
    path = workspace.runs / run / "manifest.json"
    told = {"mlp.1": {"weights_sha256": find_named(workspace, name).hash}}
    path.write_text(json.dumps(json.loads(path.read_text("utf8")) | {"basis": name, "dictionaries": told, "units": {"mlp.1": 24}}), "utf8")


def keys(page: Any) -> list[str]:
    return [button.key for button in page.button]


def test_removing_asks_first_and_says_what_depends_on_it(workspace: Workspace, full: Open) -> None:
    indexed_with(workspace, "s-a1")
    page = full(dictionary=KEY)
    assert "remove_sure" not in keys(page)
    page.button(key="remove_one").click().run()
    said = shown(page)
    assert f"{KEY} is deleted from this workspace" in said
    assert "index-features was read through these very weights: its features stay on Explore and Unit" in said
    assert f"trained again, as {find_named(workspace, 's-a1').info.recipe['run']} did" in said
    assert len(shelved(workspace)) == 5
    page.button(key="remove_not").click().run()
    assert "remove_sure" not in keys(page)
    assert len(shelved(workspace)) == 5


def test_a_removed_dictionary_is_gone_from_list_comparison_and_address(workspace: Workspace, full: Open) -> None:
    page = full(dictionary=KEY, compare=f"{KEY},tiny/mlp.1/pca")
    page.button(key="remove_one").click().run()
    page.button(key="remove_sure").click().run()
    assert not page.exception
    assert alerts(page) == [f"{KEY} was removed."]
    assert "s-a1" not in names(page)
    assert ("dictionary" in page.query_params, page.query_params["compare"]) == (False, "tiny/mlp.1/pca")
    assert "s-a1" not in [one.info.name for one in shelved(workspace)]
    page.run()
    assert alerts(page) == []


def test_the_question_is_about_the_dictionary_that_was_named(workspace: Workspace, full: Open) -> None:
    page = full(dictionary=KEY)
    page.button(key="remove_one").click().run()
    page.query_params["dictionary"] = "tiny/mlp.1/pca"
    page.run()
    assert "remove_sure" not in keys(page)


@pytest.mark.parametrize("kind", ["measure", "index", "explain", "ablate"])
def test_a_dictionary_at_work_cannot_be_removed(workspace: Workspace, full: Open, kind: str) -> None:
    params: dict[str, Any] = {
        "measure": {"dictionaries": [KEY]},
        "index": {"model": "tiny", "basis": "s-a1", "sites": "mlp.0-1"},
        "explain": {"units": ["tiny/mlp.1/s-a1/3"]},
        "ablate": {"what": {"unit": "tiny/mlp.1/s-a1/3"}},
    }[kind]
    run = Registry(workspace).submit(kind, params)
    page = full(dictionary=KEY)
    page.button(key="remove_one").click().run()
    assert alerts(page) == [f"{run.id} works with s-a1: cancel it, or wait until it is done."]
    assert page.button(key="remove_sure").disabled
    Registry(workspace).request_cancel(run.id)
    page.run()
    assert not page.button(key="remove_sure").disabled


def test_work_that_began_after_the_question_is_not_cut_off(workspace: Workspace, full: Open) -> None:
    page = full(dictionary=KEY)
    page.button(key="remove_one").click().run()
    Registry(workspace).submit("measure", {"dictionaries": [KEY]})
    page.button(key="remove_sure").click().run()
    assert "works with s-a1" in alerts(page)[0]
    assert find_named(workspace, KEY)


def test_one_that_another_process_removed_is_one_sentence(workspace: Workspace, full: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    page = full(dictionary=KEY)
    page.button(key="remove_one").click().run()
    real = dictionary_details.remove

    def twice(workspace: Workspace, name: str) -> str:
        real(workspace, name)
        return real(workspace, name)

    monkeypatch.setattr(dictionary_details, "remove", twice)
    page.button(key="remove_sure").click().run()
    assert not page.exception
    assert "has no dictionary “s-a1” at mlp.1" in alerts(page)[0]


def test_what_depends_is_only_what_names_these_weights(workspace: Workspace, full: Open) -> None:
    indexed_with(workspace, "s-a1")
    registry = Registry(workspace)
    registry.submit("measure", {"dictionaries": ["tiny/mlp.1/s-a10", "tiny/mlp.0/s-a1"]})
    registry.submit("index", {"model": "tiny", "basis": "s-a1", "sites": "mlp.0"})
    registry.submit("index", {"model": "tiny", "basis": "s-a1", "sites": "rubbish"})
    registry.submit("explain", {"units": ["tiny/mlp.1/neurons/1", "tiny/mlp.1/s-a10/3"]})
    explained = registry.submit("explain", {"units": [f"{KEY}/3"]})
    registry.request_cancel(explained.id)
    entry = next(one for one in entries(workspace) if one.key == KEY)
    assert uses_of(workspace, registry, entry) == Uses([], ["index-features"], [explained.id])
    write_dictionary(workspace, "s-a1", units=32)  # other weights under the same name
    entry = next(one for one in entries(workspace) if one.key == KEY)
    assert uses_of(workspace, registry, entry).indexes == []


def test_what_was_loaded_must_be_loaded_again(workspace: Workspace, full: Open) -> None:
    entry = next(one for one in entries(workspace) if one.info.name == "pca")
    assert consequences(entry, Uses([], [], []))[-1] == "To have it back it must be made again."
    assert "index-a, index-b, index-c and 2 more were read" in consequences(entry, Uses([], [f"index-{c}" for c in "abcde"], []))[1]
    assert "What explain-a and explain-b wrote about its features stays." in consequences(entry, Uses([], [], ["explain-a", "explain-b"]))


def test_an_export_is_written_by_the_model_process_and_offered(workspace: Workspace, full: Open, model_process_answers: Asked) -> None:
    page = full(dictionary=KEY)
    assert not page.get("download_button") or "save_export" not in str(page.get("download_button"))
    page.button(key="export_one").click().run()
    assert not page.exception
    assert alerts(page) == []
    assert model_process_answers == [("export", {"dictionary": KEY})]
    said = shown(page)
    assert "mean of each token" in said  # what SAELens will do otherwise
    assert 'sae_lens.SAE.load_from_disk("s-a1")' in said
    assert "Save s-a1.zip" in str(page.get("download_button"))
    (path,) = (workspace.scratch / "exports").iterdir()
    path.unlink()
    page.run()
    assert "Save s-a1.zip" not in str(page.get("download_button"))


def test_an_export_of_another_dictionary_is_not_offered(workspace: Workspace, full: Open, model_process_answers: Asked) -> None:
    page = full(dictionary=KEY)
    page.button(key="export_one").click().run()
    page.query_params["dictionary"] = "tiny/mlp.1/s-a0.5"
    page.run()
    assert "load_from_disk" not in shown(page)


def test_an_export_that_fails_is_one_sentence(workspace: Workspace, full: Open, model_process_answers: Asked) -> None:
    find_named(workspace, KEY).weights.write_bytes(b"nonsense")
    page = full(dictionary=KEY)
    page.button(key="export_one").click().run()
    assert alerts(page) == [f"The weights of {KEY} are missing or damaged: train or import the dictionary again."]
    assert components(page, "dictionary_rows")


def test_one_too_large_for_a_browser_names_the_command(full: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionary_details, "MAX_EXPORT", 10)
    button = full(dictionary=KEY).button(key="export_one")
    assert button.disabled
    assert f"python -m core sae export {KEY} --out FOLDER" in button.help
