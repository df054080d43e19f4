"""How many instances a version keeps at a time of day: `min_instances`, or more inside one of its windows."""

from __future__ import annotations

import msgspec

from fuyun.domain.functions import FunctionSpec
from fuyun.domain.schedules import last_fired_s


def least(spec: FunctionSpec, wall_s: float) -> int:
    """Instances to keep at `wall_s` (seconds since the epoch). A window is open from the minute its schedule fires
    until its duration has passed; of several that are open the largest counts; never more than `max_instances`."""
    wanted = spec.min_instances
    for window in spec.provisioned:
        fired_s = last_fired_s(window.schedule, window.timezone, wall_s)
        if fired_s is not None and wall_s < fired_s + window.duration_s:
            wanted = max(wanted, window.instances)
    return min(wanted, spec.max_instances)


def most(spec: FunctionSpec) -> int:
    """The most instances it keeps at any time."""
    return min(spec.max_instances, max(spec.min_instances, *(window.instances for window in spec.provisioned), 0))


def scheduled(spec: FunctionSpec, wall_s: float) -> FunctionSpec:
    """`spec` with `min_instances` as its windows have it at `wall_s`."""
    return msgspec.structs.replace(spec, min_instances=least(spec, wall_s))
