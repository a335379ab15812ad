"""The batch lane: at most one worker process a workspace, started when a run waits, gone when none does. No torch."""

from core.errors import AtlasError
from core.runs import processes
from core.runs.locks import batch_lock
from core.runs.registry import Lane, Registry, Runs
from core.workspace import Workspace

WORKER = "core.runs.worker"


def ensure_batch_worker(workspace: Workspace, *, module: str = WORKER) -> bool:
    """Start the batch worker if a run is queued and no worker is there. Returns whether one was started.

    Call it after `Registry.submit`. The order matters: the worker lets go of the lock before it looks at the queue a last
    time, so a run queued while a worker is leaving is either seen by it or finds the lock free here.
    """
    if not Registry(workspace).waiting("batch") or batch_lock(workspace).held_elsewhere():
        return False
    try:
        processes.spawn(["-m", module, "--workspace", str(workspace.path)], workspace.scratch / "batch.log")
    except OSError as error:
        raise AtlasError(f"The worker process could not be started: {error.strerror or error}.") from None
    return True


def resume_interrupted(workspace: Workspace, *, module: str = WORKER) -> Runs:
    """For the dashboard's start: queue what lost its worker, and start the worker if anything is queued."""
    lane: Lane = "batch"
    queued = Registry(workspace).requeue_interrupted(lane)
    ensure_batch_worker(workspace, module=module)
    return queued
