"""The circuit breaker, with a clock of its own."""

from __future__ import annotations

from geofix_gateway.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: Clock, chance: float = 0.0) -> Breaker:
    return Breaker(3, 1.0, 5.0, clock, lambda: chance)


def opened(clock: Clock, chance: float = 0.0) -> Breaker:
    made = breaker(clock, chance)
    for _ in range(3):
        assert made.allows()
        made.failed()
    return made


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    made = breaker(Clock())
    for _ in range(5):
        made.failed()
        made.failed()
        assert made.allows()
        made.succeeded()
    for _ in range(3):
        assert not made.is_open
        made.failed()
    assert made.is_open
    assert not made.allows()


def test_one_call_a_pause_probes_and_a_success_closes() -> None:
    clock = Clock()
    made = opened(clock)
    clock.now += 0.99
    assert not made.allows()
    clock.now += 0.02
    assert [made.allows() for _ in range(3)] == [True, False, False]
    made.succeeded()
    assert not made.is_open
    assert [made.allows() for _ in range(3)] == [True, True, True]


def test_each_failed_probe_doubles_the_pause_up_to_the_longest() -> None:
    clock = Clock()
    made = opened(clock)
    for pause in (1.0, 2.0, 4.0, 5.0, 5.0):
        clock.now += pause - 0.01
        assert not made.allows()
        clock.now += 0.02
        assert made.allows()
        made.failed()
        assert made.is_open
    made.succeeded()
    for _ in range(3):
        made.failed()
    clock.now += 1.01
    assert made.allows()  # the first pause again


def test_a_probe_that_never_reports_back_is_followed_by_the_next() -> None:
    clock = Clock()
    made = opened(clock)
    for _ in range(3):
        clock.now += 1.01
        assert made.allows()
        assert not made.allows()


def test_pauses_differ_by_up_to_a_fifth() -> None:
    clock = Clock()
    made = opened(clock, chance=1.0)
    clock.now += 0.79
    assert not made.allows()
    clock.now += 0.02
    assert made.allows()


def test_calls_that_fail_together_are_one_failure() -> None:
    clock = Clock()
    made = breaker(clock)
    for _ in range(2):
        begun = clock.now
        clock.now += 1
        for _ in range(16):
            made.failed(begun)
        assert not made.is_open
        clock.now += 1
    made.failed(clock.now)
    assert made.is_open
