"""What the tests of bundles begin from: a workspace with something of everything, and a bundle of four of its units."""

import pytest

from core.workspace import Workspace
from tests.shared_bundle import Members, exported, fill, members


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One a file: its tests may add to it."""
    workspace = Workspace.open(tmp_path_factory.mktemp("source") / "ws")
    fill(workspace)
    return workspace


@pytest.fixture(scope="module")
def good(source: Workspace) -> Members:
    """The members of a bundle that is sound."""
    return members(exported(source, source.path.parent / "good.atlas.zip"))
