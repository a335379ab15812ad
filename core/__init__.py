"""Neuron Atlas: what the units of a language model respond to, and what they do."""

__version__ = "0.1.0"
