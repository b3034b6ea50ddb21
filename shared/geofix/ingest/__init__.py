"""From a user's own images to the rows of a gallery version: read, checked, embedded, written."""
