"""`python -m geofix_gateway`: serve until SIGTERM."""

from geofix.server import main
from geofix_gateway.service import GatewayService
from geofix_gateway.settings import GatewaySettings

if __name__ == "__main__":
    main(GatewaySettings, GatewayService)
