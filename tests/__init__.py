"""The tests. `tests.models` makes the tiny language models they run on."""
