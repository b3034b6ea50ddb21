"""The load driver: what it counts, when it starts calls, and that it loads nothing but this machine."""

from __future__ import annotations

import asyncio

import pytest

from driver import NOT_SENT, OK, Outcome, Report, WrongAnswer, closed_loop, loopback, open_loop
from pairs import median_interval
from proxy import Proxy


@pytest.mark.parametrize(
    "address", ["127.0.0.1:50051", "127.8.9.1:1", "localhost:80", "[::1]:443", "dns:///localhost:1"]
)
def test_loopback_addresses_are_taken(address: str) -> None:
    assert loopback(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1:50051",
        "example.org:80",
        "0.0.0.0:80",
        "[2001:db8::1]:80",
        "dns:///geofix:1",
        "127.0.0.1",
        "",
        "127.0.0.1.evil.org:1",
    ],
)
def test_any_other_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        loopback(address)


async def test_a_closed_loop_keeps_its_clients_busy_and_counts_every_outcome() -> None:
    inside = most = 0

    async def call(number: int) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        if number == 3:
            raise WrongAnswer("it was Paris")
        if number == 4:
            raise KeyError

    report = await closed_loop(call, 3, 60, calls=30)
    assert most == 3
    assert report.codes == {OK: 28, "WRONG it was Paris": 1, "KeyError": 1}
    assert any("1 WRONG it was Paris" in line for line in report.lines())


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
async def test_an_open_loop_starts_calls_whatever_becomes_of_the_others(arrivals: str) -> None:
    gate = asyncio.Event()
    started: list[int] = []

    async def call(number: int) -> None:
        started.append(number)
        await gate.wait()

    load = asyncio.create_task(open_loop(call, 1000, 0.2, arrivals=arrivals, in_flight=50))  # type: ignore[arg-type]
    while len(started) < 50:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    for _ in range(400):  # where the machine stood still meanwhile, those that were due by now come first
        await asyncio.sleep(0)
    gate.set()
    report = await load
    assert started == list(range(50))
    assert report.codes[OK] == 50
    assert 100 <= report.codes[NOT_SENT] <= 200
    assert report.percentile_ms(1) >= 200  # counted from the planned start


def test_the_figures_of_a_report() -> None:
    report = Report(
        [Outcome(0, ms / 1000, OK) for ms in range(1, 101)] + [Outcome(0, 9.0, "UNAVAILABLE x")], seconds=10
    )
    assert report.percentile_ms(50) == pytest.approx(51)
    assert report.percentile_ms(99) == pytest.approx(100)
    assert report.rate == 10
    assert report.goodput(0.05) == 5


def test_the_interval_of_a_median_is_that_of_the_tables() -> None:
    # Conover, table A3: for n = 9 the 2nd to the 8th of the ordered values, for n = 20 the 6th to the 15th.
    assert median_interval([9, 1, 8, 2, 7, 3, 6, 4, 5]) == (5, 2, 8)
    assert median_interval(range(1, 21)) == (10.5, 6, 15)
    assert median_interval([1, 2, 3]) == (2, 1, 3)


async def test_a_proxy_forwards_holds_and_resets() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as proxy:
        host, port = proxy.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.hold()
        writer.write(b"two")
        waiting = asyncio.create_task(reader.readexactly(3))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        proxy.release()
        assert await waiting == b"two"
        assert proxy.reset() == 2
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
