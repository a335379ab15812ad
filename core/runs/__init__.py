"""Runs: pieces of work with parameters, progress, a result and their provenance, and the processes that do them."""
