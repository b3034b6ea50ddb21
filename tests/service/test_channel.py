"""Channels and servers as every service uses them: which replica gets a call, what is tried again, and when a connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from geofix.channel import MOST_ATTEMPTS, RETRY_TOKENS, channel_options, open_channel
from geofix.outgoing import answer_of
from geofix.platform.ports import free_ports
from geofix.server import server_options
from geofix.settings import ServiceSettings

SECONDS = 30
METHOD = "/geofix.test.Echo/Who"
Answer = Callable[[bytes, "grpc.aio.ServicerContext[Any, Any]"], Any]


@contextlib.asynccontextmanager
async def replica(address: str, answer: Answer, **settings: float) -> AsyncIterator[grpc.aio.Server]:
    """A server with the options of every geofix server, and one method."""
    options = server_options(ServiceSettings(listen=address, bundle=Path(), **settings))  # type: ignore[arg-type]
    server = grpc.aio.server(options=options)
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {"Who": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("geofix.test.Echo", handlers),))
    server.add_insecure_port(address)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(None)


def named(name: bytes) -> Answer:
    async def answer(_: bytes, __: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return name

    return answer


async def who(channel: grpc.aio.Channel, count: int) -> Counter[bytes]:
    call: Any = channel.unary_unary(METHOD)
    return Counter([await call(b"", timeout=5) for _ in range(count)])


async def until_both_are_asked(channel: grpc.aio.Channel) -> None:
    async with asyncio.timeout(SECONDS):
        while len(found := await who(channel, 10)) < 2:
            await asyncio.sleep(0.05)
    assert min(found.values()) > 0


async def test_calls_are_dealt_out_by_turns_and_a_replica_that_comes_later_gets_its_share() -> None:
    first, second = (f"127.0.0.1:{port}" for port in free_ports(2))
    async with (
        replica(first, named(b"first")),
        open_channel(f"ipv4:{first},{second}") as channel,
    ):
        assert await who(channel, 20) == {b"first": 20}  # the one that is not there is an error of no call
        async with replica(second, named(b"second")):
            await until_both_are_asked(channel)
            assert await who(channel, 40) == {b"first": 20, b"second": 20}
        assert await who(channel, 20) == {b"first": 20}


class Names(asyncio.DatagramProtocol):
    """A name server that has A records for every name."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        end = data.index(b"\0", 12) + 5
        kind = struct.unpack(">H", data[end - 4 : end - 2])[0]
        found = self.addresses if kind == 1 else []
        self.asked += kind == 1
        header = data[:2] + struct.pack(">HHHHH", 0x8580, 1, len(found), 0, 0)
        records = b"".join(struct.pack(">HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(a) for a in found)
        self._transport.sendto(header + data[12:end] + records, addr)


@pytest.mark.parametrize("age_s", [0.3, 0.0], ids=["with an age", "without"])
async def test_a_replica_that_a_name_is_given_later_gets_load_because_connections_end(age_s: float) -> None:
    """As pods behind a headless service. Without an age the name is not looked up again while its connections are well."""
    (port,) = free_ports(1)
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
    authority = "{}:{}".format(*transport.get_extra_info("sockname"))
    options = list((dict(channel_options(2**20)) | {"grpc.dns_min_time_between_resolutions_ms": 200}).items())
    names.addresses = ["127.0.0.1"]
    try:
        async with (
            replica(f"127.0.0.1:{port}", named(b"first"), max_connection_age_s=age_s),
            replica(f"127.0.0.2:{port}", named(b"second"), max_connection_age_s=age_s),
            grpc.aio.insecure_channel(f"dns://{authority}/geofix.test:{port}", options=options) as channel,
        ):
            assert await who(channel, 10) == {b"first": 10}
            names.addresses = ["127.0.0.1", "127.0.0.2"]
            if age_s:
                await until_both_are_asked(channel)
                assert names.asked > 1
            else:
                await asyncio.sleep(1)
                assert await who(channel, 20) == {b"first": 20}
    finally:
        transport.close()


async def test_connections_that_end_of_age_cost_no_call() -> None:
    (port,) = free_ports(1)
    peers = set()

    async def answer(_: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        peers.add(context.peer())
        await asyncio.sleep(0.02)
        return b""

    async with (
        replica(f"127.0.0.1:{port}", answer, max_connection_age_s=0.2),
        open_channel(f"127.0.0.1:{port}") as channel,
    ):
        ended = loop_time() + 1.5
        call: Any = channel.unary_unary(METHOD)

        async def client() -> int:
            count = 0
            while loop_time() < ended:
                await call(b"", timeout=5)
                count += 1
            return count

        assert min(await asyncio.gather(*(client() for _ in range(8)))) > 0
    assert len(peers) > 2


def loop_time() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_what_a_server_that_comes_or_goes_refuses_is_tried_again(code: grpc.StatusCode) -> None:
    (port,) = free_ports(1)
    asked = 0

    async def answer(_: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        nonlocal asked
        asked += 1
        if asked < MOST_ATTEMPTS:
            await context.abort(code, "in a moment")
        return b"here"

    async with replica(f"127.0.0.1:{port}", answer), open_channel(f"127.0.0.1:{port}") as channel:
        assert await who(channel, 1) == {b"here": 1}
        assert asked == MOST_ATTEMPTS


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED]
)
async def test_nothing_else_is_tried_again(code: grpc.StatusCode) -> None:
    (port,) = free_ports(1)
    asked = 0

    async def answer(_: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        nonlocal asked
        asked += 1
        await context.abort(code, "no")
        return b""

    async with replica(f"127.0.0.1:{port}", answer), open_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError):
            await who(channel, 1)
        assert asked == 1


async def test_retries_have_a_budget_so_that_a_service_that_is_down_is_not_asked_three_times_by_all() -> None:
    (port,) = free_ports(1)
    asked = 0

    async def answer(_: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        nonlocal asked
        asked += 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        return b""

    async with replica(f"127.0.0.1:{port}", answer), open_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(METHOD)
        calls = 2 * RETRY_TOKENS
        failed = await asyncio.gather(*(call(b"", timeout=SECONDS) for _ in range(calls)), return_exceptions=True)
        assert {error.code() for error in failed if isinstance(error, grpc.RpcError)} == {grpc.StatusCode.UNAVAILABLE}
        assert len(failed) == calls
        assert calls < asked <= calls + RETRY_TOKENS // 2


async def test_calls_whose_tasks_are_cancelled_end_at_the_server_and_leave_no_memory_behind() -> None:
    begun, ended = 0, 0

    async def wait(_: bytes, __: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        nonlocal begun, ended
        begun += 1
        try:
            await asyncio.sleep(SECONDS)
        finally:
            ended += 1
        return b""

    address = f"127.0.0.1:{free_ports(1)[0]}"
    async with replica(address, wait), open_channel(address) as channel, asyncio.timeout(3 * SECONDS):
        call: Any = channel.unary_unary(METHOD)

        async def give_up(times: int, together: int = 50) -> None:
            for _ in range(times // together):
                tasks = [asyncio.ensure_future(answer_of(call(b"", timeout=SECONDS))) for _ in range(together)]
                while begun - ended < together:
                    await asyncio.sleep(0.001)
                for task in tasks:
                    task.cancel()
                assert all(isinstance(each, asyncio.CancelledError) for each in await gathered(tasks))
                while begun != ended:
                    await asyncio.sleep(0.001)

        await give_up(500)
        before = resident_bytes()
        await give_up(4_000)
        assert begun == ended == 4_500
        assert resident_bytes() - before < 2e6  # 1 KB each where the task is cancelled in the call


async def gathered(tasks: list[asyncio.Task[bytes]]) -> list[bytes | BaseException]:
    return await asyncio.gather(*tasks, return_exceptions=True)


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_what_is_no_call_of_this_grpcio_is_cancelled_as_any_task_is() -> None:
    cancelled = asyncio.Event()

    async def answer() -> None:
        try:
            await asyncio.sleep(SECONDS)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    task = asyncio.ensure_future(answer_of(answer()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(cancelled.wait(), SECONDS)
