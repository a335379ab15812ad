"""The language model under inspection. Imports nothing, so that `core.subject.info` can be read without torch."""
