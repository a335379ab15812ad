"""What stands beneath the refusals: the fence around the process, SQLite files read as snapshots, and who guards each place that writes."""

import ast
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core import sqlite
from core.errors import AtlasError, ReadOnly
from core.fence import fence, open_again
from core.findings import database
from core.workspace import Workspace, whole_folder, write_atomic, write_json

ROOT = Path(__file__).resolve().parents[2]

# The fence


@pytest.fixture
def fenced(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "fenced"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_text("as it was")
    (tmp_path / "outside").write_text("outside")
    (tmp_path / "way in").symlink_to(folder)
    os.chdir(tmp_path)
    fence(folder)
    yield folder
    open_again(folder)
    os.chdir(ROOT)
    assert sorted(path.name for path in folder.rglob("*")) == ["file", "sub"]
    assert (folder / "file").read_text() == "as it was"


CHANGES: dict[str, Callable[[Path], object]] = {
    "write_json": lambda folder: write_json(folder / "new.json", {}),
    "write_atomic": lambda folder: write_atomic(folder / "sub" / "new", b""),
    "whole_folder": lambda folder: whole_folder(folder / "new").__enter__(),
    "write_text": lambda folder: (folder / "file").write_text("other"),
    "append": lambda folder: (folder / "file").open("a"),
    "both ways": lambda folder: (folder / "file").open("r+b"),
    "os.open": lambda folder: os.open(folder / "new", os.O_WRONLY | os.O_CREAT),
    "as bytes": lambda folder: open(os.fsencode(folder / "new"), "wb"),  # noqa: SIM115
    "relative": lambda _: Path("fenced/new").write_text(""),
    "through a link": lambda folder: (folder.parent / "way in" / "new").write_text(""),
    "up and down": lambda folder: (folder / ".." / "fenced" / "new").write_text(""),
    "touch": lambda folder: (folder / "new").touch(),
    "touch again": lambda folder: (folder / "file").touch(),
    "mkdir": lambda folder: (folder / "new").mkdir(),
    "rmdir": lambda folder: (folder / "sub").rmdir(),
    "unlink": lambda folder: (folder / "file").unlink(),
    "rename": lambda folder: (folder / "file").rename(folder / "new"),
    "rename out": lambda folder: (folder / "file").rename(folder.parent / "new"),
    "replace in": lambda folder: (folder.parent / "outside").replace(folder / "file"),
    "rmtree": shutil.rmtree,
    "rmtree beneath": lambda folder: shutil.rmtree(folder / "sub"),
    "rmtree above": lambda folder: shutil.rmtree(folder.parent),
    "copy": lambda folder: shutil.copyfile(folder.parent / "outside", folder / "new"),
    "link": lambda folder: (folder / "new").hardlink_to(folder.parent / "outside"),
    "symlink": lambda folder: (folder / "new").symlink_to(folder.parent / "outside"),
    "truncate": lambda folder: os.truncate(folder / "file", 0),
    "chmod": lambda folder: (folder / "file").chmod(0o600),
    "sqlite": lambda folder: sqlite3.connect(folder / "new.sqlite"),
    "folder's own descriptor": lambda folder: os.unlink("file", dir_fd=os.open(folder, os.O_RDONLY)),
}


@pytest.mark.parametrize("how", list(CHANGES))
def test_nothing_behind_the_fence_can_be_changed(fenced: Path, how: str) -> None:
    with pytest.raises(ReadOnly):
        CHANGES[how](fenced)


def test_reading_behind_the_fence_and_writing_beside_it_go_on(fenced: Path) -> None:
    assert (fenced / "file").read_text() == "as it was"
    assert [path.name for path in fenced.iterdir()]
    write_json(fenced.parent / "beside.json", {"a": 1})
    write_json(fenced.parent / "fenced-too.json", {"a": 1})  # its name only begins alike
    sqlite3.connect(":memory:").close()


# Snapshots of SQLite files


def _rows(path: Path) -> list[tuple[int, int]]:
    connection = sqlite.snapshot(path, ("CREATE TABLE pairs (a INTEGER, b INTEGER)",))
    try:
        return connection.execute("SELECT a, b FROM pairs").fetchall()
    finally:
        connection.close()


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    sqlite.migrate(connection, path, ("CREATE TABLE pairs (a INTEGER, b INTEGER)",))
    return connection


def test_a_file_that_is_not_there_reads_as_empty_and_is_not_made(tmp_path: Path) -> None:
    assert _rows(tmp_path / "none.sqlite") == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_only_in_the_log_yet_is_seen_and_stays_there(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    writer = _open(path)
    writer.execute("INSERT INTO pairs VALUES (1, 1)")
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    assert before[f"{path.name}-wal"]
    assert _rows(path) == [(1, 1)]
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before
    writer.execute("INSERT INTO pairs VALUES (2, 2)")
    assert _rows(path) == [(1, 1), (2, 2)]
    writer.close()
    assert _rows(path) == [(1, 1), (2, 2)]


def test_a_snapshot_cannot_be_written_to(tmp_path: Path) -> None:
    _open(tmp_path / "a.sqlite").close()
    connection = sqlite.snapshot(tmp_path / "a.sqlite", ("CREATE TABLE pairs (a INTEGER, b INTEGER)",))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("INSERT INTO pairs VALUES (1, 1)")


def test_a_snapshot_never_holds_half_a_transaction(tmp_path: Path) -> None:
    path, stop, seen = tmp_path / "a.sqlite", threading.Event(), list[int]()
    _open(path).close()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            connection = _open(path)
            with sqlite.transaction(connection):
                connection.execute("DELETE FROM pairs")
                connection.executemany("INSERT INTO pairs VALUES (?, ?)", [(number, one) for one in range(200)])
            connection.close()
            time.sleep(0.15)

    writer = threading.Thread(target=write)
    writer.start()
    end, looked = time.monotonic() + 60, 0
    try:
        while (looked < 20 or len(set(seen)) <= 3) and time.monotonic() < end:
            looked += 1
            rows = _rows(path)
            assert len({a for a, _ in rows}) <= 1
            assert len(rows) in (0, 200)
            seen += [a for a, _ in rows[:1]]
    finally:
        stop.set()
        writer.join()
    assert len(set(seen)) > 3


def test_a_file_of_an_older_program_is_read_as_if_it_were_migrated(tmp_path: Path) -> None:
    owner = Workspace.open(tmp_path / "ws")
    path = owner.path / database.FILE
    connection = sqlite3.connect(path, isolation_level=None)
    sqlite.migrate(connection, path, database.MIGRATIONS[:1])
    connection.close()
    content = path.read_bytes()
    with database.connect(Workspace.open(owner.path, tmp_path / "own"), write=False) as reading:
        assert reading.execute("SELECT count(*) FROM versions").fetchone()[0] == 0
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be taken for one" * 20, b"SQLite format 3\x00" + b"\xff" * 4000]
)
def test_a_damaged_file_is_told_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    owner = Workspace.open(tmp_path / "ws")
    (owner.path / database.FILE).write_bytes(content)
    with pytest.raises(AtlasError, match="is damaged"), database.connect(Workspace.open(owner.path, tmp_path / "own"), write=False):
        pass


def test_a_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    owner = Workspace.open(tmp_path / "ws")
    connection = sqlite3.connect(owner.path / database.FILE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(AtlasError, match="newer Neuron Atlas"), database.connect(Workspace.open(owner.path, tmp_path / "own"), write=False):
        pass


# Who guards what writes

CHECKS = "checks"  # calls `Workspace.check_writable` itself, or the connection that does
RUN = "run"  # writes into a run's folder: only a worker does, which `Registry.claim_next` gives a run, or refuses one
ELSEWHERE = "elsewhere"  # writes where a person says on the command line, or beside the workspace
OWN = "own"  # writes into scratch or the cache, which a workspace to be read has of its own
TOOL = "tool"  # the functions that the others write with
GUARDED = {
    "core/autointerp/files.py": RUN,
    "core/autointerp/puzzle_run.py": RUN,
    "core/autointerp/run.py": RUN,
    "core/bases/checkpoint.py": RUN,
    "core/bases/curves.py": RUN,
    "core/bases/dictionary.py": OWN,
    "core/bases/fit_run.py": RUN,
    "core/bases/formats/bring_run.py": RUN,
    "core/bases/formats/saelens.py": ELSEWHERE,
    "core/bases/measure_run.py": RUN,
    "core/bases/shelf.py": CHECKS,
    "core/bases/train_run.py": RUN,
    "core/causal/effect_files.py": RUN,
    "core/causal/effect_run.py": RUN,
    "core/causal/ioi_files.py": RUN,
    "core/causal/ioi_run.py": RUN,
    "core/causal/steer_files.py": RUN,
    "core/cli.py": OWN,
    "core/commands/doctor.py": OWN,
    "core/commands/serving.py": OWN,
    "core/corpus/build.py": CHECKS,
    "core/findings/bundle/archive.py": OWN,
    "core/findings/bundle/exporting.py": ELSEWHERE,
    "core/findings/bundle/importing.py": CHECKS,
    "core/findings/bundle/reduced.py": OWN,
    "core/findings/bundle/staging.py": OWN,
    "core/findings/database.py": CHECKS,
    "core/findings/exchange/neuronpedia.py": ELSEWHERE,
    "core/findings/exchange/openai.py": ELSEWHERE,
    "core/findings/exchange/tables.py": ELSEWHERE,
    "core/findings/exchange/read_delphi.py": OWN,
    "core/findings/report/page.py": ELSEWHERE,
    "core/findings/search/part.py": OWN,
    "core/findings/search/search.py": OWN,
    "core/index/codes.py": RUN,
    "core/index/effects.py": RUN,
    "core/index/files.py": RUN,
    "core/index/inputs.py": RUN,
    "core/index/indexer.py": RUN,
    "core/index/jit.py": ELSEWHERE,
    "core/index/parts.py": RUN,
    "core/llm/cache.py": TOOL,
    "core/autointerp/models.py": CHECKS,
    "core/runs/client.py": CHECKS,
    "core/runs/interactive.py": OWN,
    "core/runs/lanes.py": CHECKS,
    "core/runs/processes.py": TOOL,
    "core/runs/progress.py": RUN,
    "core/runs/registry.py": CHECKS,
    "core/runs/schema.py": CHECKS,
    "core/runs/shelf_operations.py": OWN,
    "core/sqlite.py": TOOL,
    "core/store/cache.py": OWN,
    "core/subject/checkpoint.py": OWN,
    "core/subject/embedded.py": CHECKS,
    "core/subject/load.py": CHECKS,
    "core/subject/random_weights.py": ELSEWHERE,
    "core/ui/first_run.py": CHECKS,
    "core/ui/import_section.py": CHECKS,
    "core/ui/share_files.py": OWN,
    "core/vocab.py": TOOL,
    "core/workspace.py": TOOL,
}
"""Every file of the program that writes, and why that is refused, or does no harm, where the workspace is only to be read."""
WRITERS = {
    "ParquetWriter", "ResponseCache", "TemporaryDirectory", "Popen", "copyfile", "copytree", "hardlink_to", "makedirs", "mkdir", "move",
    "put_in_place", "rename", "rmdir", "rmtree", "save_file", "spawn", "symlink_to", "touch", "truncate", "unlink", "utime",
    "whole_folder", "write_atomic", "write_bytes", "write_json", "write_table", "write_text",
}  # fmt: skip
OF_MODULES = {("sqlite3", "connect"), ("duckdb", "connect"), ("os", "replace"), ("subprocess", "run"), ("subprocess", "call")}
NO_FILES = {"core/ui/findings_collection.py", "core/commands/findings.py", "core/commands/sharing.py"}
"""Call something of the same name that goes through one of the files above."""


def _writes(tree: ast.AST) -> bool:
    """Whether a file calls something that makes, changes or removes files, or starts a process."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        owner = called.value.id if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) else ""
        given = [*node.args, *(word.value for word in node.keywords if word.arg == "mode")]
        modes = [str(one.value) for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        if name in WRITERS or (owner, name) in OF_MODULES:
            return True
        if name == "open" and any(re.fullmatch("[rwaxbt+]{1,3}", mode) and set(mode) & set("wax+") for mode in modes):
            return True
        if name == "replace" and isinstance(called, ast.Attribute) and len(node.args) == 1 and not node.keywords:
            return True  # a path's: a text's has two arguments, a dataclass's and a datetime's name them
    return False


def test_every_file_that_writes_says_who_guards_it() -> None:
    sources = [*(ROOT / "core").rglob("*.py"), *(ROOT / "pages").glob("*.py"), ROOT / "app.py", ROOT / "dashboard.py"]
    found = {str(path.relative_to(ROOT)) for path in sources if _writes(ast.parse(path.read_text("utf8")))}
    assert found - GUARDED.keys() - NO_FILES == set()
    assert GUARDED.keys() - found == set()


@pytest.mark.parametrize("path", [path for path, guard in GUARDED.items() if guard == CHECKS])
def test_what_is_said_to_check_does(path: str) -> None:
    source = (ROOT / path).read_text("utf8")
    assert "check_writable()" in source or "schema.connect(self.workspace)" in source


def test_what_writes_into_runs_is_out_of_the_pages_reach() -> None:
    """The process of the dashboard loads no module that writes a run, but for two that also read one."""
    writers = [path[:-3].replace("/", ".") for path, guard in GUARDED.items() if guard == RUN]
    names = [f"core.ui.{path.stem}" for path in (ROOT / "core" / "ui").glob("*.py")]
    code = f"import sys, importlib\nfor name in {names}:\n    importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert set(done.stdout.split()) & set(writers) <= {"core.autointerp.files", "core.bases.curves"}
