"""The call of Milvus that fills a gallery, as a message of our own.

pymilvus's client packs rows value by value, which takes longer than all else that a row costs; benchmarks/retrieval.py compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geofix.gallery.rows import ImageRow


def upsert_message(collection: str, partition: str, rows: Sequence[ImageRow]) -> Any:
    """The request that writes rows into a partition, in place of those of the same id; see `layout.schema`."""
    from pymilvus.grpc_gen import milvus_pb2, schema_pb2

    kinds, scalars = schema_pb2.DataType, schema_pb2.ScalarField

    def column(name: str, kind: Any, **values: Any) -> Any:
        return schema_pb2.FieldData(field_name=name, type=kind, scalars=scalars(**values))

    vectors = np.stack([row.embedding for row in rows]).astype("<f4", copy=False)
    floats = schema_pb2.FloatArray(data=vectors.ravel().tolist())  # from an array it would take ten times as long
    embedding = schema_pb2.VectorField(dim=vectors.shape[1], float_vector=floats)
    return milvus_pb2.UpsertRequest(
        collection_name=collection,
        partition_name=partition,
        num_rows=len(rows),
        fields_data=[
            column("id", kinds.VarChar, string_data=schema_pb2.StringArray(data=[row.id for row in rows])),
            column("cell_id", kinds.Int64, long_data=schema_pb2.LongArray(data=[row.cell_id for row in rows])),
            schema_pb2.FieldData(field_name="embedding", type=kinds.FloatVector, vectors=embedding),
            column("lat", kinds.Double, double_data=schema_pb2.DoubleArray(data=[row.lat for row in rows])),
            column("lon", kinds.Double, double_data=schema_pb2.DoubleArray(data=[row.lon for row in rows])),
            column("payload", kinds.VarChar, string_data=schema_pb2.StringArray(data=[row.payload() for row in rows])),
        ],
    )
