"""Neuron Atlas: what the units of a language model respond to, and what they do."""

import os

# Read by OpenMP when torch loads it. Between two matrix products its threads would otherwise keep the cores busy with waiting, while the
# indexer's own threads want them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
