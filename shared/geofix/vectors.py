"""Vectors on the wire: little-endian float32 bytes (a `repeated float` costs a hundred times more in Python)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geofix.errors import InvalidInput, Reason


def pack_vector(vector: ArrayLike) -> bytes:
    """Bytes of a vector, shape (d,)."""
    return np.ascontiguousarray(vector, "<f4").tobytes()


def unpack_vector(data: bytes, dim: int, reason: Reason, *, unit: bool = False) -> NDArray[np.float32]:
    """The vector, shape (dim,), that `data` holds.

    Raises:
        InvalidInput: with `reason`; the length is wrong, a value is not finite, or (`unit`) the norm is not within 1 ± 0.01.
    """
    what = "embedding" if reason is Reason.EMBEDDING_INVALID else "feature"
    facts = {"expected_bytes": str(4 * dim), "bytes": str(len(data))}
    if len(data) != 4 * dim:
        message = (
            f"the {what} has {len(data)} bytes; this model's has {4 * dim} ({dim} values of little-endian float32)"
        )
        raise InvalidInput(message, reason, facts)
    vector = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
    if not np.isfinite(vector).all():
        raise InvalidInput(f"the {what} has values that are not finite", reason, facts)
    norm = float(np.linalg.norm(vector.astype(float))) if unit else 1.0  # squares of large float32 values overflow
    if abs(norm - 1.0) > 0.01:
        raise InvalidInput(f"the {what} has norm {norm:.4g}; it must be a unit vector", reason, facts)
    return vector
