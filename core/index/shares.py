"""One worker of an index run with several: `python -m core.index.shares WORKSPACE RUN SHARE PARENT` reads its share into parts."""

import json
import os
import sys

import torch

from core.errors import AtlasError
from core.index.indexer import prepare
from core.index.parts import Part, divide, newest_parts
from core.workspace import Workspace


class _Quiet:
    """A worker's progress: its log is its standard output, which is the run's log."""

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        """The run counts finished parts; a worker has nothing to add."""

    def stage(self, name: str) -> None:
        self.log(name)

    def log(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Read one share to its end; stop when the run's own process is gone."""
    workspace = Workspace.open(arguments[0])
    run_dir = workspace.runs / arguments[1]
    number, parent = int(arguments[2]), int(arguments[3])

    def check(_: int) -> None:
        if os.getppid() != parent:
            raise AtlasError("The run's process is gone, so its worker stops; resume goes on from the finished parts.")

    def keep(_: Part) -> None:
        """Parts are published by the run's process, which merges them."""

    try:
        params = json.loads((run_dir / "params.json").read_text("utf8"))["params"]
        job = prepare(workspace, run_dir, params, _Quiet())
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // job.request.workers))
        share = divide(job.blocks, job.request.workers)[number]
        job.reader(job.inputs()).read(share, newest_parts(run_dir).get(number), job.request.publish_seconds, check, keep)
    except AtlasError as error:
        sys.stdout.write(f"worker {number}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
