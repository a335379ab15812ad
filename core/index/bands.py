"""The bands of a unit's records. Imported by the index, which fills them, and by the store, which reads them; no numba."""

BANDS: tuple[tuple[str, int], ...] = (("top", 20), ("bottom", 20), ("q0", 8), ("q1", 8), ("q2", 8), ("q3", 8), ("random", 20))
"""Name and size of each list of records, in storage order."""

QUANTILES = {"q0": (0.0, 0.5), "q1": (0.5, 0.9), "q2": (0.9, 0.99), "q3": (0.99, 0.999)}
"""The quantiles of the records' maxima that each sampled band covers."""
