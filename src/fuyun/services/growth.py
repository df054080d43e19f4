"""How a pool gets its instances: when a request finds no free slot, and when the autoscaler wants more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from fuyun.base import clock
from fuyun.decide import quotas, scaling
from fuyun.domain.errors import FuyunError, Throttled, Unavailable
from fuyun.ports.instances import Instance
from fuyun.services.members import Surroundings

if TYPE_CHECKING:
    from fuyun.services.pools import Pool

_log = structlog.get_logger("fuyun.pools")

#: After a failed start: seconds until the next one for requests that wait, when it may help and when it hardly will.
_RETRY_S, _STUBBORN_S = 0.1, 1.0
#: Longest pause between two tries to keep `min_instances` of a version that does not start.
_PATIENCE_S = 60.0


class Growth:
    """Starts instances of one pool, within its limits and its namespace's."""

    def __init__(self, pool: Pool, around: Surroundings) -> None:
        self._pool = pool
        self._around = around
        self.starting = 0
        self.start_ms = 0.0  # a moving mean
        self.failed: FuyunError | None = None  # why the last start failed
        self._failures = 0  # in a row
        self._retry_s = 0.0
        self._provide_s = 0.0

    def room(self) -> int:
        """How many more may start now."""
        pool = self._pool
        spec, tenant = pool.version.spec, pool.tenant
        most = spec.max_instances - len(pool.members) - self.starting
        return quotas.room(tenant.quotas, tenant.instances, tenant.memory_bytes, spec.memory_bytes, most)

    def burst(self) -> None:
        """Requests wait: start what they are worth."""
        if clock.mono_s() < self._retry_s:
            return
        pool = self._pool
        total = len(pool.members) + self.starting
        run_ms = scaling.believed_run_ms(pool.run_ms, pool.stalled_ms(), self.start_ms)
        concurrency = pool.version.spec.concurrency
        self._start(
            scaling.burst_starts(
                len(pool.queue), self.starting, total, self.room(), concurrency, self.start_ms, run_ms
            )
        )  # fmt: skip

    def provide(self, count: int, now_s: float) -> None:
        """The autoscaler wants `count` more; what fails again and again is tried ever more seldom."""
        if now_s >= max(self._retry_s, self._provide_s):
            self._start(min(count, self.room()))

    def _start(self, count: int) -> None:
        pool = self._pool
        for _ in range(count):
            self.starting += 1
            pool.tenant.instances += 1
            pool.tenant.memory_bytes += pool.version.spec.memory_bytes
            self._around.scope.start(self._bring_up(), f"start {pool.version.key}")

    def uncount(self) -> None:
        """An instance is gone, or did not come to be."""
        self._pool.tenant.instances -= 1
        self._pool.tenant.memory_bytes -= self._pool.version.spec.memory_bytes

    async def _bring_up(self) -> None:
        pool, around = self._pool, self._around
        try:
            instance = await around.host.start(pool.version, await around.environment(pool.version), pool.on_gone)
        except BaseException as error:
            self.starting -= 1
            self.uncount()
            self._note_failure(error)
            if not isinstance(error, FuyunError):
                raise
        else:
            self.starting -= 1
            self._note_success(instance)
            pool.join(instance)
        finally:
            around.wake()

    def _note_success(self, instance: Instance) -> None:
        report = instance.report
        took_ms = report.place_ms + report.start_ms + report.init_ms
        self.start_ms += (took_ms - self.start_ms) * (0.3 if self.start_ms else 1.0)
        self.failed, self._failures = None, 0

    def _note_failure(self, error: BaseException) -> None:
        """What cannot help by being tried again is told to those who wait, unless others of its kind serve them."""
        pool, now_s = self._pool, clock.mono_s()
        self._failures += 1
        self._provide_s = now_s + min(_PATIENCE_S, 2.0 ** min(self._failures, 10))
        if not isinstance(error, FuyunError):
            self._retry_s = now_s + _STUBBORN_S
            return
        self.failed = error
        if error.retryable:
            _log.warning("an instance could not start", version=pool.version.key, error=error.detail)
            self._retry_s = now_s + _RETRY_S
        elif pool.members:
            self._retry_s = now_s + _STUBBORN_S
        else:
            self._retry_s = 0.0
            pool.fail_waiting(error)

    def in_vain(self) -> FuyunError:
        """Why a request waited as long as it may and found no instance."""
        wait_s = self._around.queue_wait_s
        if self.failed is not None and not self._pool.members:
            return Unavailable(
                f"no instance could be started: {self.failed.detail}",
                hint=self.failed.hint or "try again in a moment; `fuyun logs` says what its instances did",
                retry_after_s=1,
            )
        if self.room() <= 0:
            return Throttled(
                f"every instance was busy for {wait_s:g} s and there may be no more of them",
                hint="retry later, or raise `max_instances`, `concurrency` or the namespace's quotas",
                retry_after_s=1,
            )
        return Unavailable(f"no instance was free within {wait_s:g} s", hint="retry later", retry_after_s=1)
