"""Findings: what people wrote or judged. They live outside the cache, in `findings.sqlite`, and survive its deletion. No torch."""
