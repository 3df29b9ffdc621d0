"""What a step has brought over, and how far it got: a file that is replaced as a whole after each batch."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

Value = str | int


class Marks:
    """Names and values. ``<name>.partial`` holds the value that is being worked towards, and how far."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._marks: dict[str, Value | list[Value]] = json.loads(file.read_text()) if file.is_file() else {}

    def get(self, name: str) -> Value | None:
        """The value that was reached; None when none was."""
        value = self._marks.get(name)
        return None if isinstance(value, list) else value

    def partial(self, name: str) -> tuple[Value, int] | None:
        """A value that was not reached, and the rows that were done for it."""
        found = self._marks.get(f"{name}.partial")
        return (found[0], int(found[1])) if isinstance(found, list) else None

    def batches(self, name: str, value: Value, rows: int, size: int) -> Iterator[slice]:
        """Slices of ``size`` rows to bring over for a value, each marked when the next one is asked for.

        Those that an earlier run had done for the same value are left out. The rows must be the same ones,
        in the same order, whenever they are made anew.
        """
        partial = self.partial(name)
        start = partial[1] if partial is not None and partial[0] == value else 0
        self.towards(name, value, start)
        for first in range(start, rows, size):
            last = min(first + size, rows)
            yield slice(first, last)
            self.towards(name, value, last)

    def towards(self, name: str, value: Value, done: int) -> None:
        """So much is done of a value that is not reached yet."""
        self._set(f"{name}.partial", [value, done])

    def reach(self, name: str, value: Value) -> None:
        """All of a value is brought over."""
        self._marks.pop(f"{name}.partial", None)
        self._set(name, value)

    def forget(self, name: str) -> None:
        """Nothing is known of what is there."""
        self._marks.pop(f"{name}.partial", None)
        self._marks.pop(name, None)
        self._save()

    def _set(self, name: str, value: Value | list[Value]) -> None:
        self._marks[name] = value
        self._save()

    def _save(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        with fresh.open("w") as file:
            json.dump(self._marks, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file)
