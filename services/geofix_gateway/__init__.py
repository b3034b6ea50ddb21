"""The gateway service: one question, one answer, three services and a cache behind it."""
