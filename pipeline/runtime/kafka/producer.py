"""`Producer`: writes until it is written. Idempotent, acknowledged by all replicas; a broker that is away only makes it take longer.

aiokafka raises KafkaTimeoutError after some time without a broker; here that means try again, for ever, with a pause. Only what can never be written
(too large, not allowed) is an error.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    TopicAuthorizationFailedError,
)

from pipeline.runtime.kafka.cluster import MAX_BYTES, Cluster

LOG: Final = logging.getLogger(__name__)
_HOPELESS: Final = (
    ClusterAuthorizationFailedError,
    TopicAuthorizationFailedError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    AssertionError,
    TypeError,
)
_BROKEN: Final = (OutOfOrderSequenceNumber, ProducerFenced, ProducerClosed)
_REQUEST_TIMEOUT_MS: Final = 10_000
_FIRST_PAUSE_S: Final = 0.05
_MAX_PAUSE_S: Final = 1.0


class Message(NamedTuple):
    """One record for the broker. `partition` None: by key."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None


class Producer:
    """Shared by everything in one process."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._client: AIOKafkaProducer | None = None
        self._renewing = asyncio.Lock()
        self.waiting_since: str = ""

    async def start(self) -> None:
        """Connect; waits for the first broker."""
        self._client = await self._connected()

    async def send(self, messages: Sequence[Message]) -> None:
        """Return when all are durable. Order inside a partition is that of `messages`, unless something had to be repeated."""
        left = list(messages)
        pause_s = _FIRST_PAUSE_S
        while left:
            results = await self._try(left)
            failed = [(message, error) for message, error in zip(left, results, strict=True) if error is not None]
            for _, error in failed:
                if isinstance(error, _HOPELESS):
                    raise error
            left = [message for message, _ in failed]
            if failed:
                await self._recover(failed[0][1], pause_s)
                pause_s = min(pause_s * 2, _MAX_PAUSE_S)
        self.waiting_since = ""

    async def partitions(self, topic: str) -> list[int]:
        """The partitions of a topic."""
        if self._client is None:
            raise ProducerClosed
        return sorted(await self._client.partitions_for(topic))

    async def stop(self) -> None:
        """Write what is in the buffer and close. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.stop()

    async def _try(self, messages: list[Message]) -> list[BaseException | None]:
        """One attempt; an error per message, None where it is durable."""
        client = self._client
        if client is None:
            raise ProducerClosed
        futures: list[Any] = []
        for message in messages:
            try:
                futures.append(await client.send(message.topic, message.value, message.key, message.partition))
            except (KafkaError, AssertionError, TypeError) as error:
                futures.append(error)
        waiting = [future for future in futures if not isinstance(future, BaseException)]
        if waiting:
            await asyncio.wait(waiting)
        return [future if isinstance(future, BaseException) else future.exception() for future in futures]

    async def _recover(self, error: BaseException | None, pause_s: float) -> None:
        if not self.waiting_since:
            LOG.warning("broker_away", extra={"error": repr(error)})
            self.waiting_since = repr(error)
        await asyncio.sleep(pause_s)
        if isinstance(error, _BROKEN):
            await self._renew()

    async def _renew(self) -> None:
        """A producer whose numbering is broken never recovers: take a new one."""
        async with self._renewing:
            old, self._client = self._client, await self._connected()
            if old is not None:
                await old.stop()

    async def _connected(self) -> AIOKafkaProducer:
        pause_s = _FIRST_PAUSE_S
        while True:
            client = AIOKafkaProducer(
                **self._cluster.client(),
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
                max_request_size=MAX_BYTES,
                request_timeout_ms=_REQUEST_TIMEOUT_MS,
                retry_backoff_ms=50,
            )
            try:
                await client.start()
            except KafkaError as error:
                await client.stop()
                LOG.warning("broker_away", extra={"error": repr(error)})
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _MAX_PAUSE_S)
            else:
                return client
