"""What dictionaries are held against: the axes, random directions, PCA and ICA, each as ± directions with a ReLU.

For directions vⱼ and the mean μ of the activations, units j and n + j have the codes ReLU(±wⱼ·(x − μ)), and x̂ = μ + Σⱼ (cⱼ − cₙ₊ⱼ) aⱼ:

* axes      w = a = the axes
* random    w = a = the rows of a random rotation, so that each direction is uniform on the sphere and all together span the space
* pca       w = a = the eigenvectors of the covariance, by falling variance                                    (Pearson 1901)
* ica       w = rows of the unmixing matrix, a = columns of its inverse, the mixing matrix; FastICA, parallel, logcosh (Hyvärinen 1999)

Every aⱼ has norm 1, so a code is the size of what its unit contributes. With all units the reconstruction is exact up to rounding; with the
rule `topk` only the k largest codes of a token are kept (the controls of Cunningham et al. 2023, appendix G).
"""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from core.bases.dictionary import Dictionary
from core.bases.fit_request import Baseline
from core.bases.info import BasisInfo
from core.bases.moments import Doubles, Moments
from core.errors import AtlasError
from core.subject.info import SubjectInfo
from core.units import Site

ICA_NUMBERS = 1 << 26
"""Numbers that ICA may be given: FastICA holds several float64 copies of them, some 3 GB in all."""
_RANK = 1e-10
"""Directions with less than this share of the largest variance are taken to be none."""
_TOLERANCE = 1e-4
UNITS = "unit j is direction j, unit n + j its negative, for n directions"


@dataclass(frozen=True)
class Directions:
    """encode: rows wⱼ [n, d]. decode: rows aⱼ [n, d], of norm 1; the same array when they are equal. recipe: what to show of how."""

    encode: Doubles
    decode: Doubles
    recipe: Mapping[str, Any]


def axes(width: int) -> Directions:
    """The coordinates themselves."""
    rows = np.eye(width)
    return Directions(rows, rows, {"method": "the axes"})


def random_directions(width: int, seed: int) -> Directions:
    """The rows of a rotation drawn uniformly (QR of a Gaussian matrix, signs put right: Mezzadri 2007)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))
    rows = np.ascontiguousarray((q * np.sign(np.diag(r))).T)
    return Directions(rows, rows, {"method": "a random rotation", "seed": seed})


def pca(covariance: Doubles) -> Directions:
    """The eigenvectors of a covariance [d, d], by falling variance; the sign of each makes its largest coordinate positive."""
    variances, vectors = np.linalg.eigh(covariance)
    rows = np.ascontiguousarray(vectors.T[::-1])
    rows *= np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(1)])[:, None]
    return Directions(rows, rows, {"method": "eigenvectors of the covariance", "variances": np.maximum(variances[::-1], 0).tolist()})


def ica(
    sample: npt.NDArray[np.float32], seed: int, iterations: int, on_iteration: Callable[[int, int], None], tolerance: float = _TOLERANCE
) -> Directions:
    """Independent components of a sample [tokens, d], after whitening, in float64.

    on_iteration gets the iterations done and allowed, and may raise to stop. Raises AtlasError when there are too few tokens.
    """
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    tokens, width = sample.shape
    if tokens < 2 * width:
        raise AtlasError(f"ICA over {width:,} numbers needs at least {2 * width:,} tokens, and there are {tokens:,}: choose more text.")
    x = sample.astype(np.float64)
    spread = np.linalg.eigvalsh(np.cov(x, rowvar=False, bias=True).reshape(width, width))
    rank = int((spread > _RANK * spread[-1]).sum())
    if not spread[-1] > 0:
        raise AtlasError("The activations do not vary on this text, so they have no independent components: choose another site or text.")
    done = 0

    def log_cosh(y: Doubles) -> tuple[Doubles, Doubles]:
        nonlocal done
        on_iteration(done, iterations)
        done += 1
        y = np.tanh(y)
        return y, 1 - np.square(y).mean(-1)

    make: Any = FastICA  # its types say that `fun` is a name; it may be a function too
    fitted = make(
        n_components=rank, whiten="unit-variance", whiten_solver="eigh", fun=log_cosh, max_iter=iterations, tol=tolerance, random_state=seed
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fitted.fit(x)
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in told)
    mixing: Doubles = fitted.mixing_.T
    sizes = np.linalg.norm(mixing, axis=1, keepdims=True)
    recipe = {
        "method": "FastICA, parallel, logcosh, whitened to unit variance",
        "seed": seed,
        "ica_tokens": tokens,
        "components": rank,
        "iterations": int(fitted.n_iter_),
        "max_iterations": iterations,
        "tolerance": tolerance,
        "converged": converged,
    }
    return Directions(fitted.components_ * sizes, mixing / sizes, recipe)


def signed(
    directions: Directions,
    mean: Doubles,
    *,
    subject: SubjectInfo,
    site: Site,
    family: Baseline,
    name: str,
    k: int | None,
    recipe: Mapping[str, Any],
    head: int | None = None,
) -> Dictionary:
    """A dictionary of the directions and their negatives. mean: μ [d]. k: keep so many codes a token, None for all.

    head: whose part of the site it reads, None for the whole of it. Raises AtlasError.
    """
    tied = directions.encode is directions.decode
    info = BasisInfo(
        name=name,
        subject=subject.slug,
        site=site,
        family=family,
        rule="relu" if k is None else "topk",
        d_in=directions.encode.shape[1],
        units=2 * len(directions.encode),
        weights_hash=subject.weights_hash,
        head=head,
        k=k,
        tied=tied,
        subtract_decoder_bias=True,
        recipe={**directions.recipe, "units": UNITS, **recipe},
        created=time.time(),
    )
    # The encoder reads x − μ: its bias −w·μ is taken off before the product, where it costs no digits.
    tensors = {"encoder": _both(directions.encode), "bias": torch.zeros(info.units), "decoder_bias": torch.from_numpy(mean).float()}
    if not tied:
        tensors["decoder"] = _both(directions.decode)
    return Dictionary(info, tensors)


def fit(family: Baseline, moments: Moments, *, seed: int, iterations: int, on_iteration: Callable[[int, int], None]) -> Directions:
    """The directions of one family from what was read of a site. Raises AtlasError."""
    width = len(moments.mean)
    if family == "axes":
        return axes(width)
    if family == "random":
        return random_directions(width, seed)
    return pca(moments.covariance) if family == "pca" else ica(moments.sample, seed, iterations, on_iteration)


def _both(rows: Doubles) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([rows, -rows])).float()
