"""Pages over what another program's files held: what they do not say is a dash, never a number, and nothing stumbles."""

import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.workspace import Workspace
from tests import foreign_files as files
from tests.foreign_caches import write_cache
from tests.pages.conftest import OpenPage, alerts, components, shown


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, list[str]]:
    """A workspace with a neuron of OpenAI's records, and a feature and one without records of Neuronpedia's; their names."""
    folder: Path = tmp_path_factory.mktemp("elsewhere")
    workspace = Workspace.open(folder / "ws")
    files.write(folder / "openai" / "2" / "7.json", files.neuron())
    files.write(folder / "openai" / "said" / "7.jsonl", files.explained())
    files.bulk(folder / "np", [files.feature(), files.feature(9)], [files.activation()], [files.explanation()])
    done = [files.take(workspace, folder / name) for name in ("openai", "np")]
    return workspace, [str(unit) for one in done for unit in one.units]


def undefined(page: AppTest) -> list[str]:
    """Places where a number that is none was printed as one."""
    return re.findall(r".{20}\b(?:nan|inf)\b.{20}", shown(page), re.IGNORECASE)


def test_a_unit_shows_what_the_file_says_and_dashes_for_the_rest(elsewhere: tuple[Workspace, list[str]], open_page: OpenPage) -> None:
    workspace, units = elsewhere
    assert len(units) == 3
    for unit in units:
        page = open_page(workspace, "unit", unit=unit)
        assert not page.exception
        assert not alerts(page)
        text = shown(page)
        assert "imported from" in text
        assert not undefined(page)
        assert "0 tokens of text" not in text.replace("10,000 tokens of text", "")
        assert "Steer with this unit" not in text  # nothing is offered that would need the model
        assert not [button.label for button in page.button if "blate" in button.label or "xplain" in button.label]
        assert [data for data in components(page, "tokens") if data["body"].get("try_address")] == []
    openai = shown(open_page(workspace, "unit", unit=units[0]))
    assert "places that are open" in openai
    assert "0.75" in openai
    assert "scored elsewhere" in openai
    assert "1 in the file" in openai
    neuronpedia = shown(open_page(workspace, "unit", unit=units[1]))
    assert "café" in neuronpedia
    assert "10,000 tokens of text" in neuronpedia
    assert "places to drink coffee" in neuronpedia


def test_a_latent_of_delphis_cache_is_a_feature_with_all_its_tokens(tmp_path: Path, open_page: OpenPage) -> None:
    workspace = Workspace.open(tmp_path / "ws")
    unit = files.take(workspace, write_cache(tmp_path / "cache")).units[1]
    page = open_page(workspace, "unit", unit=str(unit))
    assert not page.exception
    assert not alerts(page)
    assert not undefined(page)
    text = shown(page)
    assert "480 tokens of text" in text
    assert "imported from delphi's cache" in text
    assert "Active together" in text


def test_an_explanation_from_elsewhere_can_be_compared_record_by_record(
    elsewhere: tuple[Workspace, list[str]], open_page: OpenPage
) -> None:
    workspace, units = elsewhere
    run = next(path.name for path in workspace.runs.glob("explain-openai*"))
    page = open_page(workspace, "unit", unit=units[0], explanation=f"{run}.0.0.0")
    assert not page.exception
    assert not alerts(page)
    assert not undefined(page)


@pytest.mark.parametrize(
    "page", ["overview", "explore", "scores", "runs", "explain", "features", "studies", "rate", "try_text", "compare", "findings"]
)
def test_no_page_stumbles(elsewhere: tuple[Workspace, list[str]], open_page: OpenPage, page: str) -> None:
    opened = open_page(elsewhere[0], page)
    assert not opened.exception
    assert not undefined(opened)
