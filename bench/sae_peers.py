"""One maker of training steps in a process of its own: `python sae_peers.py NAME ACTIVATIONS UNITS K`, in that package's own Python.

ACTIVATIONS is a .npy file, float32 [vectors, d]. Each line on standard input is a number of vectors for a step and a number of steps; the
answer is a line of JSON: seconds of CPU and of wall time of each step, and what is known of the sparsity. Peers train as they do by
default, in float32, by the step that their own trainers make, with all that they keep count of; nothing is logged or saved.
"""

# pyright: reportMissingImports=false
# The packages are in other environments.

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

Step = Callable[[Any], dict[str, Any]]
STEPS = 1_000_000


@dataclass
class Told:
    """A step, and what is known of it that is asked for afterwards, outside the time that it took."""

    step: Step
    say: Callable[[], dict[str, Any]]

    def __call__(self, x: Any) -> dict[str, Any]:
        return self.step(x)


def saelens(kind: str, d: int, units: int, k: int, _: Any) -> Step:
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    if kind == "topk":
        sae: Any = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=d, d_sae=units, k=k))
    else:
        sae = StandardTrainingSAE(StandardTrainingSAEConfig(d_in=d, d_sae=units, l1_coefficient=1.0))
    config = SAETrainerConfig(total_training_samples=STEPS * 2048, train_batch_size_samples=2048, lr_end=3e-5)
    trainer: Any = SAETrainer(cfg=config, sae=sae, data_provider=iter(()))

    def step(x: Any) -> dict[str, Any]:
        trainer.step(x)
        trainer.n_training_steps += 1
        return {}

    return step


def dictionary_learning(kind: str, d: int, units: int, k: int, _: Any) -> Step:
    from dictionary_learning.trainers.standard import StandardTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    common: dict[str, Any] = {"steps": STEPS, "activation_dim": d, "dict_size": units, "layer": 9, "lm_name": "model", "device": "cpu"}
    trainer: Any = TopKTrainer(k=k, **common) if kind == "topk" else StandardTrainer(**common)
    count = 0

    def step(x: Any) -> dict[str, Any]:
        nonlocal count
        trainer.update(count, x)
        count += 1
        return {}

    return step


def sparsify(_kind: str, d: int, units: int, k: int, _: Any) -> Step:
    """As `sparsify.trainer` does it for one site: SignSGD by default, decoder's norm and gradient kept in order at every step."""
    with contextlib.redirect_stdout(sys.stderr):
        from sparsify.config import SparseCoderConfig
        from sparsify.sign_sgd import SignSGD
        from sparsify.sparse_coder import SparseCoder
    coder: Any = SparseCoder(d, SparseCoderConfig(num_latents=units, k=k))
    optimiser: Any = SignSGD(coder.parameters(), lr=5e-3 / (units / 2**14) ** 0.5)
    idle = torch.zeros(units, dtype=torch.long)

    def step(x: Any) -> dict[str, Any]:
        nonlocal idle
        coder.set_decoder_norm_to_unit_norm()
        out = coder(x, dead_mask=None)
        out.fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        fired = torch.zeros(units, dtype=torch.bool)
        fired[out.latent_indices.flatten()] = True
        idle += len(x)
        idle[fired] = 0
        return {"l0": k}

    return step


class Given:
    """In place of the stream: the trainer's next batch is the one that the bench gives."""

    def __init__(self, x: Any) -> None:
        self.batch = x
        self.source = SimpleNamespace(width=x.shape[1])

    def first(self) -> Any:
        return self.batch

    def next(self) -> Any:
        return self.batch


def ours(kind: str, d: int, units: int, k: int, x: Any) -> Step:
    """By the trainer itself: preparing, the step, dead units, sums, the check for what is no number, and a point of the curves on disk.

    A run makes 200 points in all; here every tenth step makes one, as in a run of two thousand.
    """
    from core.bases.curves import CurveWriter, load_curves
    from core.bases.train_request import TrainRequest
    from core.bases.trainer import Trainer

    request = TrainRequest(
        kind="topk" if kind == "topk" else "tied", ratio=units / d, k=k, tokens=2000 * 2048, batch=2048, warmup=0, decay=0,
        dead_tokens=10_000_000, evaluations=0,
    )  # fmt: skip
    folder, given = Path(tempfile.mkdtemp(dir=Path.cwd())), Given(x)
    trainer: Any = Trainer(request, cast(Any, given), CurveWriter(folder))
    trainer.begin()

    def step(x: Any) -> dict[str, Any]:
        given.batch = x
        trainer.one_step()
        trainer.point(lambda _: ())
        return {}

    return Told(step, lambda: {"l0": next((line["l0"] for line in reversed(load_curves(folder))), None), "screened": trainer.screen})


MAKERS: dict[str, Callable[[str, int, int, int, Any], Step]] = {
    "ours": ours,
    "saelens": saelens,
    "dictionary_learning": dictionary_learning,
    "sparsify": sparsify,
}


def main() -> None:
    name, path, units, k = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    package, _, kind = name.partition("-")
    x = torch.from_numpy(np.load(path))
    step = MAKERS[package](kind, x.shape[1], units, k, x)
    batches = _batches(x)
    sys.stdout.write('"ready"\n')
    sys.stdout.flush()
    for line in sys.stdin:
        size, steps = (int(part) for part in line.split())
        cpu: list[float] = []
        wall: list[float] = []
        said: dict[str, Any] = {}
        for _ in range(steps):
            batch = batches(size)
            begin, used = time.perf_counter(), time.process_time()
            said = step(batch)
            cpu.append(time.process_time() - used)
            wall.append(time.perf_counter() - begin)
        said |= step.say() if isinstance(step, Told) else {}
        sys.stdout.write(json.dumps({"cpu": cpu, "wall": wall, **said}) + "\n")
        sys.stdout.flush()


def _batches(x: Any) -> Callable[[int], Any]:
    """Batches in a random order that is the same for everybody."""
    generator = np.random.default_rng(0)

    def orders() -> Iterator[int]:
        while True:
            yield from generator.permutation(len(x))

    stream = orders()
    return lambda size: x[torch.tensor([next(stream) for _ in range(size)])]


if __name__ == "__main__":
    main()
