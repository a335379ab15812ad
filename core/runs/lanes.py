"""The lanes: at most one worker process each a workspace, started when a run waits, gone when none does. No torch.

Long runs go in the batch lane, one after another. What a person waits for on a page goes in the interactive lane, beside them. What
needs little more than a loaded model goes in the model lane, whose worker is the warm model process: it starts at once.
"""

from core.errors import AtlasError
from core.runs import client, processes
from core.runs.locks import lane_lock
from core.runs.registry import LANES, Lane, Registry, Runs
from core.workspace import Workspace

WORKER = "core.runs.worker"


def ensure_workers(workspace: Workspace, *, module: str = WORKER) -> bool:
    """Start a worker for each lane in which a run is queued and no worker is there. Returns whether one was started.

    Call it after `Registry.submit`. The order matters: a worker lets go of the lock before it looks at the queue a last
    time, so a run queued while a worker is leaving is either seen by it or finds the lock free here. Raises AtlasError.
    """
    workspace.check_writable()
    started = [_ensure(workspace, lane, module) for lane in LANES]
    return any(started)


def resume_interrupted(workspace: Workspace, *, module: str = WORKER) -> Runs:
    """For the dashboard's start: queue what lost its worker, and start the workers if anything is queued."""
    registry = Registry(workspace)
    queued = [run for lane in LANES for run in registry.requeue_interrupted(lane)]
    ensure_workers(workspace, module=module)
    return queued


def log_name(lane: Lane) -> str:
    """The file in scratch/ with what a lane's worker wrote to standard error."""
    return f"{lane}-lane.log"


def _ensure(workspace: Workspace, lane: Lane, module: str) -> bool:
    if not Registry(workspace).waiting(lane) or lane_lock(workspace, lane).held_elsewhere():
        return False
    if lane == "model":
        return client.begin(workspace, "work")
    try:
        processes.spawn(["-m", module, "--workspace", str(workspace.path), "--lane", lane], workspace.scratch / log_name(lane))
    except OSError as error:
        raise AtlasError(f"The worker process could not be started: {error.strerror or error}.") from None
    return True
