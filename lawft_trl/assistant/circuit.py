"""Leaves a server alone that is down or has had enough."""

import threading
import time
from collections.abc import Callable

from lawft_trl.assistant.failures import (
    CircuitOpen,
    ModelError,
    QuotaExceeded,
    RateLimited,
    ServerFailed,
    TimedOut,
    Unreachable,
)

_DOWN_OR_EXHAUSTED = (QuotaExceeded, RateLimited, ServerFailed, TimedOut, Unreachable)
_LONGEST = 3600.0  # seconds; whatever a server's Retry-After says


class Circuit:
    """Counts failures in a row, and stops requests for a while after too many. Threads may share one.

    After the pause one failure more is enough for the next pause; one answer forgets all.

    Args:
        failures: in a row, each after the client's own retries, that open it.
        cool_down: seconds without requests.
        clock: seconds from anywhere, never going back.
    """

    def __init__(self, *, failures: int = 3, cool_down: float = 60.0, clock: Callable[[], float] = time.monotonic):
        self.failures, self.cool_down, self.clock = failures, cool_down, clock
        self._in_a_row, self._closed_at = 0, float("-inf")
        self._lock = threading.Lock()

    def check(self, alias: str) -> None:
        """Raises `CircuitOpen` during a pause."""
        with self._lock:
            wait = self._closed_at - self.clock()
        if wait > 0:
            raise CircuitOpen(alias, f"約{max(1, round(wait))}秒後にもう一度お試しください。", retry_after=wait)

    def succeeded(self) -> None:
        """The server answered."""
        with self._lock:
            self._in_a_row = 0

    def failed(self, failure: ModelError) -> None:
        """A request failed. A server's own Retry-After begins a pause at once; a server that refuses a request is not down."""
        if not isinstance(failure, _DOWN_OR_EXHAUSTED):
            self.succeeded()
            return
        with self._lock:
            self._in_a_row += 1
            pause = self.cool_down if self._in_a_row >= self.failures else 0.0
            pause = max(pause, min(failure.retry_after or 0.0, _LONGEST))
            self._closed_at = max(self._closed_at, self.clock() + pause)
