"""Kinds of values that several commands take."""

from datetime import UTC, datetime

import click


class UtcTime(click.ParamType):  # type: ignore[type-arg]
    """A time such as 2026-06-22 or 2026-06-22T06:00:00Z; UTC unless it says otherwise."""

    name = "time"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time: write it as 2026-06-22T06:00:00Z", param, ctx)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
