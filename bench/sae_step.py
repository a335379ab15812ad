"""A step of training a dictionary, ours against published packages, alternating: `python -m bench.sae_step [--json]`.

d = 576, 4,608 units, batches of 2,048 real activations (SmolLM2, resid.9), one thread each. Every maker is a process of its own and takes
its steps in turn; ratios (ours over the other) are of CPU time within a round, medians over rounds. A package is used from the Python
that its variable names, and left out with a reason otherwise: ATLAS_SAELENS_PYTHON (sae-lens), ATLAS_DICTLEARN_PYTHON
(dictionary-learning), ATLAS_SPARSIFY_PYTHON (eai-sparsify).

Ours is measured after as many steps as make it sparse, and at its first steps too, when every second unit is active: what is skipped
depends on that. For the others it makes no difference.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from bench.machine import load, machine
from core.bases.prepare import load_job
from core.bases.train_request import TrainRequest
from core.bases.train_run import source_of
from core.corpus.spec import CorpusSpec
from core.workspace import Workspace

D, UNITS, K, BATCH = 576, 4608, 32, 2048
SITE = "resid.9"
VECTORS = 16_384
SETTLING = 250
"""Steps of 512 vectors after which ours is measured."""
_PEERS = Path(__file__).with_name("sae_peers.py")
_ROOT = _PEERS.parents[1]
PACKAGES = {"saelens": "ATLAS_SAELENS_PYTHON", "dictionary_learning": "ATLAS_DICTLEARN_PYTHON", "sparsify": "ATLAS_SPARSIFY_PYTHON"}
MAKERS = (
    "ours-tied", "ours-topk", "saelens-standard", "saelens-topk", "dictionary_learning-standard", "dictionary_learning-topk",
    "sparsify-topk",
)  # fmt: skip
RATIOS = (
    ("ours-tied", "saelens-standard"), ("ours-tied", "dictionary_learning-standard"), ("ours-topk", "sparsify-topk"),
    ("ours-topk", "saelens-topk"), ("ours-topk", "dictionary_learning-topk"),
)  # fmt: skip


class _Quiet:
    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        pass

    def stage(self, name: str) -> None:
        pass

    def log(self, line: str) -> None:
        pass


class _Maker:
    """A process that makes steps when it is told to."""

    def __init__(self, name: str, python: str, activations: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
        if name.startswith("ours"):
            environment["PYTHONPATH"] = str(_ROOT)
        self._process = subprocess.Popen(
            [python, str(_PEERS), name, str(activations), str(UNITS), str(K)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=activations.parent,
        )
        self._answer()

    def steps(self, size: int, count: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{size} {count}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """The next line of JSON; what else a package prints is passed over. Raises RuntimeError when the process has ended."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        for line in self._process.stdout:
            try:
                found = json.loads(line)
            except ValueError:
                continue
            return found if isinstance(found, dict) else {}
        raise RuntimeError(self._process.stderr.read().strip().splitlines()[-1:] or "it ended without a word")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def measure(rounds: int, steps: int, settling: int, given: Path | None) -> dict[str, Any]:
    """CPU seconds a step of every maker, and the ratios."""
    left_out: dict[str, str] = {}
    found: dict[str, Any] = {"machine": machine(), "before": load(), "d": D, "units": UNITS, "batch": BATCH, "k": K, "rounds": rounds}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "activations.npy"
        np.save(path, _activations(Path(folder), given))
        makers: dict[str, _Maker] = {}
        try:
            for name in MAKERS:
                variable = PACKAGES.get(name.partition("-")[0])
                python = sys.executable if variable is None else os.environ.get(variable, "")
                if not python:
                    left_out[name] = f"{variable} is not set"
                    continue
                try:
                    makers[name] = _Maker(name, python, path)
                except (OSError, RuntimeError) as error:
                    left_out[name] = str(error)[:300]
            first = {name: makers[name].steps(BATCH, 2)["cpu"][-1] for name in MAKERS[:2]}
            makers["ours-tied"].steps(512, settling)
            for maker in makers.values():
                maker.steps(BATCH, 1)
            cpu: dict[str, list[float]] = {name: [] for name in makers}
            wall: dict[str, list[float]] = {name: [] for name in makers}
            said: dict[str, dict[str, Any]] = {}
            names = list(makers)
            for number in range(rounds):
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    said[name] = makers[name].steps(BATCH, steps)
                    cpu[name].append(min(said[name]["cpu"]))
                    wall[name].append(min(said[name]["wall"]))
        finally:
            for maker in makers.values():
                maker.end()
    peak = _peak()
    work = 5 * 2 * BATCH * D * UNITS / 1e9
    best = {name: min(times) for name, times in cpu.items()}
    found |= {
        "left_out": left_out,
        "peak_gflops": peak,
        "cpu_seconds": {name: statistics.median(times) for name, times in cpu.items()},
        "wall_seconds": {name: statistics.median(times) for name, times in wall.items()},
        "vectors_per_second": {name: BATCH / seconds for name, seconds in best.items()},
        "first_step_cpu_seconds": first,
        "l0": {name: said[name].get("l0") for name in names},
        "screened": said["ours-tied"].get("screened"),
        # As if five whole products were computed, over what one product reaches on this machine.
        "share_of_float32_peak": {name: work / seconds / peak["float32"] for name, seconds in best.items()},
    }
    for mine, other in RATIOS:
        if other in cpu:
            name = f"{mine.partition('-')[2]}_over_{other.replace('-', '_')}"
            found[name] = statistics.median(a / b for a, b in zip(cpu[mine], cpu[other], strict=True))
    return found


def _activations(folder: Path, given: Path | None) -> np.ndarray:
    """Activations [vectors, d], scaled to a mean norm of √d."""
    if given is not None:
        rows = np.load(given, mmap_mode="r")[:VECTORS].astype(np.float32)
    else:
        request = TrainRequest(site=SITE, corpus=CorpusSpec("embedded", VECTORS // 48), dtype="bfloat16", device="cpu")
        job = load_job(Workspace.open(folder / "ws"), request, _Quiet())
        source = source_of(job, request)
        blocks = [source.read(job.train[start : start + 32]) for start in range(0, len(job.train), 32)]
        rows = torch.cat(blocks)[:VECTORS].numpy()
    return rows * (D**0.5 / np.linalg.norm(rows, axis=1).mean())


def _peak() -> dict[str, float]:
    """GFLOP/s of the product of a batch and an encoder, one thread: the best of ten."""
    torch.set_num_threads(1)
    x, rows = torch.randn(BATCH, D), torch.randn(UNITS, D)

    def speed(one: Callable[[], Any]) -> float:
        def seconds() -> float:
            begin = time.process_time()
            one()
            return time.process_time() - begin

        seconds()
        return 2 * BATCH * D * UNITS / 1e9 / min(seconds() for _ in range(10))

    low, low_rows = x.bfloat16(), rows.bfloat16()
    return {"float32": speed(lambda: x @ rows.T), "bfloat16": speed(lambda: low @ low_rows.T)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="a maker makes in a row; the faster one counts")
    parser.add_argument("--settling", type=int, default=SETTLING, help="steps before ours is measured")
    parser.add_argument("--activations", type=Path, help="a .npy file [vectors, 576] instead of reading them from the embedded model")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.rounds, options.steps, options.settling, options.activations)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return 0
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {_number(one)}" for key, one in cast(dict[str, Any], value).items())
        sys.stdout.write(f"{name}: {_number(value)}\n")
    return 0


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
