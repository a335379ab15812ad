"""The cache holds what the runs say, survives what can happen to its file, and never takes a good run down with a bad one."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pytest

from core.errors import AtlasError
from core.store.cache import Cache
from core.store.migrations import LATEST, TABLES
from core.units import Site
from core.workspace import Workspace, write_json
from tests.synthetic import Recipe, activations, write_synthetic_index
from tests.synthetic_text import HOSTILE

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def opened(workspace: Workspace) -> Generator[Cache, None, None]:
    cache = Cache.open(workspace)
    try:
        yield cache
    finally:
        cache.close()


def tables(cache: Cache) -> dict[str, list[str]]:
    """Every row of every table as text, sorted, so that neither the order of writing nor NaN makes a difference."""
    with cache.cursor() as cursor:
        return {name: sorted(map(str, cursor.execute(f"SELECT * FROM {name}").fetchall())) for name in TABLES}


def ask(cache: Cache, sql: str) -> list[tuple[object, ...]]:
    with cache.cursor() as cursor:
        return cursor.execute(sql).fetchall()


def python(code: str, workspace: Workspace) -> "subprocess.Popen[str]":
    """Run Python with the workspace's path in `sys.argv[1]`."""
    command = [sys.executable, "-c", code, str(workspace.path)]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


HOLD = """
import sys
from core.store.cache import Cache
from core.workspace import Workspace
cache = Cache.open(Workspace.open(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""
INGEST = """
import sys
from core.store.cache import Cache
from core.workspace import Workspace
cache = Cache.open(Workspace.open(sys.argv[1]))
print("open", flush=True)
cache.ingest()
print("done", flush=True)
"""


def test_the_tables_hold_what_was_measured(workspace: Workspace) -> None:
    write_synthetic_index(workspace, kinds=("mlp", "resid"), hostile=True)
    recipe = Recipe(kinds=("mlp", "resid"), hostile=True)
    with opened(workspace) as cache:
        assert cache.ingest() == []
        rows = ask(cache, "SELECT kind, layer, unit, max, tokens, peak_context, peak_position FROM units ORDER BY ordinal")
        assert [(kind, layer, unit) for kind, layer, unit, *_ in rows] == [
            (kind, layer, unit) for layer in range(3) for kind in ("mlp", "resid") for unit in range(16)
        ]
        for kind, layer, unit, highest, tokens, context, position in rows:
            grid = activations(recipe, Site(kind, layer))[..., unit]  # type: ignore[arg-type, call-overload]
            assert (highest, tokens) == (np.nanmax(grid), (~np.isnan(grid)).sum())
            assert grid[context, position] == highest  # type: ignore[call-overload]
        assert ask(cache, "SELECT count(*) FROM units WHERE kurtosis IS NULL") == [(6,)], "undefined is NULL, not NaN or zero"
        vocab, words = recipe.text()
        shown = ask(cache, "SELECT token, text FROM vocab ORDER BY token")
        assert [text for token, text in shown if vocab.tokens[token] in HOSTILE] == [token.decode() for token in HOSTILE]  # type: ignore[call-overload]
        texts = ask(cache, "SELECT text, document, source FROM contexts ORDER BY context")
        assert texts == [(vocab.text(row), *words.documents[words.document[rank]]) for rank, row in enumerate(words.contexts)]
        records = ask(cache, "SELECT token, context, position FROM top_records")
        assert len(records) > 1000
        assert all(words.contexts[context][position] == token for token, context, position in records)  # type: ignore[call-overload]


def test_ingesting_again_changes_nothing(workspace: Workspace) -> None:
    write_synthetic_index(workspace, run="one")
    write_synthetic_index(workspace, run="two", seed=5)
    with opened(workspace) as cache:
        cache.ingest()
        before = tables(cache)
        assert cache.ingest() == []
        assert tables(cache) == before
    with opened(workspace) as cache:
        assert cache.ingest() == []
        assert tables(cache) == before


def test_a_newer_generation_replaces_the_rows_of_its_run_only(workspace: Workspace) -> None:
    write_synthetic_index(workspace, run="one", state="partial", contexts=32)
    write_synthetic_index(workspace, run="two", seed=5)
    with opened(workspace) as cache:
        cache.ingest()
        two = ask(cache, "SELECT * FROM units WHERE run = 'two' ORDER BY ordinal")
        write_synthetic_index(workspace, run="one", generation=2)
        assert cache.ingest() == []
        assert ask(cache, "SELECT state, generation, contexts_done FROM indexes WHERE run = 'one'") == [("complete", 2, 64)]
        assert ask(cache, "SELECT count(*) FROM units WHERE run = 'one'") == [(48,)]
        assert str(ask(cache, "SELECT * FROM units WHERE run = 'two' ORDER BY ordinal")) == str(two)
        assert len(ask(cache, "SELECT DISTINCT slice FROM contexts")) == 2, "text that no run uses any more is gone"


def test_a_run_whose_folder_is_gone_disappears(workspace: Workspace) -> None:
    write_synthetic_index(workspace, run="one")
    with opened(workspace) as cache:
        cache.ingest()
        (workspace.runs / "one" / "manifest.json").unlink()
        assert cache.ingest() == []
        assert all(rows == [] for rows in tables(cache).values())


def test_a_rebuilt_cache_has_the_same_tables(workspace: Workspace) -> None:
    write_synthetic_index(workspace, run="b-run")
    with opened(workspace) as cache:
        cache.ingest()
        write_synthetic_index(workspace, run="a-run", seed=3, slug="other", hostile=True)
        cache.ingest()
        before = tables(cache)
        assert cache.rebuild() == []
        assert tables(cache) == before
    workspace.cache.unlink()
    with opened(workspace) as cache:
        assert cache.ingest() == []
        assert tables(cache) == before
    assert list(workspace.scratch.glob("cache-*")) == []


@pytest.mark.parametrize("part", ["units", "records", "positions"])
def test_a_truncated_part_keeps_the_old_rows_and_the_other_runs(workspace: Workspace, part: str) -> None:
    write_synthetic_index(workspace, run="hurt", state="partial")
    write_synthetic_index(workspace, run="well", seed=5)
    with opened(workspace) as cache:
        cache.ingest()
        before = tables(cache)
        write_synthetic_index(workspace, run="hurt", seed=1, generation=2)
        path = workspace.runs / "hurt" / "gen-2" / "mlp.1" / f"{part}.parquet"
        whole = path.read_bytes()
        path.write_bytes(whole[:-100])
        sentence = f"runs/hurt/gen-2/mlp.1/{part}.parquet is damaged: make it again with python -m core resume hurt."
        assert cache.ingest() == [sentence]
        assert cache.ingest() == [sentence]
        assert tables(cache) == before
        path.write_bytes(whole)
        assert cache.ingest() == []
        assert ask(cache, "SELECT generation FROM indexes WHERE run = 'hurt'") == [(2,)]


def test_a_part_of_the_right_size_but_wrong_content_is_caught(workspace: Workspace) -> None:
    write_synthetic_index(workspace, run="hurt")
    write_synthetic_index(workspace, run="well", seed=5)
    positions = workspace.runs / "hurt" / "gen-1" / "mlp.1" / "positions.parquet"
    records = workspace.runs / "hurt" / "gen-1" / "mlp.1" / "records.parquet"
    with opened(workspace) as cache:
        assert cache.ingest() == []
        positions.write_bytes(positions.read_bytes()[:-1] + b"?")
        assert cache.rebuild() == ["runs/hurt/gen-1/mlp.1/positions.parquet is damaged: make it again with python -m core resume hurt."]
        assert ask(cache, "SELECT run FROM indexes") == [("well",)]
    workspace.cache.unlink()
    size = records.stat().st_size
    records.write_bytes(b"\0" * size)
    with opened(workspace) as cache:
        assert cache.ingest() == ["runs/hurt/gen-1/mlp.1/records.parquet is damaged: make it again with python -m core resume hurt."]
        assert ask(cache, "SELECT run FROM indexes") == [("well",)]


def test_missing_text_is_a_sentence_and_the_other_runs_stay(workspace: Workspace) -> None:
    write_synthetic_index(workspace, run="hurt", seed=9)
    write_synthetic_index(workspace, run="well", seed=5)
    piece = json.loads((workspace.runs / "hurt" / "manifest.json").read_text())["slice"]["id"]
    (workspace.corpora / piece / "documents.parquet").unlink()
    with opened(workspace) as cache:
        assert cache.ingest() == [f"corpora/{piece}/documents.parquet is missing: index the same text again to write it."]
        assert ask(cache, "SELECT run FROM indexes") == [("well",)]


def test_a_cache_from_a_newer_program_is_refused_and_untouched(workspace: Workspace) -> None:
    with opened(workspace) as cache:
        cache.ingest()
    with duckdb.connect(str(workspace.cache)) as connection:
        connection.execute("INSERT INTO schema_version VALUES (?)", [LATEST + 1])
    before = hashlib.sha256(workspace.cache.read_bytes()).hexdigest()
    with pytest.raises(AtlasError, match=rf"newer Neuron Atlas \(schema {LATEST + 1}, this one reads {LATEST}\): update the program"):
        Cache.open(workspace)
    assert hashlib.sha256(workspace.cache.read_bytes()).hexdigest() == before
    assert sorted(path.name for path in workspace.path.glob("cache*")) == ["cache.duckdb"]


@pytest.mark.parametrize("harm", ["text", "truncated", "garbled", "another database"])
def test_a_damaged_cache_is_moved_aside_and_made_again(workspace: Workspace, harm: str) -> None:
    write_synthetic_index(workspace)
    with opened(workspace) as cache:
        cache.ingest()
        before = tables(cache)
    content = workspace.cache.read_bytes()
    if harm == "another database":
        workspace.cache.unlink()
        with duckdb.connect(str(workspace.cache)) as connection:
            connection.execute("CREATE TABLE theirs (x INTEGER)")
    else:
        head = bytes(len(content[:20000]))
        hurt = {"text": b"not a database\n" * 1000, "truncated": content[: len(content) // 2], "garbled": head + content[20000:]}
        workspace.cache.write_bytes(hurt[harm])
    harmed = workspace.cache.read_bytes()
    with opened(workspace) as cache:
        assert len(cache.notices) == 1
        assert "damaged" in cache.notices[0]
        assert cache.ingest() == []
        assert tables(cache) == before
    aside = list(workspace.path.glob("cache.damaged-*.duckdb"))
    assert [path.read_bytes() for path in aside] == [harmed]


def test_a_cache_open_elsewhere_is_one_sentence(workspace: Workspace) -> None:
    holder = python(HOLD, workspace)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(AtlasError, match=r"is in use: the dashboard is open in another process"):
            Cache.open(workspace)
        assert not list(workspace.path.glob("cache.damaged-*"))
    finally:
        holder.kill()
        holder.communicate()
    with opened(workspace) as cache:
        assert cache.notices == []


def test_a_cache_killed_while_ingesting_opens_and_ends_the_same(workspace: Workspace) -> None:
    for run in range(6):
        write_synthetic_index(workspace, run=f"run-{run}", seed=run, width=24, n_layers=4)
    with opened(workspace) as cache:
        started = time.perf_counter()
        assert cache.ingest() == []
        took = time.perf_counter() - started
        whole = tables(cache)
    workspace.cache.unlink()
    cut = 0
    for attempt in range(4):
        worker = python(INGEST, workspace)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "open\n"
        time.sleep(took * (attempt + 0.5) / 5)
        worker.send_signal(signal.SIGKILL)
        cut += worker.communicate()[0] == ""
        with opened(workspace) as cache:
            assert cache.notices == []
            for run, units in ask(cache, "SELECT i.run, (SELECT count(*) FROM units u WHERE u.run = i.run) FROM indexes i"):
                assert units == 4 * 24, f"{run} was taken in by half"
            if attempt < 3:
                with cache.cursor() as cursor:
                    cursor.execute("DELETE FROM indexes WHERE run <> 'run-0'")
    assert cut >= 1, "no kill came in time: make the runs larger"
    with opened(workspace) as cache:
        assert cache.ingest() == []
        assert tables(cache) == whole


def test_readers_see_all_old_or_all_new_rows_while_a_run_is_replaced(workspace: Workspace) -> None:
    write_synthetic_index(workspace, width=20, contexts=32)
    truth = {}
    for generation, seed in enumerate((0, 1, 2, 3), 1):
        highs = [np.nanmax(activations(Recipe(width=20, contexts=32, seed=seed), Site("mlp", layer)), axis=(0, 1)) for layer in range(3)]
        truth[generation] = float(np.concatenate(highs).astype(np.float64).sum())
    wrong: list[object] = []
    reads = [0]
    stop = threading.Event()

    def read(cache: Cache) -> None:
        while not stop.is_set():
            rows = ask(cache, "SELECT i.generation, sum(u.max::DOUBLE), count(*) FROM units u JOIN indexes i USING (run) GROUP BY ALL")
            reads[0] += 1
            time.sleep(0.01)
            if len(rows) != 1 or rows[0][2] != 60 or abs(truth[rows[0][0]] - rows[0][1]) > 1e-3:  # type: ignore[index, operator]
                wrong.append(rows)

    with opened(workspace) as cache:
        cache.ingest()
        threads = [threading.Thread(target=read, args=(cache,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for generation, seed in ((2, 1), (3, 2), (4, 3)):
                write_synthetic_index(workspace, width=20, contexts=32, seed=seed, generation=generation)
                assert cache.ingest() == []
            assert cache.rebuild() == [], "the file is exchanged under the readers"
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert wrong == []
    assert reads[0] > 20


def test_replacing_a_run_again_and_again_does_not_grow_the_file(workspace: Workspace) -> None:
    write_synthetic_index(workspace, width=128, contexts=32)
    path = workspace.runs / "index-test" / "manifest.json"
    sizes: list[int] = []
    with opened(workspace) as cache:
        for generation in range(1, 9):
            write_json(path, json.loads(path.read_text()) | {"generation": generation})
            assert cache.ingest() == []
            assert ask(cache, "SELECT generation FROM indexes") == [(generation,)]
            sizes.append(workspace.cache.stat().st_size)
    assert sizes[-1] <= 1.5 * sizes[1], sizes


def test_compacting_keeps_every_row(workspace: Workspace) -> None:
    write_synthetic_index(workspace)
    with opened(workspace) as cache:
        cache.ingest()
        before = tables(cache)
        cache._compact()  # pyright: ignore[reportPrivateUsage]
        assert tables(cache) == before
        write_synthetic_index(workspace, seed=4, generation=2)
        assert cache.ingest() == []
    assert list(workspace.scratch.glob("cache-*")) == []


def test_a_closed_cache_says_so(workspace: Workspace) -> None:
    cache = Cache.open(workspace)
    cache.close()
    with pytest.raises(AtlasError, match="The cache is closed"), cache.cursor():
        pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_cache_goes_on_afterwards(small_disk: Path) -> None:
    workspace = Workspace.open(small_disk / "ws")
    write_synthetic_index(workspace, run="first")
    with opened(workspace) as cache:
        assert cache.ingest() == []
        write_synthetic_index(workspace, run="second", seed=3)
        room = os.statvfs(small_disk)
        filler = small_disk / "filler"
        filler.write_bytes(bytes(room.f_bavail * room.f_frsize - 20000))
        with pytest.raises(AtlasError, match="The disk is full"):
            cache.ingest()
        assert ask(cache, "SELECT run FROM indexes") == [("first",)]
        filler.unlink()
        assert cache.ingest() == []
        assert ask(cache, "SELECT run, count(*) FROM units GROUP BY run ORDER BY run") == [("first", 48), ("second", 48)]
