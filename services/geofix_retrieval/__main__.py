"""`python -m geofix_retrieval`: serve until SIGTERM."""

import geofix.one_thread  # noqa: F401  # before numpy
from geofix.server import main
from geofix_retrieval.service import RetrievalService
from geofix_retrieval.settings import RetrievalSettings

if __name__ == "__main__":
    main(RetrievalSettings, RetrievalService)
