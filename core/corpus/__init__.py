"""Text: sources, documents, and the slices of contexts cut from them."""
