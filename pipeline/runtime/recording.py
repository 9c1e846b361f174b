"""What the recorder and the notifier do with a batch, whatever bus it came from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pipeline.model import wire
from pipeline.model.records import AnyRecord, Notice
from pipeline.ports.bus import BusRecord, OutRecord
from pipeline.ports.clock import Clock
from pipeline.ports.connector import ConnectorError, Temporary
from pipeline.ports.notifier import Notifier
from pipeline.ports.record import Document, RecordStore
from pipeline.runtime.stages import dead_letter

LOG: Final = logging.getLogger(__name__)
DEFAULT_RECEIVER: Final = "default"
_NOTICE_TRIES: Final = 5

ToDocument = Callable[[AnyRecord], Document | None]


async def store(records: Sequence[BusRecord], into: RecordStore, to_document: ToDocument, now_ms: int) -> list[OutRecord]:
    """Write records to the store; what it (or the decoder) refuses comes back as dead letters. Waits while the store is away."""
    letters: list[OutRecord] = []
    documents: list[Document] = []
    origin: dict[tuple[str, str], BusRecord] = {}
    for record in records:
        try:
            document = to_document(wire.decode(record.value))
        except wire.WireError as error:
            letters.append(dead_letter(record, str(error), now_ms))
            continue
        if document is not None:
            documents.append(document)
            origin[document.kind, document.id] = record
    refused = await into.write(documents) if documents else []
    letters.extend(dead_letter(origin[document.kind, document.id], f"the store refused it: {reason}", now_ms) for document, reason in refused)
    return letters


async def deliver(record: BusRecord, receivers: Mapping[str, Notifier], clock: Clock) -> OutRecord | None:
    """Send one notice, trying again while the receiver says that it may help; a dead letter when it cannot be delivered."""
    try:
        notice = wire.decode_as(Notice, record.value)
    except wire.WireError as error:
        return dead_letter(record, str(error), clock.now_ms())
    receiver = receivers.get(notice.to) or receivers.get(DEFAULT_RECEIVER)
    if receiver is None:
        return dead_letter(record, f"no receiver {notice.to!r} is configured", clock.now_ms())
    for left in reversed(range(_NOTICE_TRIES)):
        try:
            await receiver.send(notice)
        except Temporary as error:
            if not left:
                return dead_letter(record, f"receiver {notice.to!r} did not take it: {error}", clock.now_ms())
            await clock.sleep_ms(error.retry_after_ms)
        except ConnectorError as error:
            return dead_letter(record, f"receiver {notice.to!r} refused it: {error}", clock.now_ms())
        else:
            return None
    return None
