"""Sizes that bound what runs over dictionaries hold in memory, so that it can be told before they begin. No torch."""

DENSE_SHARE = 0.1
"""From this share of active units on, products of whole matrices are faster than loops over active units."""
BORDER = 2.0
"""A batch may have so many times as many units that are active, or nearly, before it is done by whole matrices after all."""
ENTRY = 24
"""Bytes of an active unit of a token, in the order of tokens and in that of units."""
LOOKED_AT = 8
"""Held-out contexts over which the loss recovered is looked at while a dictionary is trained."""
LOGITS = 1 << 25
"""Logits of one pass of a measurement: 128 MB as float32. A single context may have more, for a large vocabulary and long contexts."""
WIDENED = 1 << 22
"""Logits widened to 64 bits at once: 32 MB, and at most five times that with what is computed from them."""
CODES = 1 << 24
"""Codes of one piece of a text that is measured: 64 MB, and at most four times that with what is computed on the way."""
