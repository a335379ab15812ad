"""The command `doctor`: is everything here that the program needs?"""

import argparse
import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.commands.output import emit, table
from core.errors import AtlasError
from core.workspace import Workspace, write_atomic

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "datasets",
    "numba",
    "numpy",
    "pyarrow",
    "duckdb",
    "pandas",
    "streamlit",
    "plotly",
    "openai",
    "scikit-learn",
)
LOW_DISK = 3 << 30
"""Less than this is too little for the embedded model (540 MB), its index (0.9 GB) and the cache."""


@dataclass(frozen=True)
class Check:
    """One thing looked at. `needed` ones decide the verdict."""

    name: str
    ok: bool
    detail: str
    needed: bool = True


def doctor(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Look at everything; 0 when all that is needed is there, else 1."""
    checks = [_python(), *map(_package, PACKAGES), *_torch(), *_embedded(), *_workspace(workspace)]
    ok = all(check.ok for check in checks if check.needed)
    rows = [["ok" if check.ok else "FAIL" if check.needed else "none", check.name, check.detail] for check in checks]
    verdict = "everything needed is here" if ok else "something is missing or damaged: see the lines with FAIL"
    emit(arguments, {"ok": ok, "checks": [vars(check) for check in checks]}, [*table(rows), "", verdict])
    return 0 if ok else 1


def _python() -> Check:
    return Check("python", sys.version_info >= (3, 11), f"{platform.python_version()} ({sys.executable})")


def _package(name: str) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "not installed: run `make setup`, or `pip install -r requirements.txt`")


def _torch() -> list[Check]:
    """The device and the matrix multiplication that workers will use."""
    try:
        import torch

        from core.subject.matmul import choose_matmul
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything; it is what this command reports
        first = next(iter(str(error).splitlines()), "no reason given")
        return [Check("torch device", False, f"torch cannot be imported ({type(error).__name__}: {first})")]
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    return [
        Check("torch device", True, f"{device} ({name})"),
        Check("matmul", True, choose_matmul("float32", torch.device(device)), needed=False),
    ]


def _embedded() -> list[Check]:
    return [_present("embedded model", _embedded_model), _present("embedded text", _embedded_text)]


def _embedded_model() -> str:
    from core.subject.embedded import find_file

    return str(find_file())


def _embedded_text() -> str:
    from core.corpus.embedded import package_data

    return str(package_data())


def _present(name: str, look: Callable[[], str]) -> Check:
    """What comes along is not needed by somebody with a model and text of their own."""
    try:
        return Check(name, True, look(), needed=False)
    except (AtlasError, ImportError) as error:
        return Check(name, False, str(error), needed=False)


def _workspace(workspace: Workspace) -> list[Check]:
    probe = workspace.scratch / "doctor"
    try:
        write_atomic(probe, b"1")
        probe.unlink()
        written = Check("workspace", True, str(workspace.path))
    except OSError as error:
        written = Check("workspace", False, f"{workspace.path} cannot be written ({error.strerror}): choose another with --workspace")
    free = shutil.disk_usage(workspace.path).free
    disk = Check("disk", free >= LOW_DISK, f"{free / 1e9:,.1f} GB free", needed=False)
    return [
        written,
        disk,
        _registry(workspace),
        *_indexes(workspace),
        *_explanations(workspace),
        *_dictionaries(workspace),
        _cache(workspace),
    ]


def _registry(workspace: Workspace) -> Check:
    from core.runs.registry import Registry

    try:
        runs = Registry(workspace).list(limit=1_000_000)
    except AtlasError as error:
        return Check("runs", False, str(error))
    return Check("runs", True, f"{len(runs)}, of which {sum(run.active for run in runs)} queued or running")


def _indexes(workspace: Workspace) -> list[Check]:
    """Whether the files of every index have the size they were written with. (`resume` and `rebuild` read them whole.)"""
    from core.store.catalog import read_current, scan
    from core.store.ingest import verify

    found, broken = scan(workspace)
    for index in found:
        try:
            read_current(workspace, index, lambda current: verify(current, whole=False))
        except AtlasError as error:
            broken[index.run] = str(error)
    sound = len(found) - sum(index.run in broken for index in found)
    checks = [Check(f"index {run}", False, sentence) for run, sentence in sorted(broken.items())]
    return [*checks, Check("indexes", True, f"{sound} with all their files")]


def _explanations(workspace: Workspace) -> list[Check]:
    """The same for what was explained."""
    from core.store.catalog import broken_file, scan
    from core.store.explained import scan as scan_explained
    from core.store.explained_ingest import verify_run
    from core.store.parts import DamagedPart

    found, broken = scan_explained(workspace)
    # A manifest of which not even the kind can be read is named among the indexes.
    wrong = {run: sentence for run, sentence in broken.items() if run not in scan(workspace)[1]}
    for explained in found:
        try:
            verify_run(explained, whole=False)
        except DamagedPart as damage:
            wrong[explained.run] = broken_file(workspace, explained.run, damage.path, "is damaged")
        except FileNotFoundError as missing:
            wrong[explained.run] = broken_file(workspace, explained.run, Path(str(missing.filename)), "is missing")
    checks = [Check(f"explanations {run}", False, sentence) for run, sentence in sorted(wrong.items())]
    sound = sum(explained.run not in wrong for explained in found)
    return [*checks, Check("explanations", True, f"{sound} run{'s' if sound != 1 else ''} with all their files")]


def _dictionaries(workspace: Workspace) -> list[Check]:
    """Whether every dictionary's description can be read and its weights are those that were put there."""
    from core.bases.shelf import check_weights, damaged, shelved

    broken = [Check("dictionary", False, sentence) for sentence in damaged(workspace)]
    sound = 0
    for one in shelved(workspace):
        try:
            check_weights(one)
            sound += 1
        except AtlasError as error:
            broken.append(Check(f"dictionary {one.info.key}", False, str(error)))
    return [*broken, Check("dictionaries", True, f"{sound} with their weights")]


def _cache(workspace: Workspace) -> Check:
    if not workspace.cache.exists():
        return Check("cache", True, "not made yet")
    try:
        from core.store.cache import Cache

        cache = Cache.open(workspace)
    except ImportError as error:
        return Check("cache", False, str(error))
    except AtlasError as error:
        # A dashboard that has it open is no fault.
        return Check("cache", "is in use" in str(error), str(error))
    cache.close()
    return Check("cache", True, f"{workspace.cache.stat().st_size / 1e6:,.0f} MB{''.join(f'; {notice}' for notice in cache.notices)}")
