"""Vectors on the wire: what is none of this model's is refused, whatever its values are."""

from __future__ import annotations

import numpy as np
import pytest

from geofix.errors import InvalidInput, Reason
from geofix.vectors import pack_vector, unpack_vector

DIM = 4
UNIT = [0.5, -0.5, 0.5, 0.5]


def test_a_vector_comes_back_as_it_went() -> None:
    assert unpack_vector(pack_vector(UNIT), DIM, Reason.EMBEDDING_INVALID, unit=True).tolist() == UNIT


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (UNIT[:3], "has 12 bytes; this model's has 16"),
        ([np.nan, 0, 0, 1], "not finite"),
        ([0, 0, 0, 2], "norm 2; it must be a unit vector"),
        ([3e38] * DIM, r"norm 6e\+38; it must be a unit vector"),  # its square overflows in float32
        ([0] * DIM, "norm 0; it must be a unit vector"),
    ],
)
def test_what_is_no_unit_vector_of_the_model_is_refused(values: list[float], said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        unpack_vector(pack_vector(values), DIM, Reason.EMBEDDING_INVALID, unit=True)
    assert caught.value.reason is Reason.EMBEDDING_INVALID
