"""The classifier service: which cells of the Earth an image may be from."""
