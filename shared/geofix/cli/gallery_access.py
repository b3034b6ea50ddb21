"""How `geofix gallery` reaches a gallery, and what it embeds with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geofix.placement import Placement, asked_providers

if TYPE_CHECKING:
    from geofix.bundle import Bundle
    from geofix.gallery.admin import GalleryAdmin
    from geofix.gallery.layout import GalleryInfo
    from geofix.ingest.embed import Embeds
    from geofix.ingest.on_ray import Cluster

BundleOption = Annotated[
    Path | None,
    typer.Option(help="Directory of the bundle; default $GEOFIX_BUNDLE, else bundles/orbit.", show_default=False),
]
AdminOption = Annotated[
    str,
    typer.Option(
        "--admin",
        envvar="GEOFIX_ADMIN_ADDR",
        metavar="ADDR",
        help="host:port of retrieval's admin listener; default: the `geofix up` that runs here.",
    ),
]
DataDirOption = Annotated[
    Path | None, typer.Option(help="Data directory of that `geofix up`; default $GEOFIX_DATA_DIR.", show_default=False)
]
ClassifierOption = Annotated[
    str,
    typer.Option(
        "--classifier",
        envvar="GEOFIX_CLASSIFIER_ADDR",
        metavar="ADDR",
        help="host:port of a running classifier to embed with, in place of this process.",
    ),
]
EmbedderOption = Annotated[
    str, typer.Option("--embedder", envvar="GEOFIX_EMBEDDER_ADDR", metavar="ADDR", help="The same of the embedder.")
]


def chosen_bundle(bundle: Path | None) -> Bundle:
    """The bundle that is meant, its hashes checked.

    Raises:
        MismatchError: it is not whole.
    """
    from geofix.bundle import Bundle
    from geofix.cli.up import DEFAULT_BUNDLE

    return Bundle.load(bundle or Path(os.environ.get("GEOFIX_BUNDLE") or DEFAULT_BUNDLE))


@contextlib.contextmanager
def opened(bundle: Bundle, admin: str, data_dir: Path | None) -> Iterator[GalleryAdmin]:
    """The gallery: through the admin listener that is named, in the Milvus of GEOFIX_MILVUS_URI, or that of `geofix up` here.

    Where `geofix up` runs, its Milvus Lite is locked, so it is asked; where it does not, its directory is opened.

    Raises:
        Unavailable: it cannot be reached.
    """
    from geofix.gallery.admin import DirectAdmin
    from geofix.gallery.store import Store
    from geofix.platform.directory import DataDirectory, default_data_dir

    address = admin_address(admin, data_dir)
    access: GalleryAdmin
    if address or os.environ.get("GEOFIX_MILVUS_URI"):
        access = open_server(address, bundle)
    else:
        milvus = DataDirectory(data_dir or default_data_dir()).milvus(bundle)
        milvus.parent.mkdir(parents=True, exist_ok=True)
        access = DirectAdmin(Store(str(milvus), create=True), bundle)
    try:
        yield access
    finally:
        access.close()


def admin_address(admin: str, data_dir: Path | None) -> str:
    """The admin listener that is meant; empty where none is named and none runs here, or GEOFIX_MILVUS_URI says where."""
    from geofix.platform.directory import default_data_dir, running_admin

    if admin or os.environ.get("GEOFIX_MILVUS_URI"):
        return admin
    return running_admin(data_dir or default_data_dir()) or ""


def open_server(address: str, bundle: Bundle) -> GalleryAdmin:
    """The gallery through the admin listener at an address; without one, in the Milvus of GEOFIX_MILVUS_URI.

    Raises:
        Unavailable: it cannot be reached.
    """
    from geofix.cli.connect import tls_from_environment, token_of
    from geofix.gallery.admin import DirectAdmin
    from geofix.gallery.remote import RemoteAdmin
    from geofix.gallery.settings import MilvusSettings

    if address:
        return RemoteAdmin(address, tls_from_environment(), token_of(None))
    return DirectAdmin(MilvusSettings.from_environment().open_milvus(), bundle)


def version_named(admin: GalleryAdmin, bundle: Bundle, name: str) -> GalleryInfo:
    """The version of that name or label, or with `live` the live one.

    Raises:
        NotFound: there is none. InvalidInput: there are several.
        MismatchError: GALLERY_MISMATCH; it was built for another bundle.
    """
    from geofix.errors import MismatchError, NotFound, Reason

    infos, live = admin.versions()
    wanted = live if name == "live" else name
    prefix = f"{bundle.gallery_alias}_{name}"
    found = [i for i in infos if i.name in (wanted, prefix) or i.name[:-9] == prefix]
    if not found:
        raise NotFound(f"there is no gallery version {name}; `geofix gallery list` names those that there are")
    if found[-1].model_version != bundle.version:
        raise MismatchError(
            f"the gallery {found[-1].name} was built for {found[-1].model_version}, this is {bundle.version}: name that "
            "bundle with --bundle, or build a version for this one",
            Reason.GALLERY_MISMATCH,
            {"model_version": bundle.version, "gallery_model_version": found[-1].model_version},
        )
    return found[-1]


def chosen_networks(bundle: Bundle, classifier: str, embedder: str, cores: int | None = None) -> Embeds:
    """Services where they are named, else the bundle's networks in this process, on so many cores (none: all).

    Raises:
        ConfigurationError: neither is to be had.
    """
    from geofix.cli.connect import tls_from_environment
    from geofix.errors import ConfigurationError
    from geofix.ingest.embed import LocalNetworks, Services

    if classifier and embedder:
        return Services(bundle, classifier, embedder, tls_from_environment())
    if find_spec("onnxruntime") is None:
        raise ConfigurationError(
            "there is no ONNX Runtime here: pip install 'geofix[gallery,cpu]', or name running services with --classifier and "
            "--embedder"
        )
    return LocalNetworks(bundle, asked_providers(), cores)


def ray_cluster(
    bundle: Bundle, admin: str, data_dir: Path | None, classifier: str, embedder: str, workers: int
) -> Cluster:
    """What the workers of Ray need to add to this gallery.

    Raises:
        ConfigurationError: they cannot reach it, for it is a Milvus Lite that this process has open.
    """
    from geofix.bundle import Bundle
    from geofix.errors import ConfigurationError
    from geofix.gallery.store import is_server
    from geofix.ingest.on_ray import Cluster

    address = admin_address(admin, data_dir)
    if not address and not is_server(os.environ.get("GEOFIX_MILVUS_URI", "")):
        raise ConfigurationError(
            "--engine ray: the workers cannot share a Milvus Lite directory: start `geofix up`, name a retrieval service with "
            "--admin, or a Milvus server in GEOFIX_MILVUS_URI"
        )
    on_cpu = Placement(asked_providers()).on_cpu
    return Cluster(
        partial(Bundle.load, bundle.directory.resolve()),
        partial(open_server, address),
        partial(chosen_networks, classifier=classifier, embedder=embedder, cores=1),
        workers,
        gpus=0.0 if on_cpu or (classifier and embedder) else 1.0,
    )
