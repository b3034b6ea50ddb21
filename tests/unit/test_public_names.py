"""What `geofix` and `geofix.client` offer is there, is documented, and costs nothing until it is used."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import geofix
from geofix import errors


@pytest.mark.parametrize("module", ["geofix", "geofix.client"])
def test_every_public_name_is_there_and_documented(module: str) -> None:
    offered = importlib.import_module(module)
    assert len(offered.__all__) == len(set(offered.__all__))
    for name in offered.__all__:
        value = getattr(offered, name)
        assert isinstance(value, str) or value.__doc__, name
    assert set(offered.__all__) <= set(dir(offered))


def test_every_error_that_a_client_can_raise_is_public() -> None:
    tree = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert tree <= set(geofix.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clients'"):
        _ = geofix.Clients


def test_the_base_install_is_enough_for_answers_maps_and_areas() -> None:
    """Without the modules that only extras bring."""
    code = (
        "import sys; lacking = ['PIL', 's2cell', 'pyarrow', 'sklearn', 'onnxruntime', 'pymilvus', 'redis'];"
        "sys.modules.update(dict.fromkeys(lacking));"
        "from geofix import LocateOptions, Location; from geofix.area import Circle;"
        "LocateOptions(area=Circle(1, 2, 3)).message();"
        "place = Location(1, 2, True, 'cell_search', 'posterior', {0.9: 1000.0});"
        "assert '<svg' in place._repr_html_() and place.geojson();"
        "from geofix.client.sources import image_source; image_source(bytes(600_000), True);"
        "import geofix.cli.app, geofix.cli.mapfile, geofix.cli.records, geofix.cli.table"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_importing_geofix_imports_neither_grpc_nor_numpy_nor_pillow() -> None:
    code = (
        "import sys, geofix; heavy = {'grpc', 'numpy', 'PIL'}; assert not heavy & set(sys.modules);"
        "from geofix import Client; Client('127.0.0.1:1').close(); assert 'PIL' not in sys.modules;"
        "assert geofix.AsyncClient.__module__ == 'geofix.client.aio'"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
