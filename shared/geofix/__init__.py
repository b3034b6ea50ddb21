"""geofix: find out where on Earth an image was taken, and how sure that is.

The client's names are imported on first use, so that `import geofix` costs nothing to a service that needs none of them.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own constant would cost an import of it, in which a Ctrl-C is a traceback
if TYPE_CHECKING:
    from geofix.client import AsyncClient, Client, LocateOptions, Location, RetryPolicy, ServiceInfo, Tls
    from geofix.errors import (
        AccessDenied,
        ConfigurationError,
        DeadlineExceeded,
        GeofixError,
        InternalError,
        InvalidInput,
        MismatchError,
        NotFound,
        Overloaded,
        PermissionDenied,
        Reason,
        Unavailable,
    )

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "Client",
    "ConfigurationError",
    "DeadlineExceeded",
    "GeofixError",
    "InternalError",
    "InvalidInput",
    "LocateOptions",
    "Location",
    "MismatchError",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "Reason",
    "RetryPolicy",
    "ServiceInfo",
    "Tls",
    "Unavailable",
    "__version__",
]

_CLIENT = {"AsyncClient", "Client", "LocateOptions", "Location", "RetryPolicy", "ServiceInfo", "Tls"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module("geofix.client" if name in _CLIENT else "geofix.errors")
    value: object = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
