"""What training finds: a planted dictionary, better than PCA and ICA do."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, FastICA
from torch import Tensor

from core.bases.mmcs import mmcs
from core.bases.passes import ActivePass
from core.bases.tied import Tied
from core.bases.topk import TopK

D, FEATURES, ACTIVE, BATCH, STEPS = 256, 512, 5, 256, 800


@pytest.fixture(scope="module")
def planted() -> tuple[Tensor, Tensor]:
    """512 unit vectors in 256 dimensions, and 40,000 sums of about five of them, weighted 0.5 to 1.5, with noise."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(FEATURES, D, generator=generator)
    rows /= rows.norm(dim=-1, keepdim=True)
    active = torch.rand(40_000, FEATURES, generator=generator) < ACTIVE / FEATURES
    codes = active * (0.5 + torch.rand(40_000, FEATURES, generator=generator))
    return rows, codes @ rows + 0.03 * torch.randn(40_000, D, generator=generator)


@pytest.fixture(scope="module")
def tied(planted: tuple[Tensor, Tensor]) -> Tensor:
    learner = Tied(D, FEATURES, 0.2, 0, ActivePass(True))
    _train(learner, planted[1], 1e-2)
    return learner.rows.unit


def _train(learner: Tied | TopK, x: Tensor, lr: float) -> None:
    generator = torch.Generator().manual_seed(0)
    last = torch.zeros(FEATURES, dtype=torch.int64)
    for step in range(STEPS):
        batch = x[torch.randint(0, len(x), (BATCH,), generator=generator)]
        dead = (last < step - 40).nonzero()[:, 0]
        found = learner.step(batch, lr * min(1.0, (STEPS - step) / (0.3 * STEPS)), dead)
        last[found.fired > 0] = step


def test_the_tied_autoencoder_recovers_a_planted_dictionary(planted: tuple[Tensor, Tensor], tied: Tensor) -> None:
    assert mmcs(planted[0], tied) >= 0.95


def test_topk_recovers_it_too(planted: tuple[Tensor, Tensor]) -> None:
    rows, x = planted
    learner = TopK(D, FEATURES, ACTIVE + 3, 64, 1 / 32, 0, ActivePass(True), x.mean(0))
    _train(learner, x, 3e-3)
    assert mmcs(rows, learner.decoder.value) >= 0.95


def test_pca_and_ica_recover_less_of_it(planted: tuple[Tensor, Tensor], tied: Tensor) -> None:
    rows, x = planted
    some = x[:10_000].numpy().astype(np.float64)
    ica = FastICA(whiten="unit-variance", max_iter=20, tol=1e-3, random_state=0)
    with pytest.warns(match="did not converge"):
        ica.fit(some)
    for directions in (PCA().fit(some).components_, ica.components_, np.asarray(ica.mixing_).T):
        one = torch.from_numpy(np.asarray(directions))
        both = torch.cat([one, -one])
        assert mmcs(rows, both) < mmcs(rows, tied) - 0.1
