"""Messages of one queue in SQL, on a connection that the caller has: entering, taking out, settling, moving, removing.

Statements are made once: building one takes longer than SQLite needs to run it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from fuyun.decide import leases
from fuyun.decide.leases import Place
from fuyun.domain.events import Event
from fuyun.domain.queues import (
    Message,
    Outgoing,
    QueueSpec,
    Received,
    Sent,
    Settled,
    Settling,
    check_outgoing,
    parse_receipt,
    receipt_of,
)
from fuyun.drivers.queues.tables import deduplications, messages, queues

#: A row of `_COLUMNS`.
Line = Any

_c = messages.c
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Event).decode

_COLUMNS: Final = (
    _c.number, _c.grp, _c.due_s, _c.leased, _c.lease, _c.receives, _c.sent_s, _c.size, _c.origin, _c.event,
)  # fmt: skip
_OF = _c.queue == bindparam("of")
_READY = (
    select(*_COLUMNS)
    .where(_OF, _c.due_s <= bindparam("now"))
    .order_by(_c.due_s, _c.number)
    .limit(bindparam("most"))
)  # fmt: skip
_BY_NUMBER = select(*_COLUMNS).where(_OF, _c.number.in_(bindparam("numbers", expanding=True)))
_NEXT_DUE = select(func.min(_c.due_s)).where(_OF, _c.due_s > bindparam("now"))
_GROUP = select(*_COLUMNS).where(_OF, _c.grp == bindparam("group")).order_by(_c.number).limit(1)
_INSERT = insert(messages)
_STAND = (
    update(messages)
    .where(_c.number == bindparam("which"))
    .values(
        due_s=bindparam("to_due"), leased=bindparam("to_leased"), lease=bindparam("to_lease"),
        receives=bindparam("to_receives"),
    )
)  # fmt: skip
_DELETE = delete(messages).where(_c.number == bindparam("which"))
_COUNT = (
    update(queues)
    .where(queues.c.id == bindparam("of"))
    .values(messages=queues.c.messages + bindparam("more"), bytes=queues.c.bytes + bindparam("more_bytes"))
)
_d = deduplications.c
_TAKEN = select(_d.message).where(_d.queue == bindparam("of"), _d.deduplication == bindparam("by"))
_FORGET = delete(deduplications).where(_d.queue == bindparam("of"), _d.until_s <= bindparam("now"))
_REMEMBER = insert(deduplications)


@dataclass(frozen=True, slots=True)
class Held:
    """A queue as its row says."""

    id: int
    namespace: str
    name: str
    spec: QueueSpec


def place_of(row: Line) -> Place:
    """Where the message of a row of `_COLUMNS` stands."""
    return Place(row.due_s, row.sent_s, row.leased, row.lease, row.receives)


def message_of(row: Line, receipt: str = "", receives: int | None = None, until_s: float = 0.0) -> Message:
    """The message of a row of `_COLUMNS`."""
    return Message(
        event=_decode(row.event), receipt=receipt, group=row.grp, sent_s=row.sent_s,
        receives=row.receives if receives is None else receives, origin=row.origin, lease_until_s=until_s,
    )  # fmt: skip


def oldest(connection: Connection, queue: Held, limit: int) -> list[Message]:
    """The first messages, whatever they wait for."""
    query = select(*_COLUMNS).where(_c.queue == queue.id).order_by(_c.number).limit(limit)
    return [message_of(row) for row in connection.execute(query)]


def count(connection: Connection, queue: Held, more: int, more_bytes: int) -> None:
    """The queue holds that much more, or less."""
    if more:
        connection.execute(_COUNT, {"of": queue.id, "more": more, "more_bytes": more_bytes})


# --- entering


def send(
    connection: Connection, queue: Held, outgoing: Sequence[Outgoing], now_s: float
) -> tuple[list[Sent], int, int]:
    """Put messages in; what became of each, and how many messages and bytes there are more."""
    sizes = [check_outgoing(queue.name, queue.spec, message) for message in outgoing]
    sent: list[Sent] = []
    entering: list[tuple[Event, int, str, float | None, str]] = []
    if any(message.deduplication for message in outgoing):  # so that every id that is left is taken
        connection.execute(_FORGET, {"of": queue.id, "now": now_s})
    for message, size in zip(outgoing, sizes, strict=True):
        first = _first_of(connection, queue, message, now_s)
        sent.append(Sent(id=first or message.event.id, duplicate=bool(first)))
        if not first:
            entering.append((message.event, size, message.group, message.delay_s, ""))
    _enter(connection, queue, entering, now_s)
    return sent, len(entering), sum(item[1] for item in entering)


def _first_of(connection: Connection, queue: Held, message: Outgoing, now_s: float) -> str:
    """The id of the message that took the deduplication id before; "" when it is this one's now."""
    if not message.deduplication:
        return ""
    found = connection.execute(_TAKEN, {"of": queue.id, "by": message.deduplication}).scalar_one_or_none()
    if found is not None:
        return str(found)
    connection.execute(
        _REMEMBER,
        {"queue": queue.id, "deduplication": message.deduplication, "message": message.event.id,
         "until_s": now_s + queue.spec.deduplication_s},
    )  # fmt: skip
    return ""


