"""One connection to Redis that many requests share, none of them waiting for the others' replies (pipelining).

redis-py makes the connection (URL, TLS, password, database) and speaks the protocol; what is ours is that commands are written at
once and replies handed out in their order. A connection a look-up, from a pool, costs three times the processor time.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from pathlib import Path
from typing import Any

import redis.asyncio as redis
from redis.asyncio.connection import AbstractConnection
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from geofix.errors import ConfigurationError
from geofix.watched import Watched, read_secret

PASSWORD = "GEOFIX_REDIS_PASSWORD_FILE"  # noqa: S105  # the name of a setting
TURNS = 4
"""Turns of the event loop that a call gets beyond its time-out: a reply that has come takes three to be handed out, and on a busy
loop they may take longer than the time-out itself, which is for Redis and not for us."""
CONNECT_S = 1.0
"""Time to connect, greeting included. Callers do not wait for it: to them Redis is away until it is done."""


class RedisLink:
    """Sends commands to one Redis, and connects when it must.

    Args:
        url: of Redis.
        timeout_s: that it has to answer.
        password_file: a file with its password, asked at each connection; None where the URL says all.

    Raises:
        ConfigurationError: the URL is not one of Redis, the file cannot be read, or both hold a password.
    """

    def __init__(self, url: str, timeout_s: float, password_file: Path | None = None) -> None:
        try:
            # Version 2 of the protocol knows no messages but replies.
            self._pool = redis.ConnectionPool.from_url(url, protocol=2, socket_timeout=None)
        except (ValueError, RedisError) as error:
            raise ConfigurationError(f"GEOFIX_REDIS_URL is not a Redis URL: {error}") from error
        if password_file is not None:
            kwargs = self._pool.connection_kwargs
            if kwargs.get("password"):
                raise ConfigurationError(f"GEOFIX_REDIS_URL holds a password, and {PASSWORD} another: keep one of them")
            kwargs["credential_provider"] = _PasswordOfFile(password_file, kwargs.pop("username", None))
        self._timeout_s = timeout_s
        self._session: _Session | None = None
        self._connecting: asyncio.Task[_Session] | None = None

    async def call(self, *command: str | bytes | int) -> Any:
        """The reply to a command.

        Raises:
            RedisError: Redis refuses it, talks nonsense, or ended the connection.
            OSError: it cannot be reached.
            TimeoutError: it did not reply in time. The connection is kept: a late reply is dropped.
        """
        session = self._session
        if session is None or session.ended:
            async with asyncio.timeout(self._timeout_s):
                session = await self._connected()
        return await session.call(command, self._timeout_s)

    async def reset(self) -> None:
        """Give up the connection, for it may be one that nobody answers; the next call makes a new one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """End it."""
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._connecting
        await self.reset()

    async def _connected(self) -> _Session:
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
        try:
            return await asyncio.shield(self._connecting)
        finally:
            if self._connecting is not None and self._connecting.done():
                self._connecting = None

    async def _connect(self) -> _Session:
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(CONNECT_S):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._session = _Session(connection)
        return self._session


class _PasswordOfFile(CredentialProvider):
    """The user's name, where the URL has one, and the password that the file holds now."""

    def __init__(self, path: Path, username: str | None) -> None:
        self._username = username
        self._password = Watched(PASSWORD, [path], lambda: read_secret(path, PASSWORD))

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._password.get()
        return (password,) if self._username is None else (self._username, password)


class _Session:
    """A connection, and the calls whose replies are still to come."""

    def __init__(self, connection: AbstractConnection) -> None:
        self.ended = False
        self._connection = connection
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._sending = 0
        self._reading = asyncio.create_task(self._read())

    async def call(self, command: tuple[str | bytes | int, ...], timeout_s: float) -> Any:
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(reply)
        timer = loop.call_later(timeout_s, self._expire, reply, TURNS)
        try:
            # It writes before it first waits, so commands go out in the order of `_waiting`.
            self._sending += 1
            try:
                await self._connection.send_packed_command(self._connection.pack_command(*command), check_health=False)
            finally:
                self._sending -= 1
            return await reply
        finally:
            timer.cancel()
            reply.cancel()

    def _expire(self, reply: asyncio.Future[Any], turns: int) -> None:
        if reply.done():
            return
        if turns:
            asyncio.get_running_loop().call_soon(self._expire, reply, turns - 1)
            return
        reply.set_exception(TimeoutError("no reply in time"))
        reply.exception()  # seen: the caller may still be sending
        if self._sending:
            self._reading.cancel()  # Redis takes nothing any more: who waits to send must not wait for ever

    async def close(self) -> None:
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading

    async def _read(self) -> None:
        error: Exception = RedisConnectionError("the connection was given up")
        try:
            while True:
                try:
                    reply = await self._connection.read_response(disable_decoding=True, timeout=math.inf)
                except ResponseError as refusal:
                    self._hand_out(refusal)
                else:
                    self._hand_out(reply)
        except Exception as broken:  # a server that talks nonsense can make the parser raise anything
            error = broken if isinstance(broken, (RedisError, OSError)) else RedisConnectionError(repr(broken))
        finally:
            self.ended = True
            while self._waiting:
                self._hand_out(error)
            await self._connection.disconnect(nowait=True)

    def _hand_out(self, reply: Any) -> None:
        if not self._waiting:
            raise RedisConnectionError("a reply that nobody asked for")
        future = self._waiting.popleft()
        if future.done():  # its caller has gone
            return
        if isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)
