"""The layers of docs/architecture.md: what the dashboard's process may not load, and which way imports go."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "numba", "datasets", "safetensors")

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "fence": {"errors"},
    "access": {"errors"},
    "units": {"errors"},
    "workspace": {"errors"},
    "vocab": {"errors", "workspace"},
    "remembered": set(),
    "corpus": {"errors", "units", "workspace", "vocab"},
    "subject": {"errors", "units", "workspace", "vocab"},
    "bases": {"errors", "units", "workspace", "vocab", "remembered", "corpus", "subject", "runs.progress", "index.request", "index.jit"},
    "index": {"errors", "units", "workspace", "vocab", "corpus", "subject", "bases", "runs.progress"},
    "store": {"errors", "units", "workspace", "vocab", "remembered", "index.bands", "index.bins", "subject.info"}
    | {"autointerp.pattern", "autointerp.scoring", "bases.directions"},
    "sqlite": {"errors"},
    "llm": {"errors", "sqlite", "workspace"},
    "autointerp": {"errors", "units", "workspace", "vocab", "store", "subject", "bases.basis", "index.jit", "index.inputs", "llm"}
    | {"runs.progress", "runs.client", "corpus.build", "corpus.spec"},
    "causal": {"errors", "units", "workspace", "vocab", "remembered", "store", "subject", "bases", "corpus.spec", "runs.progress"}
    | {"autointerp.calibration"},
    "runs": {"errors", "sqlite", "units", "workspace", "vocab"},
    "findings": {"errors", "sqlite", "units", "workspace", "vocab", "store", "index.bands", "index.bins"}
    | {"index.given", "subject.info", "subject.tokens"}
    | {"autointerp.studies", "autointerp.study_tables", "autointerp.comparison"},
    "ui": {"errors", "access", "units", "workspace", "vocab", "remembered", "store", "runs", "corpus.spec", "subject.info", "index.bins"}
    | {"index.request", "findings", "llm.endpoint", "llm.estimate", "llm.listing"}
    | {f"bases.{name}" for name in ("info", "shelf", "curves", "metric_names", "train_request", "fit_request", "measure_request")}
    | {"bases.formats.bring_request", "bases.job_request", "bases.run_titles", "bases.page_limits"}
    | {f"autointerp.{name}" for name in ("request", "cost", "studies", "scoring", "splits", "calibration", "files", "explanation")}
    | {f"autointerp.{name}" for name in ("selection", "comparison", "study_tables", "puzzles", "puzzle_request", "notation")}
    | {f"causal.{name}" for name in ("effect_request", "steer_request", "ioi_request", "ioi_sentences", "linear", "run_titles")},
}
"""Part of core -> what it may import, lazily or not. A dotted name allows one module of a part, not the part."""
WORKERS = {f"core/runs/{name}.py" for name in ("worker", "operations", "shelf_operations", "interactive", "thresholds")}
"""What runs in processes of its own: it may use the model's layers and the store."""


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The full name of every module or object that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def loaded_by(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return set(done.stdout.split())


def dashboard_modules() -> list[str]:
    """Every module of core that the pages reach at import time, found by importing them in a fresh process."""
    parts = ("core/ui", "core/store", "core/runs")
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for part in parts for path in sources(part)]
    skipped = {path.removesuffix(".py").replace("/", ".") for path in WORKERS}
    return [name.removesuffix(".__init__") for name in names if name not in skipped]


def test_nothing_the_dashboard_imports_loads_torch_transformers_or_numba() -> None:
    pages = [str(path) for path in sources("pages")] + [str(ROOT / "app.py"), str(ROOT / "dashboard.py")]
    wanted = dashboard_modules() + [name for page in pages for name in imported(Path(page)) if name.startswith("core.")]
    code = f"""
import importlib, sys
for name in {sorted(set(wanted))!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        importlib.import_module(name.rpartition(".")[0])
print(*sys.modules)
"""
    loaded = loaded_by(code)
    assert "core.ui.setup" in loaded
    assert {name for name in loaded if name.partition(".")[0] in HEAVY} == set()


def test_the_pages_run_without_loading_torch(tmp_path: Path) -> None:
    """Lazy imports count too: every page is run over a real index, and the process is asked what it has loaded."""
    code = f"""
import os, sys
from pathlib import Path
os.environ.update(NEURON_ATLAS_WORKSPACE={str(tmp_path)!r}, NEURON_ATLAS_BACKGROUND="off")
from core.workspace import Workspace
from tests.synthetic import write_synthetic_index
write_synthetic_index(Workspace.open({str(tmp_path)!r}), n_layers=2, width=8)
from streamlit.testing.v1 import AppTest
for page in ["app.py", *(f"pages/{{path.name}}" for path in sorted(Path("pages").glob("*.py")))]:
    tested = AppTest.from_file(str(Path(page).resolve()), default_timeout=60).run()
    assert not tested.exception, (page, tested.exception)
print(*sys.modules)
"""
    loaded = loaded_by(code)
    assert "core.ui.server" in loaded
    assert {name for name in loaded if name.partition(".")[0] in HEAVY} == set()


def test_streamlit_is_imported_only_by_the_user_interface() -> None:
    offenders = [
        str(path.relative_to(ROOT))
        for path in sources("core")
        if not path.is_relative_to(ROOT / "core" / "ui") and any(name.partition(".")[0] == "streamlit" for name in imported(path))
    ]
    assert offenders == []


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_imports_go_one_way(part: str) -> None:
    files = sources(f"core/{part}") or [ROOT / "core" / f"{part}.py"]
    allowed = MAY_IMPORT[part] | {part}
    offenders: list[str] = []
    for path in files:
        if not path.exists() or str(path.relative_to(ROOT)) in WORKERS:
            continue
        for name in imported(path):
            inside = name.removeprefix("core.")
            if name.startswith("core.") and not any(inside == one or inside.startswith(f"{one}.") for one in allowed):
                offenders.append(f"{path.relative_to(ROOT)} imports {name}")
    assert offenders == []


def test_pages_hold_no_sql_and_reach_the_store_only_through_core() -> None:
    for path in [*sources("pages"), ROOT / "app.py"]:
        names = {name.partition(".")[0] for name in imported(path)}
        assert not names & {"duckdb", "sqlite3", "pyarrow"}, path.name
