"""Files that the pages offer: each is what the command writes, nothing stays on the disk, and an import says in one sentence what came."""

import io
import json
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from core.errors import AtlasError
from core.findings.findings import Findings
from core.ui.import_section import said_of, take_in
from core.ui.share_files import FORMATS, Choice, Job, Made, file_stem, make
from core.units import UnitName
from core.workspace import Workspace
from tests.shared_bundle import UNITS, fill

CHOICE = Choice(UNITS[:2], title="Two: units / here")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("share") / "ws")
    fill(workspace)
    return workspace


def left(workspace: Workspace) -> list[str]:
    return [path.name for path in workspace.scratch.iterdir() if path.name.startswith(("export-", "import-"))]


def names(content: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.namelist()


def test_every_format_is_made_and_leaves_nothing_behind(filled: Workspace) -> None:
    made = {name: make(filled, name, CHOICE).content for name in FORMATS}
    assert left(filled) == []
    assert "manifest.json" in names(made["bundle"])
    assert made["report"].startswith(b"<!doctype html>")
    assert b"<script>" not in made["report"]
    assert made["csv"].startswith(b"unit,said,text")
    table = pq.read_table(io.BytesIO(made["parquet"])).to_pylist()
    assert {row["unit"] for row in table} == {str(unit) for unit in UNITS[:2]}
    assert [name for name in names(made["openai"]) if name.endswith("/neurons/1/5.json")]
    assert {name.rpartition("/")[2] for name in names(made["neuronpedia"])} == {"batch-0.jsonl.gz"}


@pytest.mark.parametrize("wanted", list(FORMATS))
def test_what_cannot_be_made_is_a_sentence_and_leaves_nothing_behind(filled: Workspace, wanted: str) -> None:
    gone = Choice((UnitName.parse("tiny/mlp.1/neurons/99999"),))
    with pytest.raises(AtlasError):
        make(filled, wanted, gone)
    with pytest.raises(AtlasError, match="choose some first"):
        make(filled, wanted, Choice(()))
    assert left(filled) == []


def test_a_page_of_too_many_units_is_refused(filled: Workspace) -> None:
    many = tuple(UnitName.parse(f"tiny/mlp.1/neurons/{number}") for number in range(201))
    with pytest.raises(AtlasError, match="at most 200 units, not 201"):
        make(filled, "report", Choice(many))


def test_what_people_wrote_goes_along_unless_left_out_and_comes_in_once(filled: Workspace, workspace: Workspace, tmp_path: Path) -> None:
    known = Findings(filled)
    without = make(filled, "bundle", Choice(UNITS[:2])).content
    whole = make(filled, "bundle", Choice(UNITS[:2], known, title="<b>Two</b>")).content
    assert not [name for name in names(without) if "findings" in name]
    done = take_in(workspace, "../../etc/Two units.atlas.zip", whole)
    said = said_of(done, "Two units.atlas.zip")
    assert said.startswith("“<b>Two</b>”, 2 units: ")
    assert "new runs and 2 new words of people came in." in said
    assert Findings(workspace, "Ada").rating(UNITS[0]) == 4
    again = take_in(workspace, "two.atlas.zip", whole)
    assert said_of(again, "two.atlas.zip") == "“<b>Two</b>”, 2 units: everything in it is here already."
    assert left(workspace) == []
    assert not (tmp_path / "etc").exists()


def test_files_of_another_program_come_in_the_same_way(filled: Workspace, workspace: Workspace) -> None:
    done = take_in(workspace, "records.zip", make(filled, "openai", Choice(UNITS[:2])).content, model="tiny")
    assert [(unit.site, unit.index) for unit in done.units] == [(unit.site, unit.index) for unit in UNITS[:2]]
    assert all(unit.subject.startswith("tiny.openai-") for unit in done.units)
    said = said_of(done, "records.zip")
    assert "2 units: " in said
    assert left(workspace) == []


@pytest.mark.parametrize("name", ["x.atlas.zip", ".atlas.zip", "…", "a/b/c.json"])
def test_an_upload_that_is_nothing_is_refused_and_leaves_nothing_behind(workspace: Workspace, name: str) -> None:
    for content in (b"", b"PK\x05\x06" + bytes(18), b"not a zip", json.dumps({"a": 1}).encode()):
        with pytest.raises(AtlasError):
            take_in(workspace, name, content)
    assert left(workspace) == []
    assert list(workspace.runs.iterdir()) == []


def test_a_job_keeps_the_sentence_of_what_went_wrong_for_the_page() -> None:
    def fail() -> Made:
        raise AtlasError("The disk is full.")

    failed, done = Job(fail), Job(lambda: Made(b"123", ("Mind this.",)))
    failed.wait(0.01, 5.0)
    assert not failed.ended.is_set()
    with pytest.raises(AtlasError):
        failed.content()
    failed.wait(0.01, 0.01)
    assert (failed.failed, failed.sentence, failed.ended.is_set()) == (True, "The disk is full.", True)
    unforeseen = Job(lambda: Made(str(1 // 0).encode()))
    with pytest.raises(ZeroDivisionError):
        unforeseen.content()
    assert unforeseen.failed
    assert "ZeroDivisionError" in unforeseen.sentence
    assert done.content() == b"123"
    assert (done.failed, done.sentence) == (False, "3 bytes were saved. Mind this.")


def test_the_files_are_named_after_the_unit_or_the_title() -> None:
    assert file_stem(Choice(UNITS[:1])) == "mlp.1-neurons-5"
    assert file_stem(CHOICE) == "Two-units-here"
    assert file_stem(Choice(UNITS)) == "units"
    assert file_stem(Choice(UNITS, title="../..")) == "units"
