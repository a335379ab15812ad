"""The search keeps up: what was written or made is found at once, what is gone is not, and a damaged part on disk is made again."""

import shutil
from pathlib import Path

import pytest

from core.findings.findings import Findings
from core.findings.search import search as module
from core.findings.search.part import Part
from core.findings.search.question import Question
from core.findings.search.search import Progress, Search
from core.units import UnitName
from core.workspace import Workspace
from tests.searchable import SENTENCES, UNITS, explain, fill
from tests.synthetic import write_synthetic_index

PATIENCE = 60.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace.open(tmp_path_factory.mktemp("search-index") / "ws")
    fill(workspace)
    Search(workspace).find(Question("river"))
    return workspace.path


@pytest.fixture
def filled(template: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(template, tmp_path / "filled")
    return Workspace.open(tmp_path / "filled")


def total(search: Search, words: str, *, labelled: bool = False) -> int:
    return search.find(Question(words, labelled=labelled)).total


def folders(workspace: Workspace) -> list[str]:
    return sorted(path.name for path in (workspace.scratch / "search").iterdir())


def test_what_people_write_is_found_at_once_and_nothing_else_is_read_again(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    search, ada = Search(filled), Findings(filled, "Ada")
    assert total(search, "walrus") == 0

    def refuse(*_: object) -> None:
        raise AssertionError("what runs made was read again")

    monkeypatch.setattr(module.known, "add_explanations", refuse)
    monkeypatch.setattr(module.known, "add_tokens", refuse)
    note = ada.save_note(UNITS[2], "a walrus, by the river")
    assert total(search, "walrus") == 1
    ada.save_note(UNITS[2], "a seal", entry=note.id, base=note.base)
    assert (total(search, "walrus"), total(search, "seal")) == (0, 1)
    ada.remove(note.id)
    assert total(search, "seal") == 0
    before = total(search, "music", labelled=True)
    ada.label(UNITS[2], "walrus")
    assert total(search, "walrus") == 1
    assert total(search, "music", labelled=True) > before
    ada.unlabel(UNITS[2], "walrus")
    assert total(search, "music", labelled=True) == before


def test_what_runs_make_is_found_and_what_is_gone_is_not(filled: Workspace) -> None:
    search = Search(filled)
    explain(filled, "explain-new", UNITS[0], "Fires on a walrus.")
    assert total(search, "walrus") == 1
    assert [hit.unit for hit in search.find(Question("walrus")).hits] == [UNITS[0]]
    shutil.rmtree(filled.runs / "explain-new")
    assert total(search, "walrus") == 0
    shutil.rmtree(filled.runs / "index-test")
    assert search.counts()["tokens"] == 0


def test_the_part_on_disk_is_opened_not_made_again(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Search(filled).find(Question("river"))
    monkeypatch.setattr(module, "_read", lambda *_: pytest.fail("it was made again"))
    assert Search(filled).find(Question("river")) == expected


def test_where_nothing_may_be_written_the_owners_part_is_read_and_stays(
    filled: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Search(filled).find(Question("river"))
    guest = Workspace.open(filled.path, tmp_path / "own")
    with monkeypatch.context() as patched:
        patched.setattr(module, "_read", lambda *_: pytest.fail("it was made again"))
        assert Search(guest).find(Question("river")) == expected
    (folder,) = folders(filled)
    (filled.scratch / "search" / folder / "part.json").write_text("damaged")
    assert Search(guest).find(Question("river")) == expected
    assert (filled.scratch / "search" / folder / "part.json").read_text() == "damaged"
    assert folders(guest) == [folder]


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "gone":
        path.unlink()
    else:
        content[: min(160, len(content))] = b"\xff" * min(160, len(content))
        path.write_bytes(content)


FILES = ("part.json", "documents.arrow", *(f"ranking/{name}" for name in (
    "data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy", "vocab.index.json", "params.index.json"
)))  # fmt: skip


@pytest.mark.parametrize("how", ["cut", "gone", "overwritten"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_part_is_made_again(filled: Workspace, name: str, how: str) -> None:
    expected = Search(filled).find(Question("the river"))
    (folder,) = folders(filled)
    damage(filled.scratch / "search" / folder / name, how)
    search = Search(filled)
    assert search.find(Question("the river")) == expected
    assert (search.failed, folders(filled)) == ("", [folder])
    Part.load(filled.scratch / "search" / folder)


def test_numbers_that_point_nowhere_are_damage_too(filled: Workspace) -> None:
    expected = Search(filled).find(Question("the river"))
    (folder,) = folders(filled)
    path = filled.scratch / "search" / folder / "ranking" / "indices.csc.index.npy"
    content = bytearray(path.read_bytes())
    content[-8:] = b"\xff\xff\xff\x7f\xfe\xff\xff\xff"  # beyond the last document, and before the first
    path.write_bytes(content)
    assert Search(filled).find(Question("the river")) == expected


def test_a_damaged_run_is_left_out_and_the_rest_is_found(filled: Workspace) -> None:
    shutil.rmtree(filled.scratch / "search")
    for path in (filled.runs / "explain-0").rglob("explanations.parquet"):
        path.write_bytes(b"nothing")
    search = Search(filled)
    assert search.counts()["explanation"] == len(SENTENCES) - 1
    assert total(search, "riverbank") == 1


def test_the_search_works_where_nothing_is(workspace: Workspace) -> None:
    search = Search(workspace)
    assert search.find(Question("river")).hits == ()
    assert sum(search.counts().values()) == 0
    assert search.choices() == {"subjects": [], "site_kinds": [], "bases": [], "authors": []}


def test_much_is_read_behind_the_page_which_finds_what_people_wrote_meanwhile(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    shutil.rmtree(filled.scratch / "search")
    seen: list[Progress] = []
    expected = Search(filled, on_progress=seen.append).find(Question("river"), limit=1000).total
    shutil.rmtree(filled.scratch / "search")
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert seen[-1].done <= seen[-1].total
    search = Search(filled, background=True)
    first = search.find(Question("river"), limit=1000)
    assert {hit.kind for hit in first.hits} <= {"note", "own", "label", "collection"}
    assert first.total >= 3
    assert search.wait(PATIENCE)
    assert search.find(Question("river"), limit=1000).total == expected
    assert (search.progress, search.failed) == (None, "")


def test_a_little_that_came_since_is_found_without_making_the_part_again(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    search = Search(filled, background=True)
    search.find(Question("river"))
    before = folders(filled)
    explain(filled, "explain-one", UNITS[0], "Fires on a walrus.")
    assert total(search, "walrus") == 1
    assert folders(filled) == before
    for number in range(4):
        explain(filled, f"explain-more-{number}", UNITS[number], f"Fires on a walrus, {number}.")
    search.find(Question("walrus"))
    assert search.wait(PATIENCE)
    assert total(search, "walrus") == 5
    assert folders(filled) != before
    assert len(folders(filled)) == 1


def test_a_failure_behind_the_page_is_a_sentence(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    shutil.rmtree(filled.scratch / "search")

    def fail(*_: object) -> Part:
        raise RuntimeError("no luck")

    monkeypatch.setattr(module, "_read", fail)
    search = Search(filled, background=True)
    search.find(Question("river"))
    assert search.wait(PATIENCE)
    assert "no luck" in search.failed
    assert search.progress is None


def test_units_of_an_index_are_found_once_though_two_indexes_hold_them(workspace: Workspace) -> None:
    write_synthetic_index(workspace, run="index-a", n_layers=1, width=8, contexts=24, length=16)
    alone = Search(workspace).counts()["tokens"]
    write_synthetic_index(workspace, run="index-b", n_layers=1, width=8, contexts=48, length=16, seed=0)
    search = Search(workspace)
    assert 0 < search.counts()["tokens"] <= 8
    assert alone <= 8
    units = [hit.unit for hit in search.find(Question("river the on of in to and was"), limit=100).hits]
    assert len(units) == len(set(units)) > 0
    assert all(isinstance(unit, UnitName) for unit in units)
