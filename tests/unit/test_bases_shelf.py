"""The shelf is read again only where something changed, whoever changed it."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from core.bases import shelf
from core.bases.shelf import Shelved, damaged, describe, find, put, remove, shelved
from core.errors import AtlasError
from core.remembered import Remembered
from core.units import Site
from core.workspace import Workspace
from tests.synthetic_dictionaries import write_dictionary

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the dictionaries whose description was read from disk, as that happens."""
    log: list[str] = []
    parse = shelf._parse  # pyright: ignore[reportPrivateUsage]

    def logged(folder: Path) -> Shelved:
        log.append(folder.name)
        return parse(folder)

    monkeypatch.setattr(shelf, "_parse", logged)
    return log


def names(workspace: Workspace) -> list[str]:
    return [one.info.name for one in shelved(workspace)]


def test_a_second_look_reads_nothing(workspace: Workspace, read: list[str]) -> None:
    for name in ("one", "two"):
        write_dictionary(workspace, name)
    assert names(workspace) == ["one", "two"]
    assert sorted(read) == ["one", "two"]
    read.clear()
    assert names(workspace) == ["one", "two"]
    assert damaged(workspace) == []
    assert find(workspace, "tiny", Site("mlp", 1), "two").info.name == "two"
    assert read == []


def test_only_what_was_replaced_is_read_again(workspace: Workspace, read: list[str]) -> None:
    one, two = write_dictionary(workspace, "one"), write_dictionary(workspace, "two")
    names(workspace)
    read.clear()
    describe(two, two.info.with_metrics({"l0": 3.0}))
    assert {found.info.name: found.info.metrics for found in shelved(workspace)} == {"one": {}, "two": {"l0": 3.0}}
    assert read == ["two"]
    read.clear()
    put(workspace, one.info, one.weights)  # the same content again: another file all the same
    assert names(workspace) == ["one", "two"]
    assert read == ["one"]


def test_what_another_process_does_is_seen(workspace: Workspace) -> None:
    write_dictionary(workspace, "one")
    write_dictionary(workspace, "two")
    assert names(workspace) == ["one", "two"]
    code = """
import sys
from core.bases.shelf import find_named, describe, remove
from core.workspace import Workspace
from tests.synthetic_dictionaries import write_dictionary
workspace = Workspace.open(sys.argv[1])
remove(workspace, "one")
describe(found := find_named(workspace, "two"), found.info.with_metrics({"l0": 7.0}))
write_dictionary(workspace, "new")
"""
    subprocess.run([sys.executable, "-c", code, str(workspace.path)], cwd=ROOT, check=True, timeout=60)
    assert {found.info.name: found.info.metrics for found in shelved(workspace)} == {"new": {}, "two": {"l0": 7.0}}


def test_a_damaged_description_is_named_until_it_is_mended(workspace: Workspace) -> None:
    one = write_dictionary(workspace, "one")
    path = one.folder / "basis.json"
    content = path.read_text("utf8")
    assert names(workspace) == ["one"]
    path.write_text("{", "utf8")
    assert names(workspace) == []
    assert ["is damaged" in text for text in damaged(workspace)] == [True]
    path.write_text(content, "utf8")
    assert names(workspace) == ["one"]
    assert damaged(workspace) == []


def test_one_that_goes_while_the_shelf_is_read_is_neither_there_nor_damaged(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    one, key = write_dictionary(workspace, "one"), shelf.file_key

    def late(path: Path) -> object:
        shutil.rmtree(one.folder, ignore_errors=True)
        return key(path)

    monkeypatch.setattr(shelf, "file_key", late)
    assert (names(workspace), damaged(workspace)) == ([], [])


def test_removing_leaves_nothing_behind(workspace: Workspace) -> None:
    one = write_dictionary(workspace, "one")
    assert remove(workspace, "one") == "tiny/mlp.1/one"
    assert list(one.folder.parent.iterdir()) == []
    with pytest.raises(AtlasError, match="There is no dictionary “one” here"):
        remove(workspace, "one")


def test_a_memory_forgets_what_was_not_used_for_longest() -> None:
    memory: Remembered[int, str] = Remembered(2)
    made: list[int] = []

    def get(key: int) -> str:
        return memory.get(key, lambda: made.append(key) or str(key))

    assert [get(key) for key in (1, 2, 1, 3, 1, 2)] == ["1", "2", "1", "3", "1", "2"]
    assert made == [1, 2, 3, 2]
    assert (memory.known(3), memory.known(2)) == (None, "2")


def test_what_raises_is_not_remembered() -> None:
    memory: Remembered[str, int | None] = Remembered(2)

    def fail() -> int:
        raise AtlasError("not now")

    with pytest.raises(AtlasError):
        memory.get("a", fail)
    assert memory.get("a", lambda: None) is None
    assert memory.get("a", lambda: 3) is None  # None is a value too


def test_threads_may_ask_at_once() -> None:
    memory: Remembered[int, int] = Remembered(4)
    wrong: list[int] = []

    def work() -> None:
        for turn in range(500):
            if memory.get(turn % 7, lambda turn=turn: turn % 7) != turn % 7:
                wrong.append(turn)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
