"""Dictionaries as other tools write them: readers that trust nothing, and one writer."""
