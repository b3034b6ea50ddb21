"""What the supervisor raises."""

from geofix.errors import GeofixError, Reason


class PlatformError(GeofixError):
    """The platform cannot start, or had to stop; the message says why and what to do."""

    default_reason = Reason.SERVICE_UNAVAILABLE
