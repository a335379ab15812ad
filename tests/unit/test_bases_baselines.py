"""Axes, random directions, PCA and ICA as dictionaries: exact with all units, known in closed form, and found where they were planted."""

import numpy as np
import pytest
import torch
from torch import Tensor

from core.bases.baselines import Directions, axes, ica, pca, random_directions, signed
from core.bases.dictionary import Dictionary
from core.bases.mmcs import mmcs
from core.bases.moments import Moments
from core.bases.reconstruction import Reconstruction, Spread
from core.errors import AtlasError
from core.runs.progress import Cancelled
from core.subject.info import SubjectInfo
from core.units import Site

WIDTH = 12
CARD = SubjectInfo(
    slug="tiny",
    source="folder",
    revision=None,
    architecture="llama",
    n_layers=2,
    d_model=WIDTH,
    widths={"mlp": 8, "resid": WIDTH, "attn": 8},
    vocab_size=10,
    context_limit=16,
    bos_token_id=0,
    tokenizer_hash="0",
    weights_hash="1",
    name_or_path="tiny",
)


def skewed(tokens: int = 4000, seed: int = 0) -> Tensor:
    """Correlated activations with an offset: float32 [tokens, WIDTH]."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(WIDTH, WIDTH, generator=generator)
    return torch.randn(tokens, WIDTH, generator=generator).exp() @ mix + 30


def moments(x: Tensor) -> Moments:
    made = Moments(WIDTH, np.arange(len(x)))
    for piece in x.split(333):
        made.add(piece)
    return made


def dictionary(directions: Directions, x: Tensor, k: int | None = None) -> Dictionary:
    return signed(directions, moments(x).mean, subject=CARD, site=Site("resid", 0), family="pca", name="a", k=k, recipe={"run": "test"})


def quiet(done: int, total: int) -> None:
    assert done <= total


def explained(one: Dictionary, x: Tensor) -> float:
    spread, sums = Spread(WIDTH), Reconstruction(one)
    spread.add(x)
    sums.add(x)
    return sums.metrics(spread)[0]["explained_variance"]


def each(x: Tensor) -> dict[str, Directions]:
    read = moments(x)
    found = {"axes": axes(WIDTH), "random": random_directions(WIDTH, 0), "pca": pca(read.covariance)}
    return found | {"ica": ica(read.sample, 0, 200, quiet)}


def test_all_units_together_reconstruct_exactly() -> None:
    x = skewed()
    for name, directions in each(x).items():
        one = dictionary(directions, x)
        codes, written = one.reconstruct(x)
        assert one.info.units == 2 * WIDTH, name
        assert float((written - x).abs().max() / x.abs().max()) < 1e-5, name
        assert bool((codes >= 0).all())
        assert torch.allclose(one.decoder.norm(dim=1), torch.ones(2 * WIDTH), atol=1e-5), name


def test_codes_are_the_two_signs_of_the_projection() -> None:
    x = skewed()
    one = dictionary(random_directions(WIDTH, 3), x)
    codes = one.encode(x).double()
    projected = (x.double() - x.double().mean(0)) @ torch.from_numpy(random_directions(WIDTH, 3).encode).T
    assert torch.allclose(codes[:, :WIDTH] - codes[:, WIDTH:], projected, atol=1e-3)
    assert bool((codes[:, :WIDTH] * codes[:, WIDTH:] == 0).all())


def test_the_first_components_explain_their_share_of_the_eigenvalues() -> None:
    x = skewed()
    directions = pca(moments(x).covariance)
    variances = np.array(directions.recipe["variances"])
    assert variances == pytest.approx(np.sort(np.linalg.eigvalsh(np.cov(x.double().numpy(), rowvar=False, bias=True)))[::-1], rel=1e-6)
    for kept in (1, 4, 9):
        rows = directions.encode[:kept]
        one = dictionary(Directions(rows, rows, {}), x)
        assert explained(one, x) == pytest.approx(variances[:kept].sum() / variances.sum(), abs=1e-5)


def test_pca_beats_random_directions_and_axes_when_few_units_are_kept() -> None:
    x = skewed()
    found = {name: explained(dictionary(directions, x, k=3), x) for name, directions in each(x).items()}
    assert found["pca"] > max(found["random"], found["axes"])


def test_the_top_k_control_keeps_the_k_largest_codes() -> None:
    x = skewed()
    for directions in each(x).values():
        whole, few = dictionary(directions, x).encode(x), dictionary(directions, x, k=3).encode(x)
        assert int((few != 0).sum(1).max()) <= 3
        assert torch.equal(few.amax(1), whole.amax(1))
        assert torch.allclose(few.sum(1), whole.topk(3, dim=1).values.sum(1), rtol=1e-6)
    with pytest.raises(AtlasError, match="top-k"):
        dictionary(axes(WIDTH), x, k=2 * WIDTH + 1)


def test_a_seed_fixes_the_random_directions_and_they_are_a_rotation() -> None:
    rows = random_directions(WIDTH, 5).encode
    assert np.array_equal(rows, random_directions(WIDTH, 5).encode)
    assert not np.allclose(rows, random_directions(WIDTH, 6).encode)
    assert rows @ rows.T == pytest.approx(np.eye(WIDTH), abs=1e-12)


def test_ica_finds_planted_sources_that_pca_does_not() -> None:
    generator = np.random.default_rng(0)
    sources = generator.laplace(size=(20_000, WIDTH)) ** 3
    mixing = generator.standard_normal((WIDTH, WIDTH))
    x = torch.from_numpy(sources @ mixing + 5).float()
    planted = torch.from_numpy(np.concatenate([mixing, -mixing])).float()
    read = moments(x)
    found = ica(read.sample, 0, 400, quiet)
    assert found.recipe["converged"] is True
    assert mmcs(planted, dictionary(found, x).decoder) > 0.99
    assert mmcs(planted, dictionary(pca(read.covariance), x).decoder) < 0.95
    # and a code follows its source
    codes = dictionary(found, x).encode(x).double().numpy()
    signed_codes = codes[:, :WIDTH] - codes[:, WIDTH:]
    correlations = np.abs(np.corrcoef(signed_codes.T, sources.T)[:WIDTH, WIDTH:])
    assert correlations.max(1).min() > 0.98


def test_ica_says_that_it_did_not_converge_and_may_be_stopped() -> None:
    gaussian = np.random.default_rng(0).standard_normal((500, WIDTH)).astype(np.float32)
    assert ica(gaussian, 0, 2, quiet).recipe["converged"] is False

    def stop(done: int, total: int) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        ica(gaussian, 0, 50, stop)


def test_ica_leaves_out_directions_without_variance() -> None:
    x = skewed()
    flat = x.clone()
    flat[:, 3] = 7
    found = ica(moments(flat).sample, 0, 200, quiet)
    assert len(found.encode) == WIDTH - 1
    _, written = dictionary(found, flat).reconstruct(flat)
    assert float((written - flat).abs().max()) < 1e-2


def test_what_ica_cannot_do_is_a_sentence() -> None:
    with pytest.raises(AtlasError, match="at least 24 tokens"):
        ica(np.ones((23, WIDTH), np.float32), 0, 10, quiet)
    with pytest.raises(AtlasError, match="do not vary"):
        ica(np.ones((100, WIDTH), np.float32), 0, 10, quiet)


def test_moments_do_not_depend_on_the_pieces_and_keep_what_was_asked_for() -> None:
    x = skewed(500)
    kept = np.array([0, 7, 332, 333, 499])
    read = Moments(WIDTH, kept)
    for piece in x.split(100):
        read.add(piece)
    assert np.array_equal(read.sample, x[torch.from_numpy(kept)].numpy())
    assert read.mean == pytest.approx(x.double().mean(0).numpy(), rel=1e-12)
    assert read.covariance == pytest.approx(np.cov(x.double().numpy(), rowvar=False, bias=True), rel=1e-6)
