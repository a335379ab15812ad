"""How a decomposition is named: a dictionary, its directions without the ReLU, or the neurons. No torch."""

from core.bases.info import BasisInfo
from core.units import NEURONS, check_slug

LINEAR = ":linear"
"""After a ± dictionary's name: its directions once, with signed coordinates. Plain PCA is `pca:linear`."""
_HALVED = ("pca", "ica", "random", "axes")


def split_name(name: str) -> tuple[str, bool]:
    """The basis, and whether its directions are taken without the rule. Raises AtlasError for a name that is none."""
    plain = name.removesuffix(LINEAR)
    return check_slug(plain, "basis"), plain != name


def is_halved(info: BasisInfo) -> bool:
    """Whether the second half of the units are the negatives of the first: so our baselines are made."""
    return info.family in _HALVED and info.units % 2 == 0


def titled(name: str, info: BasisInfo | None) -> str:
    """What a decomposition is called in a legend."""
    if name == NEURONS:
        return "neurons"
    plain, linear = split_name(name)
    if info is None:
        return name
    if linear:
        return f"{'PCA' if info.family == 'pca' else plain}, signed"
    alpha = info.recipe.get("alpha")
    if info.family == "pca":
        return f"± {plain}" if info.k is None else f"± {plain}, top {info.k}"
    return f"{plain} · α {alpha:g}" if isinstance(alpha, int | float) else plain
