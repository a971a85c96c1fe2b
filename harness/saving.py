"""Saving the record beside the recorder's loop: a hook that comes in meanwhile does not wait for git.

Rules kept here: one at a time; what went wrong is raised in the loop's own thread, where it fails the run;
who ends waits for the one that is under way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Saver:
    """Saves in a thread of its own.

    Args:
        save: Saves what was entered; called by one thread at a time, never by the loop's.
    """

    def __init__(self, save: Callable[[], object]) -> None:
        self._save = save
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    @property
    def is_saving(self) -> bool:
        """Whether one is under way, or has ended and was not looked at yet."""
        return self._thread is not None

    def start(self) -> None:
        """Begin to save, unless that is under way."""
        if self._thread is None:
            # A daemon: a loop that dies of something unheard-of must not hang at its process's end.
            self._thread = threading.Thread(target=self._run, name="agentgov-save", daemon=True)
            self._thread.start()

    def look(self) -> None:
        """Take notice of one that has ended.

        Raises:
            Exception: What it raised.
        """
        if self._thread is not None and not self._thread.is_alive():
            self.finish()

    def finish(self) -> None:
        """Wait for the one that is under way; raises as `look`."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        try:
            self._save()
        except Exception as error:
            self._error = error
