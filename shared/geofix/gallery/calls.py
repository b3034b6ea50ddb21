"""The calls of Milvus that are made most, a search and a write of rows, over their own channel and as their own messages.

pymilvus's client is for everything else; benchmarks/retrieval.py says what either takes.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import grpc
import numpy as np
from numpy.typing import NDArray

from geofix.channel import channel_options
from geofix.gallery.layout import METRIC, OUTPUT_FIELDS
from geofix.outgoing import answer_of

_FLOAT_VECTOR, _BOUNDED = 101, 2
_BOUNDED_TIMESTAMP = 2
"""Tells Milvus to take the time itself that consistency Bounded allows."""
_OPTIONS = [option for option in channel_options(-1) if not ("keepalive" in option[0] or "pings" in option[0])]
"""Those of every channel, but without pings: Milvus ends connections that ping more often than it was set up to bear."""


@dataclass(frozen=True)
class Call:
    """A search for several vectors in the same rows.

    Attributes:
        collection: the version.
        vectors: unit embeddings, shape (n, embedding_dim).
        limit: most hits a vector.
        cells: whose rows to search; empty: all rows.
        partitions: the names of theirs; empty: all.
        filter: what else the rows must fulfil, a boolean expression of Milvus; empty: nothing.
    """

    collection: str
    vectors: NDArray[np.float32]
    limit: int
    cells: tuple[int, ...] = ()
    partitions: tuple[str, ...] = ()
    filter: str = ""

    @property
    def expression(self) -> str:
        """Cells and filter as one boolean expression of Milvus; empty: all rows."""
        in_cells = f"cell_id in {list(self.cells)}" if self.cells else ""
        return " and ".join(filter(None, (in_cells, self.filter)))

    def message(self) -> Any:
        """The request, with the fields of `layout.OUTPUT_FIELDS` asked for."""
        from pymilvus.grpc_gen import common_pb2, milvus_pb2

        values = [vector.tobytes() for vector in np.ascontiguousarray(self.vectors, "<f4")]
        group = common_pb2.PlaceholderGroup(
            placeholders=[common_pb2.PlaceholderValue(tag="$0", type=_FLOAT_VECTOR, values=values)]
        )
        parameters = {"anns_field": "embedding", "metric_type": METRIC, "topk": str(self.limit), "params": "{}"}
        parameters["round_decimal"] = "-1"
        return milvus_pb2.SearchRequest(
            collection_name=self.collection,
            partition_names=self.partitions,
            dsl=self.expression,
            dsl_type=common_pb2.DslType.BoolExprV1,
            placeholder_group=group.SerializeToString(),
            nq=len(values),
            output_fields=OUTPUT_FIELDS,
            search_params=[common_pb2.KeyValuePair(key=key, value=value) for key, value in parameters.items()],
            # Strong would wait 0.3 s a search on a server for rows that nobody is writing.
            consistency_level=_BOUNDED,
            guarantee_timestamp=_BOUNDED_TIMESTAMP,
        )


class Row(NamedTuple):
    """A row as it was found; `payload` is its JSON."""

    id: str
    similarity: float
    cell_id: int
    lat: float
    lon: float
    payload: str


def rows_of(response: Any) -> list[list[Row]]:
    """The rows of a response, a list a vector, most similar first.

    Raises:
        MilvusException: the status says that the search failed.
    """
    _check(response.status)
    return list(_split(response.results))


def _check(status: Any) -> None:
    from pymilvus import MilvusException

    if status.code or status.error_code:
        raise MilvusException(code=status.code or status.error_code, message=status.reason)


def _split(results: Any) -> Iterator[list[Row]]:
    fields = {field.field_name: field.scalars for field in results.fields_data}
    if not fields:  # nothing was found for any vector
        yield from ([] for _ in results.topks)
        return
    ids, scores = results.ids.str_id.data, results.scores
    cells, payloads = fields["cell_id"].long_data.data, fields["payload"].string_data.data
    lats, lons = fields["lat"].double_data.data, fields["lon"].double_data.data
    start = 0
    for count in results.topks:
        part = slice(start, start + count)
        columns = (ids[part], scores[part], cells[part], lats[part], lons[part], payloads[part])
        yield list(map(Row._make, zip(*columns, strict=True)))
        start += count


class SearchChannel:
    """A channel to Milvus for searches and writes of rows.

    Args:
        uri: the server's address, as `Store` takes it; a path in it names the database.
        token: the server's token or `user:password`; such a pair in the URI does as well.
        ca_file: certificates (PEM) that the server's is checked against, in place of the system's; makes the connection TLS.
    """

    def __init__(self, uri: str, token: str = "", ca_file: Path | None = None) -> None:
        parts = urlsplit(uri)
        if parts.username and not token:
            token = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        self._ca = None if ca_file is None else ca_file.read_bytes()
        self._secure = parts.scheme == "https" or self._ca is not None
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self._target = f"unix:{parts.path}" if parts.scheme == "unix" else f"{host}:{parts.port or 19530}"
        self._metadata: list[tuple[str, str]] = []
        if token:
            self._metadata.append(("authorization", base64.b64encode(token.encode()).decode()))
        if parts.scheme != "unix" and parts.path.strip("/"):
            self._metadata.append(("dbname", parts.path.strip("/")))
        self._blocking: grpc.Channel | None = None
        self._waiting: grpc.aio.Channel | None = None
        self._connecting = threading.Lock()
        self._search: Any = None
        self._search_async: Any = None
        self._upsert: Any = None

    def search(self, call: Call, timeout_s: float) -> list[list[Row]]:
        """The rows found, a list a vector, most similar first.

        Raises:
            MilvusException, grpc.RpcError: see `Store.errors`.
        """
        self._connect()
        return rows_of(self._search(call.message(), timeout=timeout_s, metadata=self._metadata))

    def upsert(self, message: Any, timeout_s: float) -> None:
        """Write rows (`writes.upsert_message`), until Milvus has acknowledged them.

        Raises:
            MilvusException, grpc.RpcError: see `Store.errors`.
        """
        self._connect()
        _check(self._upsert(message, timeout=timeout_s, metadata=self._metadata).status)

    async def search_async(self, call: Call, timeout_s: float) -> list[list[Row]]:
        """As `search`, without blocking; always from the same event loop."""
        if self._waiting is None:
            if self._secure:
                self._waiting = grpc.aio.secure_channel(self._target, self._credentials(), options=_OPTIONS)
            else:
                self._waiting = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
            self._search_async = _method(self._waiting, "Search", "SearchRequest", "SearchResults")
        searched = self._search_async(call.message(), timeout=timeout_s, metadata=self._metadata)
        return rows_of(await answer_of(searched))

    def close(self) -> None:
        """Close the blocking channel."""
        if self._blocking is not None:
            self._blocking.close()
            self._blocking = None

    async def close_async(self) -> None:
        """Close the other one."""
        if self._waiting is not None:
            await self._waiting.close()
            self._waiting = None

    def _connect(self) -> None:
        with self._connecting:
            if self._blocking is None:
                if self._secure:
                    channel = grpc.secure_channel(self._target, self._credentials(), options=_OPTIONS)
                else:
                    channel = grpc.insecure_channel(self._target, options=_OPTIONS)
                self._search = _method(channel, "Search", "SearchRequest", "SearchResults")
                self._upsert = _method(channel, "Upsert", "UpsertRequest", "MutationResult")
                self._blocking = channel

    def _credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self._ca)


def _method(channel: grpc.Channel | grpc.aio.Channel, name: str, request: str, response: str) -> Any:
    """One method of Milvus: the generated stub would make each of its hundred, which takes a millisecond."""
    from pymilvus.grpc_gen import milvus_pb2

    return channel.unary_unary(
        f"/milvus.proto.milvus.MilvusService/{name}",
        request_serializer=getattr(milvus_pb2, request).SerializeToString,
        response_deserializer=getattr(milvus_pb2, response).FromString,
    )
