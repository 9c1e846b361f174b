"""`ElasticStore`: the record store in Elasticsearch 8 or 9.

Guarantee: `write` returns when every document is acknowledged or refused for its content. While the server is away, overloaded, read-only or refuses
our credentials, it waits with growing pauses and tries again; ids and external versions make every repetition harmless. It needs nothing beyond
indices, templates, aliases, bulk and search: no ILM, no data streams, no scripts, no queries that write, no `GET /`.

Limit: an immutable document whose copy carries a time of another day lands in another day's index and is there twice.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast

from elasticsearch import ApiError, AsyncElasticsearch, BadRequestError, NotFoundError, TransportError, UnsupportedProductError

from pipeline.ports.clock import Clock
from pipeline.ports.record import Document, Page, Rejected
from pipeline.record import bulk, mapping
from pipeline.record.documents import Cursor, checked
from pipeline.record.errors import StoreError, StoreUnavailableError
from pipeline.record.kinds import KINDS, keep_after_ms

T = TypeVar("T")

_FIRST_PAUSE_MS: Final = 100
_LONGEST_PAUSE_MS: Final = 5000
_MAX_PAGE: Final = 5000
_PASSING: Final = frozenset({401, 403, 408, 429})


def _ignore(reason: str, pause_ms: int) -> None:
    del reason, pause_ms


class ElasticStore:
    """A `RecordStore` on the indices `<prefix>-<kind>-*`.

    `on_wait(reason, pause_ms)` is called before each pause of a write, for logs and metrics; `waiting_for` says the reason while it lasts.
    """

    def __init__(self, client: AsyncElasticsearch, *, clock: Clock, prefix: str = "reflexarc", on_wait: Callable[[str, int], None] = _ignore) -> None:
        # The client's own retries have no pause between them; the loop here has.
        self._client = client.options(max_retries=0, retry_on_timeout=False)
        self._clock = clock
        self._prefix = prefix
        self._on_wait = on_wait
        self._prepared: set[str] = set()
        self._unrefreshed: set[str] = set()
        self.waiting_for = ""

    @classmethod
    def connect(
        cls,
        hosts: Sequence[str],
        *,
        clock: Clock,
        prefix: str = "reflexarc",
        on_wait: Callable[[str, int], None] = _ignore,
        request_timeout_s: float = 30.0,
        **client_options: Any,
    ) -> ElasticStore:
        """A store on those hosts; `client_options` go to the client (`api_key`, `basic_auth`, `ca_certs`, `verify_certs`, ...). Sends nothing yet."""
        client = AsyncElasticsearch(list(hosts), request_timeout=request_timeout_s, **client_options)
        return cls(client, clock=clock, prefix=prefix, on_wait=on_wait)

    async def write(self, documents: Sequence[Document]) -> list[Rejected]:
        """Store all that can be stored; the refused come back.

        Raises:
            StoreError: a lasting fault, for example a client that is too new for the server.
        """
        good, rejected = checked(documents)
        if not good:
            return rejected
        await self._prepare({one.document.kind for one in good})
        for chunk in bulk.chunks([bulk.item(self._prefix, one) for one in good]):
            rejected += await self._write_chunk(chunk)
        self._unrefreshed.update(one.document.kind for one in good)
        return rejected

    async def get(self, kind: str, id: str) -> Document | None:  # noqa: A002 - the field's name everywhere
        """One document, None when there is none. What other processes wrote shows within a second."""
        found = await self._find(
            kind, query={"term": {"reflexarc.id": id}}, sort=[{"reflexarc.revision": "desc"}, {"reflexarc.at_ms": "asc"}], size=1
        )
        return next(iter(found), None)

    async def search(
        self, kind: str, *, where: Mapping[str, Any] | None = None, since_ms: int = 0, until_ms: int = 0, limit: int = 100, cursor: str | None = None
    ) -> Page:
        """Newest first, from `since_ms` (inclusive) to `until_ms` (exclusive; 0: open), at most 5000. A list field matches by any element."""
        after = Cursor.parse(cursor) if cursor is not None else None
        limit = min(limit, _MAX_PAGE)
        time_range = {"gte": since_ms} | ({"lt": until_ms} if until_ms else {})
        filters: list[dict[str, Any]] = [{"range": {"reflexarc.at_ms": time_range}}]
        filters += [{"terms": {f"reflexarc.body.{name}": list(_terms(wanted))}} for name, wanted in (where or {}).items()]
        sort = [{"reflexarc.at_ms": "desc"}, {"reflexarc.id": "asc"}]
        found = await self._find(kind, query={"bool": {"filter": filters}}, sort=sort, size=limit + 1, search_after=list(after) if after else None)
        page = found[:limit]
        return Page(page, str(Cursor(page[-1].at_ms, page[-1].id)) if len(found) > limit and page else None)

    async def expire(self, now_ms: int, keep_days: Mapping[str, int] | None = None) -> int:
        """Drop the indices whose whole day is older than their kind is kept, and old mutable documents that are no longer in force; return how many
        indices and documents went.
        """
        gone = 0
        for kind, row in KINDS.items():
            keep_after = keep_after_ms(kind, now_ms, keep_days or {})
            gone += await (self._expire_documents(kind, keep_after) if row.is_mutable else self._expire_indices(kind, keep_after))
        return gone

    async def close(self) -> None:
        """Release the connections. Idempotent."""
        await self._client.close()

    async def _prepare(self, kinds: set[str]) -> None:
        """Put the index templates of kinds not met before, unless a newer version of reflexarc has put its own."""
        for kind in sorted(kinds - self._prepared):
            await self._patiently("put an index template", partial(self._put_template, kind))
            self._prepared.add(kind)

    async def _put_template(self, kind: str) -> None:
        name = mapping.alias(self._prefix, kind)
        if await self._template_version(name) < mapping.TEMPLATE_VERSION:
            await self._client.indices.put_index_template(name=name, **mapping.template(self._prefix, kind))

    async def _template_version(self, name: str) -> int:
        try:
            answer = await self._client.indices.get_index_template(name=name)
        except NotFoundError:
            return 0
        return int(answer["index_templates"][0]["index_template"].get("version", 0))

    async def _write_chunk(self, chunk: list[bulk.Item]) -> list[Rejected]:
        rejected: list[Rejected] = []
        pauses = _pauses()
        while chunk:
            answers, fault = await self._send(chunk)
            if answers is None:
                if len(chunk) == 1:
                    return [*rejected, Rejected(chunk[0].document.document, fault)]
                middle = len(chunk) // 2
                return [*rejected, *await self._write_chunk(chunk[:middle]), *await self._write_chunk(chunk[middle:])]
            chunk, refused, reason = await self._settle(chunk, answers)
            rejected += refused
            if chunk:
                await self._wait(reason, next(pauses))
        self.waiting_for = ""
        return rejected

    async def _settle(self, chunk: list[bulk.Item], answers: Sequence[Mapping[str, Any]]) -> tuple[list[bulk.Item], list[Rejected], str]:
        """Judge each answer: what is to be sent again, what is refused, and why we wait."""
        again: list[bulk.Item] = []
        refused: list[Rejected] = []
        absent: set[str] = set()
        why = ""
        for one, answer in zip(chunk, answers, strict=True):
            verdict, reason = bulk.judge(one, answer)
            if verdict is bulk.Verdict.DONE:
                continue
            if verdict is bulk.Verdict.REFUSED:
                refused.append(Rejected(one.document.document, reason))
                continue
            if verdict is bulk.Verdict.NO_INDEX:
                absent.add(one.destination)
            again.append(one._replace(faults=one.faults + (verdict is bulk.Verdict.BROKE)))
            why = reason
        for name in absent:
            await self._create_index(name)
        return again, refused, why

    async def _create_index(self, name: str) -> None:
        try:
            await self._patiently("create an index", lambda: self._client.indices.create(index=name))
        except StoreError:
            # Somebody else made it in between; if not, the next answer says so again.
            return

    async def _send(self, chunk: list[bulk.Item]) -> tuple[Sequence[Mapping[str, Any]] | None, str]:
        """The answers to one bulk request; None and the reason when the request as a whole is refused (too large, or something in it)."""
        operations = cast("Any", [one.lines for one in chunk])

        async def send() -> tuple[Sequence[Mapping[str, Any]] | None, str]:
            try:
                answer = await self._client.bulk(operations=operations, filter_path=["errors", "items.*.status", "items.*.error"])
            except BadRequestError as error:
                if "media_type" in str(error):
                    raise
                return None, f"400 {bulk.explanation(_error_of(error))}"
            except ApiError as error:
                if error.status_code != 413:
                    raise
                return None, "413 the document is larger than the server takes"
            return answer["items"], ""

        return await self._patiently("write", send)

    async def _find(self, kind: str, **search: Any) -> list[Document]:
        name = mapping.alias(self._prefix, kind)
        try:
            if kind in self._unrefreshed:
                # Own writes show at once; the others' do within the refresh interval.
                await self._client.indices.refresh(index=name, ignore_unavailable=True)
                self._unrefreshed.discard(kind)
            answer = await self._client.search(index=name, ignore_unavailable=True, source_includes=["reflexarc"], track_total_hits=False, **search)
        except (ApiError, TransportError) as error:
            raise _read_error(error) from error
        return [_document(hit["_source"]["reflexarc"]) for hit in answer["hits"]["hits"]]

    async def _expire_indices(self, kind: str, keep_after: int) -> int:
        try:
            names = list(await self._client.indices.get_alias(index=f"{self._prefix}-{kind}-*"))
            old = [name for name in names if (end := mapping.day_end_ms(self._prefix, kind, name)) is not None and end <= keep_after]
            for name in old:
                await self._client.indices.delete(index=name, ignore_unavailable=True)
        except (ApiError, TransportError) as error:
            raise _read_error(error) from error
        return len(old)

    async def _expire_documents(self, kind: str, keep_after: int) -> int:
        in_force = KINDS[kind].keep_while_zero
        query: dict[str, Any] = {"bool": {"filter": [{"range": {"reflexarc.at_ms": {"lt": keep_after}}}]}}
        if in_force:
            query["bool"]["must_not"] = [{"term": {f"reflexarc.body.{in_force}": "0"}}]
        gone = 0
        index = mapping.index(self._prefix, kind, 0)
        while found := await self._find(kind, query=query, size=1000):
            operations = [{"delete": {"_index": index, "_id": document.id}} for document in found]
            try:
                await self._client.bulk(operations=operations, refresh=True)
            except (ApiError, TransportError) as error:
                raise _read_error(error) from error
            gone += len(found)
        return gone

    async def _patiently(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """Call until the server answers.

        Raises:
            StoreError: it answered that this will never work.
        """
        for pause_ms in _pauses():
            try:
                result = await call()
            except (ApiError, TransportError) as error:
                if not _is_passing(error):
                    raise StoreError(f"Elasticsearch refused to {what}: {_reason(error)}{_advice(error)}") from error
                await self._wait(_reason(error), pause_ms)
            else:
                self.waiting_for = ""
                return result
        raise AssertionError("pauses never end")

    async def _wait(self, reason: str, pause_ms: int) -> None:
        self.waiting_for = reason
        self._on_wait(reason, pause_ms)
        await self._clock.sleep_ms(pause_ms)


def _pauses() -> Iterator[int]:
    """Doubling pauses with jitter, so that several writers do not come back in step."""
    pause_ms = _FIRST_PAUSE_MS
    while True:
        yield round(pause_ms * random.uniform(0.7, 1.0))
        pause_ms = min(pause_ms * 2, _LONGEST_PAUSE_MS)


def _is_passing(error: ApiError | TransportError) -> bool:
    """Whether the same request can succeed later: no answer, overload, a fault of the server, or permissions that a person can give."""
    if isinstance(error, UnsupportedProductError):
        return False
    return not isinstance(error, ApiError) or error.status_code >= 500 or error.status_code in _PASSING


def _reason(error: ApiError | TransportError) -> str:
    return f"{error.status_code} {bulk.explanation(_error_of(error))}" if isinstance(error, ApiError) else f"no answer: {error}"


def _advice(error: ApiError | TransportError) -> str:
    if "media_type" in str(error):
        return " (the client is newer than the server: their major versions must match; for version 8: pip install 'elasticsearch<9')"
    return " (is this address an Elasticsearch?)" if isinstance(error, UnsupportedProductError) else ""


def _error_of(error: ApiError) -> Any:
    return error.body.get("error", error.body) if isinstance(error.body, Mapping) else error.message


def _read_error(error: ApiError | TransportError) -> StoreError:
    if _is_passing(error):
        return StoreUnavailableError(f"Elasticsearch does not answer now: {_reason(error)} (is it up, and are the credentials right?)")
    return StoreError(f"Elasticsearch refused: {_reason(error)}")


def _document(own: Mapping[str, Any]) -> Document:
    return Document(own["kind"], own["id"], own["at_ms"], own["body"], own["revision"])


def _terms(wanted: Any) -> Iterator[str]:
    """The terms under which a flattened field holds a value: a number is there as it was written, 2 or 2.0."""
    for option in wanted if isinstance(wanted, list | tuple | set | frozenset) else [wanted]:
        if isinstance(option, bool):
            yield str(option).lower()
        elif isinstance(option, int | float):
            yield from {str(option), str(float(option)), *([str(int(option))] if option == int(option) else [])}
        else:
            yield str(option)
