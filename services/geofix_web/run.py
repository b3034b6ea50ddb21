"""The web service's process: settings, uvicorn, exit codes."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import uvicorn

from geofix.errors import ConfigurationError
from geofix_web.app import make_app
from geofix_web.settings import WebSettings

KEEP_ALIVE_S = 30


def main() -> None:
    """Serve until SIGTERM or SIGINT.

    Exit codes: 0 after a signal, 2 where a setting is missing or wrong, 1 where the port is taken.
    """
    try:
        settings = WebSettings.from_environment()
    except ConfigurationError as error:
        print(error.message, file=sys.stderr)
        sys.exit(2)
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(
            number, lambda *_: None
        )  # uvicorn drains, then raises the signal again: that must not end the process
    asyncio.run(_serve(settings))


async def _serve(settings: WebSettings) -> None:
    host, _, port = settings.listen.rpartition(":")
    config = uvicorn.Config(
        make_app(settings),
        host=host.strip("[]"),
        port=int(port),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )
    await uvicorn.Server(config).serve()