def _enter(
    connection: Connection,
    queue: Held,
    entering: Sequence[tuple[Event | bytes, int, str, float | None, str]],
    now_s: float,
) -> None:
    """Append (event, size, group, delay, origin)."""
    if not entering:
        return
    begun: set[str] = set()  # groups that have a message
    if queue.spec.fifo:
        for group in {item[2] for item in entering}:
            if connection.execute(_GROUP, {"of": queue.id, "group": group}).first() is not None:
                begun.add(group)
    rows = []
    for event, size, group, delay_s, origin in entering:
        behind = queue.spec.fifo and group in begun
        begun.add(group)
        place = leases.enter(queue.spec, delay_s, behind, now_s)
        rows.append(
            {"queue": queue.id, "grp": group, "due_s": place.due_s, "leased": False, "lease": 0, "receives": 0,
             "sent_s": now_s, "size": size, "origin": origin,
             "event": event if isinstance(event, bytes) else _encode(event)}
        )  # fmt: skip
    connection.execute(_INSERT, rows)
    count(connection, queue, len(rows), sum(item[1] for item in entering))


# --- taking out


def receive(
    connection: Connection, queue: Held, dead_letter: Held | None, most: int, visibility_s: float, now_s: float
) -> Received:
    """Take out up to `most` messages. `dead_letter`: where those go that were given out too often, if there is such."""
    spec = queue.spec if dead_letter is not None else msgspec.structs.replace(queue.spec, dead_letter="")
    taken: list[Message] = []
    given_up = 0
    while len(taken) < most:
        rows = connection.execute(_READY, {"of": queue.id, "now": now_s, "most": most - len(taken)}).all()
        if not rows:
            break
        stands: list[dict[str, Any]] = []
        spent: list[Line] = []
        old: list[Line] = []
        for row in rows:
            place = place_of(row)
            turn = leases.turn(spec, place, now_s)
            if turn == "take":
                held = leases.take(place, visibility_s, now_s)
                stands.append(_stand(row.number, held))
                receipt = receipt_of(row.number, held.lease)
                taken.append(message_of(row, receipt, held.receives, held.due_s or 0.0))
            else:
                (spent if turn == "give_up" else old).append(row)
        if stands:
            connection.execute(_STAND, stands)
        if spent and dead_letter is not None:
            _enter(connection, dead_letter, [_as_entering(row, queue.name) for row in spent], now_s)
            given_up += len(spent)
        remove(connection, queue, [*spent, *old], now_s)
    next_due_s = None if taken else connection.execute(_NEXT_DUE, {"of": queue.id, "now": now_s}).scalar()
    return Received(
        messages=tuple(taken), next_due_s=next_due_s, given_up=(queue.spec.dead_letter if given_up else "", given_up)
    )


def _as_entering(row: Line, origin: str) -> tuple[bytes, int, str, None, str]:
    return row.event, row.size, row.grp, None, origin


