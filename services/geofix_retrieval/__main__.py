"""`python -m geofix_retrieval`: serve until SIGTERM."""

from geofix.server import main
from geofix_retrieval.service import RetrievalService
from geofix_retrieval.settings import RetrievalSettings

if __name__ == "__main__":
    main(RetrievalSettings, RetrievalService)
