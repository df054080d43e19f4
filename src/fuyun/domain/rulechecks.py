"""What valid buses, rules of buses and subscriptions of topics keep to; apart from the nouns, so that clients load no
filters."""

from __future__ import annotations

from fuyun.domain.bus import MOST_ARCHIVE_S, Bus, Rule
from fuyun.domain.errors import BadRequest
from fuyun.domain.events import target_of
from fuyun.domain.filters import read_filter
from fuyun.domain.names import check_name
from fuyun.domain.topics import MOST_AGE_S, MOST_ATTEMPTS, SubscriptionSpec
from fuyun.domain.transforms import check_template


def check_bus(bus: Bus) -> Bus:
    """`bus` itself, or BadRequest."""
    check_name("bus", bus.name)
    if not 0 <= bus.archive_s <= MOST_ARCHIVE_S:
        raise BadRequest(
            f"an archive of {bus.archive_s:g} s", hint=f"use 0 to {MOST_ARCHIVE_S:g} seconds", path="archive_s"
        )
    return bus


def check_rule(rule: Rule) -> Rule:
    """`rule` itself, or BadRequest naming the part that is wrong. The transform's queries are checked where they are
    compiled (`decide.transforms`)."""
    check_name("rule", rule.name)
    read_filter(rule.filter)
    target = target_of(rule.target)
    if target.kind == "bus" and target.name == rule.bus and not rule.filter and rule.transform is None:
        raise BadRequest(
            f"rule {rule.name!r} hands every event of bus {rule.bus!r} to that bus again",
            hint="name another target, or a filter that what it makes does not pass",
            path="target",
        )
    if rule.transform is not None:
        check_template(rule.transform)
    return rule


def check_subscription(name: str, spec: SubscriptionSpec) -> None:
    """BadRequest that says what of the subscription cannot be."""
    check_name("subscription", name)
    target_of(spec.target)
    if spec.filter is not None:
        read_filter(spec.filter)
    if spec.dead_letter:
        target_of(spec.dead_letter)
    if not 1 <= spec.max_attempts <= MOST_ATTEMPTS:
        raise BadRequest(f"max_attempts is {spec.max_attempts}", hint=f"use 1 to {MOST_ATTEMPTS}", path="max_attempts")
    if not 1 <= spec.max_age_s <= MOST_AGE_S:
        raise BadRequest(f"max_age_s is {spec.max_age_s:g}", hint=f"use 1 to {MOST_AGE_S:g}", path="max_age_s")
