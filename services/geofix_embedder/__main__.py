"""`python -m geofix_embedder`: serve until SIGTERM."""

import geofix.one_thread  # noqa: F401  # before numpy
from geofix.server import main
from geofix_embedder.service import EmbedderService
from geofix_embedder.settings import EmbedderSettings

if __name__ == "__main__":
    main(EmbedderSettings, EmbedderService)
