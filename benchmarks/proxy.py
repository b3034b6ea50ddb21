"""A TCP proxy on the loopback interface that can be slow, silent, or reset its connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Self

from driver import loopback

_CHUNK = 64 * 1024


class Proxy:
    """Forwards connections to `target` (host:port). For `async with`; `address` is where it listens.

    Attributes:
        delay_s: what every piece of data waits, each way.
    """

    def __init__(self, target: str) -> None:
        self._host, _, port = loopback(target).rpartition(":")
        self._port = int(port)
        self.address = ""
        self.delay_s = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def hold(self) -> None:
        """Forward nothing, until `release`; connections stay open."""
        self._flowing.clear()

    def release(self) -> None:
        """Forward again."""
        self._flowing.set()

    def reset(self) -> int:
        """Reset every connection (RST, not FIN), on both sides; how many ends that were."""
        count = len(self._writers)
        for writer in list(self._writers):
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return count

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.release()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, downstream = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()  # the target is down: so is the proxy
            return
        pair = {writer, downstream}
        self._writers |= pair
        for source, sink in ((reader, downstream), (upstream, writer)):
            task = asyncio.create_task(self._forward(source, sink, pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, pair: set[asyncio.StreamWriter]
    ) -> None:
        try:
            while data := await source.read(_CHUNK):
                await self._flowing.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            for writer in pair:
                writer.close()
            self._writers -= pair
