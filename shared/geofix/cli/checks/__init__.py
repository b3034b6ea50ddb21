"""The checks of `geofix doctor`: each looks at one thing and finds it good, worth a note, or wrong with its remedy."""

from geofix.cli.checks.finding import Finding, Place, State
from geofix.cli.checks.machine import machine
from geofix.cli.checks.parts import parts
from geofix.cli.checks.served import served
from geofix.cli.checks.stores import stores

__all__ = ["Finding", "Place", "State", "machine", "parts", "served", "stores"]
