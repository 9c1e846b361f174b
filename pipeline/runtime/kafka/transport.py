"""Faust's Kafka transport with five things changed.

- All records fetched of a partition travel as one message: Faust's cost is per message, and a batch is what the stages want.
- What is fetched of a paused partition is read again later, and a fetch never asks for all partitions by mistake.
- Only what the lanes have finished is committed. Faust's own book-keeping treats a gap in offsets, and messages that a rebalance made it skip, as
  done, and can commit past messages that are still to be processed.
- `fetch_max_wait_ms` is 10, not 1500: while a fetch waits for quiet partitions, no new data of the others is asked for.
- Fetches are large enough for a burst.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import aiokafka
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from pipeline.runtime.kafka.bus import FETCH_WAIT_MS

_NOTHING_TO_ASK_S: Final = 0.05


class RecordBatch(bytes):
    """Stands in the value of the one message that Faust is given for all records fetched of a partition; `records` are aiokafka's."""

    records: Sequence[Any]

    @classmethod
    def of(cls, records: Sequence[Any]) -> RecordBatch:
        """A batch; its own bytes mean nothing."""
        batch = cls(b"batch")
        batch.records = records
        return batch


class FinishedOffsets(driver.Consumer):  # type: ignore[misc]  # Faust is read without types
    """Commits the offsets that `finish` was told."""

    logger = logging.getLogger("faust.consumer")

    def finish(self, tp: TP, offset: int) -> None:
        """Everything of this partition up to `offset` is done with."""
        self._finished_offsets()[tp] = offset + 1

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109 - the signature is Faust's
        """Fetched records: one message per partition, except of changelogs, which Faust itself applies one by one."""
        found, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if found is None or self.should_stop:
            return
        if not self.flow_active:
            await self._seek_back()
            return
        for tp, records in found.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                await self._seek(tp, records[0].offset)  # paused meanwhile: dropped now, it would be lost where nothing is committed yet
                continue
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            for message in self._messages(tp, records):
                yield tp, message

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, Sequence[Any]]:  # noqa: ASYNC109 - as above
        """Fetch from a copy of the set: Faust empties it while the fetch is on its way to the consumer's thread, and none means all there."""
        asked = None if active_partitions is None else set(active_partitions)
        if asked is not None and not asked:
            await self.sleep(_NOTHING_TO_ASK_S)
            return {}
        found: Mapping[TP, Sequence[Any]] = await super()._getmany(asked, timeout)
        return {tp: records for tp, records in found.items() if records}

    def _messages(self, tp: TP, records: Sequence[Any]) -> Iterator[Any]:
        if self._is_changelog_tp(tp):
            yield from (self._to_message(tp, record) for record in records)
        elif records:
            message = self._to_message(tp, records[-1])
            message.value = RecordBatch.of(records)
            yield message

    async def _seek_back(self) -> None:
        """As Faust does when a fetch returns during a rebalance."""
        try:
            await self.perform_seek()
        except KafkaError:
            self.log.warning("seek_back_failed", exc_info=True)

    def ack(self, message: Any) -> bool:
        """Forget the message; what may be committed is said by `finish`."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit what is finished, then forget."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._finished_offsets().pop(tp, None)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Gaps need no care: finished offsets are absolute."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in list(self._finished_offsets()) if topics is None or tp in topics or tp.topic in topics)

    def _filter_committable_offsets(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        finished = self._finished_offsets()
        return {tp: finished[tp] for tp in tps if tp in finished and finished[tp] > (self._committed_offset.get(tp) or -1)}

    def _finished_offsets(self) -> dict[TP, int]:
        found: dict[TP, int] = self.__dict__.setdefault("_finished", {})  # the base class resets itself by hand; this survives it
        return found

    def _new_consumer_thread(self) -> Any:
        return QuickFetch(self, loop=self.loop, beacon=self.beacon)


class QuickFetch(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust is read without types
    """The consumer's thread, with a consumer that does not linger."""

    logger = logging.getLogger("faust.consumer")

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - Faust hard-codes 1500 and offers no setting
        return consumer


class Transport(driver.Transport):  # type: ignore[misc]  # Faust is read without types
    """What `worker.App` uses."""

    Consumer: ClassVar[type[Any]] = FinishedOffsets
