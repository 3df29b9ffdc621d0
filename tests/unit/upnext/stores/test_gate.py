"""The shared and exclusive lock."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from upnext.stores.gate import Gate


def test_sharers_are_in_together() -> None:
    gate, meeting = Gate(), Barrier(4)

    def share(_: int) -> None:
        with gate.shared():
            meeting.wait(10)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(share, range(4)))


def test_who_is_alone_meets_nobody() -> None:
    gate = Gate()
    inside: list[int] = []

    def alone(number: int) -> bool:
        with gate.alone():
            inside.append(number)
            met = len(inside)
            inside.remove(number)
        return met == 1

    def share(number: int) -> bool:
        with gate.shared():
            inside.append(number)
            inside.remove(number)
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda n: (alone if n % 3 == 0 else share)(n), range(600)))
