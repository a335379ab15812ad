"""Explain, simulate, score and revise: what Bills et al. 2023 do with a unit's records, with or without a language model."""
