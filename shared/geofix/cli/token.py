"""`geofix token`: a token for a client, and the line by which a service knows it."""

from __future__ import annotations

from typing import Annotated

import typer


def token(
    name: Annotated[str, typer.Argument(help="Who will use it; the name in logs.")],
    role: Annotated[
        list[str] | None, typer.Option(help="locate or admin; may be given twice. Default: locate.", show_default=False)
    ] = None,
) -> None:
    """Make a token, and print it with its line for GEOFIX_TOKENS_FILE: the file holds no token, only its hash."""
    from geofix.access.callers import LOCATE
    from geofix.access.static import line, new_token

    made = new_token()
    try:
        entry = line(name, made, frozenset(role or [LOCATE]))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"token, shown this once: {made}")
    typer.echo(f"line for the file:      {entry}")
