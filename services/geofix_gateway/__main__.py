"""`python -m geofix_gateway`: serve until SIGTERM."""

import geofix.one_thread  # noqa: F401  # before numpy
from geofix.server import main
from geofix_gateway.service import GatewayService
from geofix_gateway.settings import GatewaySettings

if __name__ == "__main__":
    main(GatewaySettings, GatewayService)
