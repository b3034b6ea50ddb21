"""`--write-exif DIR`: copies of photos with the estimate in their EXIF; the photos themselves are never touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geofix.cli.answers import Answered
from geofix.cli.output import printable, say
from geofix.client import Location
from geofix.client.sources import read_file
from geofix.errors import GeofixError
from geofix.exif_gps import Fix, with_gps


def write_copies(command: str, answers: Sequence[Answered[Location]], directory: Path) -> bool:
    """Write a copy of every photo that could be located; whether none of them failed. What is left out is said."""
    written, failed = 0, 0
    for answered in answers:
        location = answered.value
        if location is None:
            continue
        name, path = printable(answered.source.name), answered.source.path
        if path is None:
            say(f"geofix {command}: {name}: no copy: it is not a file")
            continue
        if not location.localizable:
            say(f"geofix {command}: {name}: no copy: it cannot be located")
            continue
        try:
            _write(path, location, directory)
        except GeofixError as error:
            say(f"geofix {command}: {name}: no copy: {error.message}")
            failed += 1
        except FileExistsError:
            say(f"geofix {command}: {name}: no copy: there is one of that name in {directory}")
            failed += 1
        except OSError as error:
            say(f"geofix {command}: {name}: no copy: {error.strerror}")
            failed += 1
        else:
            written += 1
    say(f"geofix {command}: {written} {'copy' if written == 1 else 'copies'} with a position in {directory}")
    return failed == 0


def _write(photo: Path, location: Location, directory: Path) -> None:
    data = with_gps(read_file(photo), Fix(location.lat, location.lon, location.radius_m(0.9) or 0.0))
    directory.mkdir(parents=True, exist_ok=True)
    copy = directory / photo.name
    with copy.open("xb") as file:  # never over another file
        try:
            file.write(data)
            file.flush()
        except OSError:  # half a photo is worse than none
            copy.unlink(missing_ok=True)
            raise
