"""What a serving process takes over from shared stores every other second."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event as Flag
from threading import Thread

EVERY_S = 2.0
log = logging.getLogger(__name__)


@dataclass
class Upkeep:
    """Runs each task in turn, again and again; one that fails is told of and tried again."""

    tasks: Mapping[str, Callable[[], None]]
    name: str = "upkeep"
    every_s: float = EVERY_S
    failing: dict[str, str] = field(default_factory=dict)
    """Task -> why it failed the last time."""
    _stop: Flag = field(default_factory=Flag, repr=False)
    _thread: Thread | None = field(default=None, repr=False)

    def once(self) -> None:
        for name, task in self.tasks.items():
            try:
                task()
            except Exception as error:  # a store that is away comes back, and what is known goes on
                if name not in self.failing:
                    log.warning("%s are not brought up to date: %s", name, error)
                self.failing[name] = str(error) or repr(error)
            else:
                self.failing.pop(name, None)

    def start(self) -> None:
        """Run all once, then go on in a thread."""
        self.once()
        self._thread = Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(self.every_s):
            self.once()
