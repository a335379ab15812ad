"""The one-pass indexer: sketches of every unit of the chosen sites."""
