"""`python -m geofix_training`: what torchrun starts."""

from geofix_training.cli import main

main()