def _stand(number: int, place: Place) -> dict[str, Any]:
    return {"which": number, "to_due": place.due_s, "to_leased": place.leased, "to_lease": place.lease,
            "to_receives": place.receives}  # fmt: skip


def remove(connection: Connection, queue: Held, rows: Sequence[Line], now_s: float) -> int:
    """Delete messages; those behind them in their groups step forward. How many are ready now because of that."""
    if not rows:
        return 0
    connection.execute(_DELETE, [{"which": row.number} for row in rows])
    count(connection, queue, -len(rows), -sum(row.size for row in rows))
    return _promote(connection, queue, {row.grp for row in rows}, now_s)


def _promote(connection: Connection, queue: Held, groups: Iterable[str], now_s: float) -> int:
    if not queue.spec.fifo:
        return 0
    ready = 0
    for group in sorted(groups):
        row = connection.execute(_GROUP, {"of": queue.id, "group": group}).first()
        if row is not None and row.due_s is None:
            place = leases.promote(queue.spec, place_of(row), now_s)
            connection.execute(_STAND, [_stand(row.number, place)])
            ready += leases.stage(place, now_s) == "ready"
    return ready


# --- settling


def settle(connection: Connection, queue: Held, settlings: Sequence[Settling], now_s: float) -> Settled:
    """Acknowledge, keep or return messages by their receipts."""
    parsed = [(settling, *parse_receipt(settling.receipt)) for settling in settlings]
    numbers = sorted({number for _, number, _ in parsed})
    rows = {row.number: row for row in connection.execute(_BY_NUMBER, {"of": queue.id, "numbers": numbers})}
    places = {number: place_of(row) for number, row in rows.items()}
    refused: dict[str, str] = {}
    stands, done = [], []
    ready = 0
    for settling, number, lease in parsed:
        place = places.get(number)
        why = leases.refusal(place, lease, now_s)
        if why or place is None:
            refused[settling.receipt] = why
        elif settling.hold_s is None:
            done.append(rows[number])
            del places[number]
        else:
            places[number] = held = leases.hold(place, settling.hold_s, now_s)
            stands.append(_stand(number, held))
            ready += settling.hold_s == 0
    if stands:
        connection.execute(_STAND, stands)
    return Settled(refused=refused, ready=ready + remove(connection, queue, done, now_s))


# --- moving


def clear(connection: Connection, queue: Held, until_s: float, now_s: float, held: bool, most: int) -> int:
    """Remove the oldest messages sent until then, with `held` also what somebody holds; how many."""
    query = select(*_COLUMNS).where(_c.queue == queue.id, _c.sent_s <= until_s)
    if not held:
        query = query.where(_free(now_s))
    rows = connection.execute(query.order_by(_c.number).limit(most)).all()
    remove(connection, queue, rows, now_s)
    return len(rows)


def move(
    connection: Connection, queue: Held, homes: dict[str, Held], to: str, now_s: float, most: int
) -> dict[str, int]:
    """Move the oldest messages that nobody holds to the queue `to`, or ("") to where each was given up; how many went
    where. `homes`: the queues that there are, by name."""
    query = select(*_COLUMNS).where(_c.queue == queue.id, _free(now_s))
    if queue.spec.fifo:  # one that is held keeps those behind it, too
        in_flight = select(_c.grp).where(_c.queue == queue.id, ~_free(now_s))
        query = query.where(_c.grp.not_in(in_flight))
    if not to:
        query = query.where(_c.origin.in_([name for name, home in homes.items() if home.spec.fifo == queue.spec.fifo]))
    rows = connection.execute(query.order_by(_c.number).limit(most)).all()
    moved: dict[str, int] = {}
    for name in dict.fromkeys(to or row.origin for row in rows):
        going = [_as_entering(row, "") for row in rows if name == (to or row.origin)]
        _enter(connection, homes[name], going, now_s)
        moved[name] = len(going)
    remove(connection, queue, rows, now_s)
    return moved


def _free(now_s: float) -> Any:
    """Nobody holds it."""
    return ~(_c.leased & (_c.due_s > now_s)) | _c.due_s.is_(None)
