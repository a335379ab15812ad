"""Puts made-up dictionaries on the shelf: real files, and metrics as measuring writes them, without a model."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from core.bases.curves import CurveWriter
from core.bases.info import BasisInfo, Family, Prepare, Rule
from core.bases.shelf import Shelved, describe, put
from core.units import Site
from core.workspace import Workspace

BINS = 32
CORPUS = {"source": "embedded", "contexts": 64, "length": 16}


def write_dictionary(
    workspace: Workspace,
    name: str,
    *,
    subject: str = "tiny",
    site: str = "mlp.1",
    family: Family = "sae",
    rule: Rule = "relu",
    alpha: float | None = 1.0,
    k: int | None = None,
    run: str = "",
    units: int = 48,
    width: int = 24,
    metrics: dict[str, Any] | None = None,
    created: float = 1.0,
) -> Shelved:
    """A tied dictionary of random directions. metrics: beside what `measured` makes of them; None for one that was not measured."""
    tensors = {
        "encoder": np.random.default_rng(len(name)).standard_normal((units, width)).astype(np.float32),
        "bias": np.zeros(units, np.float32),
    }
    weights = Path(workspace.scratch) / f"{name}.safetensors"
    save_file(tensors, weights)
    recipe: dict[str, Any] = {"corpus": CORPUS, "tokens": 1000, "seed": 3} | ({"run": run} if run else {})
    if alpha is not None:
        recipe |= {"kind": "tied", "alpha": alpha, "mse_reduction": "sum", "alpha_sum": alpha, "alpha_mean": alpha / width}
    info = BasisInfo(
        name=name, subject=subject, site=Site.parse(site), family=family, rule=rule, d_in=width, units=units, k=k, tied=True,
        prepare=Prepare("per_token", scale=2.5), recipe=recipe, created=created,
    )  # fmt: skip
    one = put(workspace, info, weights)
    return one if metrics is None else describe(one, info.with_metrics(measured(one, metrics)))


def measured(one: Shelved, given: dict[str, Any]) -> dict[str, Any]:
    """Metrics as a measuring run writes them, of which some are given."""
    units = one.info.units
    counts = [0] * BINS
    counts[-8], counts[-4] = units // 2, units - units // 2 - 3
    usual: dict[str, Any] = {
        "l0": 5.0, "l1": 9.0, "explained_variance": 0.8, "mse": 0.1, "squared_error": 2.4, "dead": 3 / units, "dense_1": 0.25,
        "dense_10": 0.0, "shrinkage": 0.9, "relative_bias": 0.95, "ce_clean": 3.0, "ce_spliced": 3.2, "ce_zero": 6.0, "ce_mean": 5.0,
        "loss_recovered": 0.93, "loss_recovered_mean": 0.9, "ce_difference": 0.2, "kl": 0.15,
        "density": {"edges": [-8 + 0.25 * i for i in range(BINS + 1)], "counts": counts, "dead": 3},
        "encoder_decoder_cosine": {"mean": 1.0}, "tokens": 900, "contexts": 60, "output_tokens": 400, "output_contexts": 30,
        "excluded": "", "undefined": {}, "text": {"corpus": CORPUS, "slice": "abc", "part": "held out"}, "weights": one.hash,
    }  # fmt: skip
    return usual | given


def write_curves(folder: Path, names: dict[str, float | None], points: int = 20) -> None:
    """The curves of a training run: explained variance rises, L0 falls."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = CurveWriter(folder)
    for point in range(1, points + 1):
        writer.add(
            {
                "name": name, "alpha": alpha, "tokens": 1000 * point, "step": point, "loss": 40 / point, "mse": 1 / point, "l1": 9.0,
                "l0": 100 / point + 5, "explained_variance": 1 - 1 / (point + 1), "dead": 0.01 * point, "rate": 1e-3,
                "loss_recovered": 0.5 if point % 10 == 0 else None,
            }
            for name, alpha in names.items()
        )  # fmt: skip
