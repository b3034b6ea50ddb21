"""The retrieval service: the gallery images most similar to an embedding, inside cells."""
