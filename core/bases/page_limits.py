"""How large the dictionaries may be that the interactive worker compares and exports for a page. No torch."""

from core.bases.info import BasisInfo

ALIKE_ABOVE = 0.9
"""A cosine above which a direction counts as found again in the other dictionary, as in `core.bases.mmcs`."""
MAX_PRODUCTS = 7e11
"""Multiplications of one pair, both ways together: about half a minute of one core. Two of 12,288 units over 2,304 numbers."""
MAX_EXPORT = 256 << 20
"""Bytes of weights that a page sends to the browser: they pass through the dashboard's memory."""


def products(one: BasisInfo, other: BasisInfo) -> float:
    """Multiplications of the cosines of all pairs of directions, both ways."""
    return 2.0 * one.units * other.units * (one.d_out or one.d_in)


def export_bytes(info: BasisInfo) -> int:
    """About the size of an export: SAELens keeps encoder and decoder apart, as 32-bit numbers."""
    return 4 * info.units * (info.d_in + (info.d_out or info.d_in))
