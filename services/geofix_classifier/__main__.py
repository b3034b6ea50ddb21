"""`python -m geofix_classifier`: serve until SIGTERM."""

import geofix.one_thread  # noqa: F401  # before numpy
from geofix.server import main
from geofix_classifier.service import ClassifierService
from geofix_classifier.settings import ClassifierSettings

if __name__ == "__main__":
    main(ClassifierSettings, ClassifierService)
