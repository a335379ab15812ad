"""Sums of powers to about 106 bits: moments that do not depend on the order of adding, and survive a mean far from zero.

A sum is a double-double: two float64 whose exact sum is meant, the high part in column k, the low part in column k + 4.
"""

from typing import Any

import numpy as np

from core.index.jit import njit


@njit()
def add_exactly(sums: Any, unit: int, at: int, value: float) -> None:
    """Add to a double-double (Knuth's two-sum): at and at + 4 carry about 106 bits together, so that the order of adding does not show."""
    high = sums[unit, at]
    total = high + value
    back = total - high
    sums[unit, at] = total
    sums[unit, at + 4] += (high - (total - back)) + (value - back)


@njit(inline="always")
def ten_bits(value: Any) -> Any:
    """The number cut to ten significant bits."""
    return np.float64(np.int32(np.float32(value).view(np.int32) & np.int32(-0x4000)).view(np.float32))


@njit(inline="always")
def choose_pivot(low: Any, high: Any) -> Any:
    """Zero, unless the row lies far from zero for its spread: then a number near it with ten significant bits.

    Raw fourth powers of such a row would leave nothing of its spread in float64. Ten bits make the pivot's own powers, times a row's
    length, exact.
    """
    if low * high <= 0 or high - low > np.float32(0.125) * max(abs(low), abs(high)):
        return 0.0
    return ten_bits(high)


@njit()
def add_moved(sums: Any, unit: int, n: float, p: float, one: float, two: float, three: float) -> None:
    """Complete a unit's power sums about zero, by the binomial theorem, where those of n values about the pivot p were added."""
    add_exactly(sums, unit, 0, n * p)
    add_exactly(sums, unit, 1, 2 * p * one)
    add_exactly(sums, unit, 1, n * p * p)
    add_exactly(sums, unit, 2, 3 * p * two)
    add_exactly(sums, unit, 2, 3 * p * p * one)
    add_exactly(sums, unit, 2, n * p * p * p)
    add_exactly(sums, unit, 3, 4 * p * three)
    add_exactly(sums, unit, 3, 6 * p * p * two)
    add_exactly(sums, unit, 3, 4 * p * p * p * one)
    add_exactly(sums, unit, 3, n * p * p * p * p)


@njit(nogil=True, cache=True)
def merge_sums(sums: Any, other: Any) -> None:
    """Add the exact sums of another sketch."""
    for unit in range(sums.shape[0]):
        for at in range(4):
            add_exactly(sums, unit, at, other[unit, at])
            sums[unit, at + 4] += other[unit, at + 4]


@njit()
def add_product(sums: Any, unit: int, at: int, a: float, b: float) -> None:
    """Add a·b to a double-double without rounding the product (Dekker 1971)."""
    whole = a * b
    wide = 134217729.0 * a
    a_high = wide - (wide - a)
    a_low = a - a_high
    wide = 134217729.0 * b
    b_high = wide - (wide - b)
    b_low = b - b_high
    add_exactly(sums, unit, at, whole)
    add_exactly(sums, unit, at, ((a_high * b_high - whole) + a_high * b_low + a_low * b_high) + a_low * b_low)


@njit(nogil=True, cache=True)
def centre(sums: Any, tokens: float, pivots: Any, centred: Any) -> None:
    """Move power sums about zero to about a pivot near the mean, before anything is rounded to float64: [units, 8] -> [units, 8]."""
    binomial = (
        (1.0, 0.0, 0.0, 0.0, 0.0),
        (1.0, 1.0, 0.0, 0.0, 0.0),
        (1.0, 2.0, 1.0, 0.0, 0.0),
        (1.0, 3.0, 3.0, 1.0, 0.0),
        (1.0, 4.0, 6.0, 4.0, 1.0),
    )
    for unit in range(sums.shape[0]):
        p = ten_bits(sums[unit, 0] / tokens)
        pivots[unit] = p
        for power in range(1, 5):
            factor = 1.0
            for k in range(power, -1, -1):
                # Σ (x − p)ᵐ = Σₖ C(m, k) (−p)ᵐ⁻ᵏ Sₖ, with S₀ the number of tokens.
                weight = binomial[power][k] * factor
                if k == 0:
                    add_product(centred, unit, power - 1, weight, tokens)
                else:
                    add_product(centred, unit, power - 1, weight, sums[unit, k - 1])
                    add_product(centred, unit, power - 1, weight, sums[unit, k + 3])
                factor *= -p
