"""Videos and users as the platform writes and reads them, over their stores."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Lock
from typing import Any, Generic, Self, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from serving.breakers import Breaker
from serving.clock import wall_clock
from serving.problems import FieldError, field_error
from serving.standing import Barred, state_of
from upnext.contracts import USERS, VIDEOS, User, Video, strictly
from upnext.errors import InvalidRequest, NotFound, StoreUnavailable
from upnext.ports import Catalogue, Profiles

MOST = 1_000
"""Entries of one bulk call at most."""
PATIENCE_S = 5.0
"""Seconds after which a store counts as failing here, where no viewer waits."""
M = TypeVar("M", bound=BaseModel)


class Wrong(InvalidRequest):
    """A document that is not as its contract says; ``errors`` by field."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.reason}" for error in errors))
        self.errors = errors


class RefusedDocument(BaseModel):
    """Why one entry was refused."""

    index: int
    """Its place in the call."""
    id: str | None
    errors: list[FieldError]


class Upsert(BaseModel):
    """What became of the entries of one call."""

    written: int
    refused: list[RefusedDocument]


@dataclass(frozen=True)
class Resource(Generic[M]):
    """One kind of document by its id. Writes of one process take turns, so that none is lost in a PATCH."""

    kind: str
    model: type[M]
    key: str
    """Field that holds the id."""
    born: str
    """Field that is the time of the first write where the platform does not say."""
    read: Callable[[Sequence[str]], Mapping[str, Mapping[str, Any]]]
    """Rows by id, of those ids that there are."""
    store: Callable[[Sequence[M]], None]
    now: Callable[[], datetime] = wall_clock
    _lock: Lock = field(default_factory=Lock, repr=False)

    def behind(self, breaker: Breaker) -> Self:
        """The same documents, their store read and written through a breaker."""
        read, store = self.read, self.store
        return replace(
            self,
            read=lambda id_: breaker.call(lambda: read(id_), PATIENCE_S),
            store=lambda documents: breaker.call(lambda: store(documents), PATIENCE_S),
        )

    def get(self, id_: str) -> M:
        """NotFound where there is none."""
        row = self.read([id_]).get(id_)
        if row is None:
            raise NotFound(f"{self.key} is {id_!r}: there is no such {self.kind}")
        return self._of(row)

    def put(self, id_: str, document: Any) -> tuple[M, bool]:
        """Write a whole document; also whether it is new."""
        named = self._named(id_, document)
        with self._turn():
            there = self.read([id_]).get(id_)
            made = self._made(named, there)
            self.store([made])
        return made, there is None

    def patch(self, id_: str, patch: Any) -> M:
        """Change some fields, as RFC 7396 says: null takes a field away, a list is replaced as a whole."""
        named = self._named(id_, patch)
        with self._turn():
            document = self.get(id_).model_dump()
            merged = {name: value for name, value in (document | named).items() if value is not None}
            made = self._made(merged, document)
            self.store([made])
        return made

    def upsert(self, entries: Sequence[Any]) -> Upsert:
        """Write many; each is taken or refused on its own, and of one id the last counts."""
        good: dict[str, M] = {}
        refused: list[RefusedDocument] = []
        named = [entry.get(self.key) if isinstance(entry, dict) else None for entry in entries]
        ids = [id_ if isinstance(id_, str) else None for id_ in named]
        with self._turn():
            there = self.read([id_ for id_ in dict.fromkeys(ids) if id_])
            for index, (id_, entry) in enumerate(zip(ids, entries, strict=True)):
                try:
                    made = self._made(entry, there.get(id_) if id_ else None, index)
                except Wrong as error:
                    refused.append(RefusedDocument(index=index, id=id_, errors=error.errors))
                else:
                    good[str(id_)] = made
            if good:
                self.store(list(good.values()))
        return Upsert(written=len(entries) - len(refused), refused=refused)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One write at a time, of this process; StoreUnavailable where those before it take too long."""
        if not self._lock.acquire(timeout=PATIENCE_S):
            raise StoreUnavailable(f"earlier writes of {self.kind}s take too long: send it again")
        try:
            yield
        finally:
            self._lock.release()

    def _named(self, id_: str, document: Any) -> dict[str, Any]:
        """A document with the id of its path."""
        if not isinstance(document, dict):
            reason = f"is no JSON object: send the fields of a {self.kind}"
            raise Wrong([FieldError(field="body", reason=reason)])
        if document.get(self.key, id_) != id_:
            reason = f"differs from {id_!r} in the path: leave it out, or send it to its own path"
            raise Wrong([FieldError(field=self.key, value=str(document[self.key])[:200], reason=reason)])
        return document | {self.key: id_}

    def _made(self, document: Any, there: Mapping[str, Any] | None, *prefix: int) -> M:
        try:
            made = strictly(self.model, document)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            raise Wrong([field_error(each, *prefix) for each in found]) from error
        if getattr(made, self.born) is None:
            first = (there or {}).get(self.born) or self.now()
            made = made.model_copy(update={self.born: first})
        return made

    def _of(self, row: Mapping[str, Any]) -> M:
        return self.model.model_validate({name: value for name, value in row.items() if value is not None})


def videos(catalogue: Catalogue, barred: Barred) -> Resource[Video]:
    """The catalogue's videos; what is written as blocked or deleted is barred at once."""

    def read(ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        rows = catalogue.get(ids).to_pylist()
        return {row["video_id"]: row for row in rows if row["status"] != "deleted"}

    def store(documents: Sequence[Video]) -> None:
        catalogue.put(pa.Table.from_pylist([each.model_dump() for each in documents], schema=VIDEOS))
        barred.note({each.video_id: state_of(each.status, each.age_restricted) for each in documents})

    return Resource("video", Video, "video_id", "uploaded_at", read, store)


def users(profiles: Profiles) -> Resource[User]:
    """The profiles of users."""

    def read(ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        return {user_id: row for user_id in ids if (row := profiles.get(user_id)) is not None}

    def store(documents: Sequence[User]) -> None:
        profiles.put(pa.Table.from_pylist([each.model_dump() for each in documents], schema=USERS))

    return Resource("user", User, "user_id", "created_at", read, store)
