"""Where a workspace is only to be read, whatever would write is refused in one sentence, and no byte of it changes."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.bases import shelf
from core.errors import AtlasError, ReadOnly
from core.findings.bundle.importing import import_bundle
from core.findings.collections import Collections
from core.findings.findings import Findings
from core.findings.ratings import Ratings
from core.runs import client, lanes
from core.runs.registry import Registry
from core.store.cache import Cache
from core.ui import first_run
from core.workspace import READ_ONLY_ENV, Workspace
from tests import read_only
from tests.read_only import OTHER, UNIT

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Kept:
    """A workspace to be read, the names of what is in it, and how it was."""

    workspace: Workspace
    names: dict[str, str]
    before: dict[str, tuple[str, int]]

    def check(self) -> None:
        assert read_only.bytes_of(self.workspace) == self.before


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("read")
    workspace = Workspace.open(folder / "ws")
    names = read_only.fill(workspace)
    return Kept(read_only.to_read(workspace, folder / "own"), names, read_only.bytes_of(workspace))


@pytest.fixture
def kept(filled: Kept) -> Iterator[Kept]:
    yield filled
    filled.check()  # after each test, so that the one is named that wrote


# Every public method of what keeps people's words and runs is either in the first table or in the second.

READS: dict[type, dict[str, Callable[[Any, Kept], object]]] = {
    Registry: {
        "folder": lambda one, kept: one.folder(kept.names["done"]),
        "find_active": lambda one, _: one.find_active("index", {}),
        "newest": lambda one, _: one.newest("index", {}),
        "get": lambda one, kept: one.get(kept.names["done"]),
        "list": lambda one, _: one.list(),
        "waiting": lambda one, _: one.waiting("batch"),
        "cancel_requested": lambda one, kept: one.cancel_requested(kept.names["done"]),
    },
    Findings: {
        "author": lambda one, _: one.author,
        "usual_author": lambda one, _: one.usual_author,
        "collections": lambda one, _: one.collections,
        "number": lambda one, _: one.number,
        "entries": lambda one, _: one.entries(),
        "entry": lambda one, kept: one.entry(kept.names["note"]),
        "notes": lambda one, _: one.notes(UNIT),
        "labels": lambda one, _: one.labels(UNIT),
        "known_labels": lambda one, _: one.known_labels(),
        "rating": lambda one, _: one.rating(UNIT),
        "history": lambda one, kept: one.history(kept.names["note"]),
        "changed_since": lambda one, _: one.changed_since(0),
        "rows": lambda one, _: one.rows(),
    },
    Collections: {
        "list": lambda one, _: one.list(),
        "titles": lambda one, _: one.titles(),
        "find": lambda one, kept: one.find(kept.names["collection"]),
    },
    Ratings: {"list": lambda one, _: one.list()},
}
WRITES: dict[type, dict[str, Callable[[Any, Kept], object]]] = {
    Registry: {
        "submit": lambda one, _: one.submit("index", {"model": "tiny"}),
        "claim_next": lambda one, _: one.claim_next("batch"),
        "update": lambda one, kept: one.update(kept.names["queued"], done=1, total=2, unit="", stage="", message="", rate=None),
        "finish": lambda one, kept: one.finish(kept.names["queued"]),
        "fail": lambda one, kept: one.fail(kept.names["queued"], "No."),
        "cancelled": lambda one, kept: one.cancelled(kept.names["queued"]),
        "request_cancel": lambda one, kept: one.request_cancel(kept.names["queued"]),
        "resume": lambda one, kept: one.resume(kept.names["failed"]),
        "requeue_interrupted": lambda one, _: one.requeue_interrupted(),
        "delete": lambda one, kept: one.delete(kept.names["done"]),
        "restore": lambda one, _: one.restore(),
    },
    Findings: {
        "set_usual_author": lambda one, _: one.set_usual_author("Eve"),
        "save_note": lambda one, _: one.save_note(UNIT, "mine"),
        "explain": lambda one, _: one.explain(UNIT, "mine"),
        "rate": lambda one, _: one.rate(UNIT, 1),
        "label": lambda one, _: one.label(UNIT, "mine"),
        "unlabel": lambda one, _: one.unlabel(UNIT, "lists"),
        "alike": lambda one, _: one.alike(OTHER, UNIT),
        "remove": lambda one, kept: one.remove(kept.names["note"]),
        "undo": lambda one, kept: one.undo(kept.names["note"]),
        "merge": lambda one, _: one.merge([]),
    },
    Collections: {
        "create": lambda one, _: one.create("Mine"),
        "describe": lambda one, kept: one.describe(kept.names["collection"], "Mine", "", base=()),
        "add": lambda one, kept: one.add(kept.names["collection"], [UNIT]),
        "take_out": lambda one, kept: one.take_out(kept.names["collection"], UNIT),
        "move": lambda one, kept: one.move(kept.names["collection"], UNIT, 1),
    },
    Ratings: {
        "add": lambda one, _: one.add("explain-test.0", UNIT, 5),
        "undo": lambda one, _: one.undo(),
    },
}
MAKE: dict[type, Callable[[Workspace], Any]] = {
    Registry: Registry,
    Findings: Findings,
    Collections: lambda workspace: Collections(workspace, "Ada"),
    Ratings: Ratings,
}


@pytest.mark.parametrize("kind", list(MAKE))
def test_every_method_is_known_to_read_or_to_write(kind: type) -> None:
    public = {name for name, value in vars(kind).items() if not name.startswith("_") and (callable(value) or isinstance(value, property))}
    assert public == READS[kind].keys() | WRITES[kind].keys()
    assert not READS[kind].keys() & WRITES[kind].keys()


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in WRITES.items() for name in table])
def test_a_method_that_writes_is_refused(kept: Kept, kind: type, name: str) -> None:
    with pytest.raises(ReadOnly, match="open read-only"):
        WRITES[kind][name](MAKE[kind](kept.workspace), kept)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in READS.items() for name in table])
def test_a_method_that_reads_says_what_it_says_to_the_owner(kept: Kept, tmp_path: Path, kind: type, name: str) -> None:
    if name in ("folder", "collections"):
        return  # a path, and an object of its own
    owner = shared_copy(kept.workspace, tmp_path)
    told = READS[kind][name](MAKE[kind](kept.workspace), kept)
    assert told == READS[kind][name](MAKE[kind](owner), kept)


def shared_copy(workspace: Workspace, folder: Path) -> Workspace:
    """The SQLite files alone, in a workspace that may be written."""
    copy = Workspace.open(folder / "copy")
    for path in workspace.path.glob("*.sqlite"):
        (copy.path / path.name).write_bytes(path.read_bytes())
    return copy


def _put(kept: Kept) -> object:
    one = shelf.shelved(kept.workspace)[0]
    return shelf.put(kept.workspace, one.info, one.folder / shelf.WEIGHTS)


def _import(kept: Kept) -> object:
    return import_bundle(kept.workspace, kept.workspace.scratch / "nothing.zip", findings=Findings(kept.workspace))


OPERATIONS = ("work", "warm", "try_text", "unit_on_text", "recompute", "alike", "export", "begin", "leave")
OTHERS: dict[str, Callable[[Kept], object]] = {
    **{f"model process: {op}": lambda kept, op=op: client.call(kept.workspace, op) for op in OPERATIONS},
    "begin": lambda kept: client.begin(kept.workspace, "work"),
    "ensure_workers": lambda kept: lanes.ensure_workers(kept.workspace),
    "resume_interrupted": lambda kept: lanes.resume_interrupted(kept.workspace),
    "first run": lambda kept: first_run.begin(kept.workspace, Registry(kept.workspace)),
    "import": _import,
    "put on the shelf": _put,
    "remove from the shelf": lambda kept: shelf.remove(kept.workspace, shelf.shelved(kept.workspace)[0].info.key),
}


@pytest.mark.parametrize("what", list(OTHERS))
def test_what_starts_work_or_puts_something_in_place_is_refused(kept: Kept, what: str) -> None:
    with pytest.raises(ReadOnly):
        OTHERS[what](kept)


def test_the_table_has_every_operation_of_the_model_process() -> None:
    source = (ROOT / "core" / "runs" / "operations.py").read_text("utf8")
    documented = set(re.findall(r"^    \* `(\w+) \{", source, re.M))
    assert documented
    assert documented <= set(OPERATIONS)


def test_the_cache_and_scratch_are_elsewhere_and_take_in_every_run(kept: Kept) -> None:
    assert not kept.workspace.cache.is_relative_to(kept.workspace.path)
    assert not kept.workspace.scratch.is_relative_to(kept.workspace.path)
    cache = Cache.open(kept.workspace)
    try:
        assert cache.ingest() == []
        with cache.cursor() as cursor:
            assert cursor.execute("SELECT count(*) FROM indexes").fetchone() == (2,)
    finally:
        cache.close()


def test_two_may_read_and_one_may_write_at_the_same_time(tmp_path: Path) -> None:
    owner = Workspace.open(tmp_path / "ws")
    read_only.fill(owner)
    readers = [read_only.to_read(owner, tmp_path / name) for name in ("a", "b")]
    caches = [Cache.open(workspace) for workspace in (owner, *readers)]
    try:
        assert [cache.ingest() for cache in caches] == [[], [], []]
        Findings(owner, "Ada").save_note(UNIT, "written meanwhile")
        assert ["written meanwhile" in [entry.current.text for entry in Findings(one).notes(UNIT)] for one in readers] == [True, True]
    finally:
        for cache in caches:
            cache.close()


def test_a_workspace_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="no workspace at"):
        Workspace.open(tmp_path / "none", tmp_path / "own")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("arguments", [
    ["findings", "add", str(UNIT), "hello"], ["index", "--detach"], ["import", "x.atlas.zip"], ["runs"], ["show", str(UNIT)],
])  # fmt: skip
def test_the_command_line_reads_and_refuses_in_the_same_way(kept: Kept, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "core", *arguments, "--workspace", str(kept.workspace.path)], cwd=ROOT, capture_output=True, text=True,
        env={READ_ONLY_ENV: str(kept.workspace.own), "PATH": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}, timeout=120, check=False,
    )  # fmt: skip
    refused = arguments[0] not in ("runs", "show")
    assert done.returncode == (2 if refused else 0), done.stderr
    assert "Traceback" not in done.stderr
