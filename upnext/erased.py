"""Who was erased, remembered so that nothing from before brings them back.

An id is not kept: its pseudonym is, HMAC-SHA256 under the installation's secret. A plain hash of an id that
can be guessed would be as good as the id.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from upnext.ports import Erasures
from upnext.secret import derived
from upnext.settings import Settings

PURPOSE = "erased people"


@dataclass(frozen=True)
class Erased:
    """The erasures at one moment: pseudonym -> time of the last one."""

    key: bytes
    times: Mapping[str, datetime]

    @classmethod
    def read(cls, erasures: Erasures, settings: Settings) -> Self:
        return cls(derived(settings, PURPOSE), erasures.all())

    def pseudonym(self, user_id: str) -> str:
        """What stands for an id in the register, 64 hexadecimal digits."""
        return hmac.digest(self.key, user_id.encode(), "sha256").hex()

    def at(self, user_id: str) -> datetime | None:
        """When a user was erased last; None for one who never was."""
        return self.times.get(self.pseudonym(user_id)) if self.times else None

    def including(self, user_id: str, at: datetime) -> Self:
        """These and one more."""
        return replace(self, times={**self.times, self.pseudonym(user_id): at})

    def without(self, rows: pa.Table, time: str) -> pa.Table:
        """The rows that may enter a store: not those of erased users whose column ``time`` is unknown or not
        after the erasure. A person who comes back afterwards is a new one."""
        if not self.times or not len(rows):
            return rows
        users = rows["user_id"].combine_chunks().dictionary_encode()
        known = [self.at(user_id) for user_id in users.dictionary.to_pylist()]
        if not any(known):
            return rows
        erased_at = pa.array(known, pa.timestamp("us", tz="UTC")).take(users.indices)
        told = rows[time].cast(erased_at.type)
        after = pc.fill_null(pc.greater(told, erased_at), False)
        return rows.filter(pc.or_(pc.is_null(erased_at), after))


NOBODY = Erased(b"", {})
"""Where nobody was erased."""
