"""What every test shares: no network, and a workspace of its own."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once
# Before anything imports torch: several tests run at a time, and threads that wait by spinning would keep the others from the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from core.workspace import Workspace

# A busy machine is slow, not wrong: no property is judged by the time it takes.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace in a temporary folder."""
    return Workspace.open(tmp_path / "ws")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests go last: Playwright keeps an event loop running in this thread, in which `asyncio.run` refuses to start another.

    While the first of them makes the workspace that most wait for, another process has one that does without.
    """
    first = ("test_ablate_steer.py", "test_hostile.py")
    items.sort(key=lambda item: ("browser" in item.path.parts, item.path.name not in first))
