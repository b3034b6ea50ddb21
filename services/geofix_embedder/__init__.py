"""The embedder service: the residual retrieval module."""
