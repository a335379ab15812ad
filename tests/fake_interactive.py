"""An interactive worker whose operations need no model: `python -m tests.fake_interactive --workspace FOLDER [--idle SECONDS]`."""

import argparse
import os
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from core.errors import AtlasError
from core.runs.interactive import IDLE_SECONDS, Say, run
from core.workspace import Workspace

MODULE = "tests.fake_interactive"


def operations(workspace: Workspace, op: str, args: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """echo, mark, sleep, refuse, break, die."""
    if op == "echo":
        return {"echo": dict(args), "nan": float("nan"), "inf": [1.0, float("inf")]}
    if op == "mark":
        time.sleep(3)
        (workspace.scratch / "marked").touch()
        return {}
    if op == "sleep":
        say("sleeping")
        time.sleep(args["seconds"])
        return {"from": args.get("name"), "at": time.time()}
    if op == "refuse":
        raise AtlasError("The text is empty: write something.")
    if op == "break":
        raise ZeroDivisionError("oh\nno")
    if op == "die":
        os._exit(9)
    raise AssertionError(op)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--idle", type=float, default=IDLE_SECONDS)
    arguments = parser.parse_args()
    place = Workspace.open(arguments.workspace)
    run(place, partial(operations, place), arguments.idle)
