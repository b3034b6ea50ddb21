"""The stores: Milvus with the live gallery, and Redis or Valkey."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geofix.cli.checks.finding import Finding, Place, good, note, wrong
from geofix.errors import GeofixError
from geofix.watched import read_secret

_MOST_SKEW_S = 5.0
_PASSWORD = "GEOFIX_REDIS_PASSWORD_FILE"  # noqa: S105  # the name of a setting


def stores(place: Place) -> Iterator[Finding]:
    """All of them."""
    yield from milvus(place)
    yield from redis(place.redis_url, place.redis_password_file)


def milvus(place: Place) -> Iterator[Finding]:
    """Whether Milvus answers, and its live gallery belongs to the bundle."""
    from geofix.gallery.settings import MilvusSettings
    from geofix.gallery.store import is_server, redacted

    uri = place.milvus_uri
    if not uri:
        yield good("Milvus", "embedded: geofix up starts it")
        return
    if not is_server(uri) and not Path(uri).is_dir():
        yield wrong(
            "Milvus",
            f"GEOFIX_MILVUS_URI: {uri} is neither a server's address nor an existing directory",
            "write http://host:19530, or unset it for the embedded one",
        )
        return
    try:
        with MilvusSettings(milvus_uri=uri).open_milvus() as store:  # credentials as services take them
            yield good("Milvus", f"{_server_version(store)} at {redacted(uri)}")
            yield gallery(store, place)
    except ImportError:
        yield wrong("Milvus", "pymilvus is not installed", "pip install 'geofix[up]'")
    except GeofixError as error:
        yield wrong("Milvus", error.message, "start it, or correct GEOFIX_MILVUS_URI and what else begins so")


def gallery(store: Any, place: Place) -> Finding:
    """Whether the bundle's alias names a gallery that was built with it."""
    from geofix.bundle import Bundle

    try:
        bundle = Bundle.describe(place.bundle)
    except GeofixError:
        return note("gallery", "without a bundle there is nothing to compare it with")
    live = store.resolve(bundle.gallery_alias)
    if live is None:
        return wrong("gallery", f"there is no alias {bundle.gallery_alias}", "load the gallery: geofix up does, once")
    found = store.describe(live)
    if found is None or found.model_version != bundle.version:
        built = "nothing" if found is None else found.model_version
        return wrong(
            "gallery",
            f"{live} was built with {built}, the bundle is {bundle.version}",
            "serve that bundle, or load a gallery of this one",
        )
    return good(
        "gallery", f"{live}: {found.images:,} images in {found.cells:,} cells, built with {found.model_version}"
    )


def redis(url: str, password_file: Path | None = None) -> Iterator[Finding]:
    """Whether Redis or Valkey answers, and its clock goes with ours."""
    name = "Redis"
    if not url:
        yield good(name, "embedded: geofix up starts Valkey")
        return
    try:
        import redis as library
    except ImportError:
        yield wrong(name, "the package redis is not installed", "pip install 'geofix[up]'")
        return
    try:
        password = {} if password_file is None else {"password": read_secret(password_file, _PASSWORD)}
        client = library.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2, **password)
    except GeofixError as error:
        yield wrong(name, error.message, "write the password into it, readable for who runs the gateway")
        return
    except ValueError as error:
        yield wrong(name, f"GEOFIX_REDIS_URL is no URL of a Redis: {error}", "write redis://host:6379/0")
        return
    try:
        told: dict[str, Any] = client.info("server")
        seconds, micros = client.time()
    except (library.RedisError, OSError) as error:
        yield wrong(
            name, f"it does not answer: {error}", "start it, or correct GEOFIX_REDIS_URL; without it nothing is cached"
        )
        return
    finally:
        client.close()
    kind = f"Valkey {told['valkey_version']}" if "valkey_version" in told else f"Redis {told.get('redis_version', '?')}"
    skew = seconds + micros / 1e6 - time.time()
    if abs(skew) > _MOST_SKEW_S:
        yield note(name, f"{kind}, whose clock is {skew:+.0f} s off this one's", "set both by NTP")
    else:
        yield good(name, kind)


def _server_version(store: Any) -> str:
    if store.embedded:
        return "Milvus Lite"
    with store.errors():
        return f"Milvus {store.client.get_server_version(timeout=5)}"
