"""Search over explanations, what people wrote and top tokens: words, documents, ranking, the index on disk, questions."""
