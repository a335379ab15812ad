"""The command `search`: the page's answers as lines or JSON, while another process owns the cache."""

import json
from typing import Any

import pytest

from core.cli import main
from core.findings.search.question import Question
from core.findings.search.search import Search
from core.store.cache import Cache
from core.workspace import Workspace
from tests.searchable import SENTENCES, UNITS, fill


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("cli-search") / "ws")
    fill(workspace)
    return workspace


def say(workspace: Workspace, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["search", *arguments, "--workspace", str(workspace.path)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def read(workspace: Workspace, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    status, out, err = say(workspace, capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def test_it_answers_as_the_page_does_while_the_cache_is_owned(filled: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    cache = Cache.open(filled)
    try:
        document = read(filled, capsys, "the", "river", "--limit", "5")
    finally:
        cache.close()
    found = Search(filled).find(Question("the river"), limit=5)
    assert (document["query"], document["total"]) == ("the river", found.total)
    assert [(hit["kind"], hit["text"], hit["id"] or "") for hit in document["hits"]] == [(h.kind, h.text, h.identity) for h in found.hits]


def test_filters_are_the_pages(filled: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    document = read(
        filled, capsys, "river", "--kind", "explanation", "--kind", "own", "--model", "tiny", "--site", "mlp", "--layers", "0-1",
        "--basis", "neurons", "--by", "pattern", "--least", "-0.5",
    )  # fmt: skip
    expected = Question("river", ("explanation", "own"), "tiny", "mlp", (0, 1), "neurons", least=-0.5, author="pattern")
    found = Search(filled).find(expected, limit=20)
    assert [hit["id"] for hit in document["hits"]] == [hit.identity for hit in found.hits] != []
    labelled = read(filled, capsys, "river", "--labelled")
    assert {hit["unit"] for hit in labelled["hits"]} <= {str(UNITS[0]), str(UNITS[4])}


def test_lines_say_what_was_found_and_how_much_more_there_is(filled: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = say(filled, capsys, "river", "--limit", "2")
    assert status == 0
    assert len(out.splitlines()) == 3
    assert "--limit prints more" in err
    assert "river" in out
    status, out, err = say(filled, capsys, "alert")
    assert SENTENCES[5][:40] in out
    status, out, err = say(filled, capsys, "qqqq")
    assert (status, "nothing fits" in err) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x", "--kind", "poem"], "not a kind of text"),
        (["x", "--layers", "a"], "not a choice of layers"),
        (["x", "--least", "7"], "is not a score"),
        (["x", "--limit", "0"], "from 1 to"),
        (["x" * 501], "501 characters"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    filled: Workspace, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    status, out, err = say(filled, capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert said in err
