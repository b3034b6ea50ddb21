"""The collections of a gallery version in Milvus: made, marked with how far it has come, dropped. Each step may be repeated."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from geofix.gallery.contents import WRITE_TIMEOUT_S
from geofix.gallery.layout import (
    METRIC,
    SET_ASIDE,
    THUMBNAILS,
    GalleryInfo,
    partition_name,
    schema,
    set_aside_schema,
    thumbnails_schema,
)
from geofix.gallery.store import CALL_TIMEOUT_S, Store


def make(store: Store, info: GalleryInfo) -> GalleryInfo:
    """Create what of a version's collections, partitions and indexes is not there yet, and load them."""
    names = [partition_name(index, info.partitions) for index in range(info.partitions)]
    _make(store, info.name, schema(info.embedding_dim), "embedding", info.properties(), names)
    if info.feature_dim:
        _make(store, info.name + SET_ASIDE, set_aside_schema(info.feature_dim), "feature", {}, [])
    if info.thumbnails:
        _make(store, info.name + THUMBNAILS, thumbnails_schema(), "nothing", {}, [])
    return info


def mark(store: Store, name: str, **changes: object) -> None:
    """Write down attributes of `GalleryInfo` by their names, all of them at once."""
    _alter(store, name, {f"geofix.{key}": str(value) for key, value in changes.items()})
    if not store.lite:
        # Milvus 2.3.5 saves what was there before the last change (milvus-io/milvus#30144), and nothing where nothing changes.
        _alter(store, name, {"geofix.saved": secrets.token_hex(8)})


def _alter(store: Store, name: str, properties: dict[str, str]) -> None:
    with store.alone():
        store.client.alter_collection_properties(name, properties=properties, timeout=CALL_TIMEOUT_S)


def flush(store: Store, name: str) -> None:
    """Have Milvus put a version's rows where a crash of the machine does not reach them."""
    with store.alone():
        store.client.flush(name, timeout=WRITE_TIMEOUT_S)


def point(store: Store, alias: str, name: str) -> None:
    """Make the alias name a loaded version: one step, before which it names the old one and after which the new one."""
    live = store.resolve(alias)
    with store.alone():
        if live is None:
            store.client.create_alias(name, alias, timeout=CALL_TIMEOUT_S)
        else:
            store.client.alter_alias(name, alias, timeout=CALL_TIMEOUT_S)


def drop(store: Store, name: str, alias: str) -> None:
    """Drop a version and what lies beside it, and the alias if it names the version."""
    with store.alone():
        # the version last: it says what else there is
        for collection in (name + THUMBNAILS, name + SET_ASIDE, name):
            if not store.client.has_collection(collection, timeout=CALL_TIMEOUT_S):
                continue
            if collection == store.resolve(alias):  # Milvus drops nothing that an alias names
                store.client.drop_alias(alias, timeout=CALL_TIMEOUT_S)
            store.client.drop_collection(collection, timeout=WRITE_TIMEOUT_S)


def now() -> str:
    """The time as it is written down: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _make(
    store: Store, name: str, fields: Any, vector: str, properties: Mapping[str, str], partitions: list[str]
) -> None:
    client = store.client
    with store.alone():
        if not client.has_collection(name, timeout=CALL_TIMEOUT_S):
            client.create_collection(
                name,
                schema=fields,
                properties=dict(properties),
                consistency_level="Bounded",
                timeout=WRITE_TIMEOUT_S,
            )
        if partitions:
            there = set(client.list_partitions(name, timeout=CALL_TIMEOUT_S))
            for partition in partitions:
                if partition not in there:
                    client.create_partition(name, partition, timeout=CALL_TIMEOUT_S)
        if not client.list_indexes(name):
            index = client.prepare_index_params()
            index.add_index(vector, index_type="FLAT", metric_type=METRIC)
            client.create_index(name, index, timeout=WRITE_TIMEOUT_S)
    store.load(name)
