"""Online features in an LMDB environment: a memory-mapped file that many processes read and one writes.

Each view is a named database in it. The map starts small and is doubled when it is full; other processes
take over the new size at their next transaction.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Self, TypeVar

import lmdb

from upnext.errors import ConfigError, CorruptData, InvalidRequest, StoreError
from upnext.settings import Settings
from upnext.stores.gate import Gate
from upnext.stores.local import prepare_folder, read_only, writable
from upnext.stores.urls import local_path, masked

T = TypeVar("T")
MAP_BYTES = 1 << 28
"""First size of the map: address space, not disk."""
_MAX_VIEWS = 256
_MAX_READERS = 1024
_MAX_KEY = 511
"""Bytes in a key of LMDB as it is commonly built."""
_EMPTY = "an id is empty: every value belongs to an entity"


class Environment:
    """An LMDB environment shared by all who open its folder in this process, as LMDB requires."""

    _open: ClassVar[dict[tuple[int, Path], "Environment"]] = {}
    _opening: ClassVar[Lock] = Lock()

    def __init__(self, path: Path, map_bytes: int) -> None:
        self.path = path
        self._users = 0
        self._gate = Gate()
        self._handles: dict[bytes, Any] = {}
        with self._errors():
            self._lmdb: Any = lmdb.open(
                str(path),
                map_size=max(map_bytes, _file_bytes(path)),
                max_dbs=_MAX_VIEWS,
                max_readers=_MAX_READERS,
                readahead=False,
            )
            self._lmdb.reader_check()  # frees what killed processes held

    @classmethod
    def share(cls, path: Path, map_bytes: int = MAP_BYTES) -> "Environment":
        """The environment of a folder, opened when nobody in this process has it open."""
        path = prepare_folder(path).resolve()
        if not writable(path / "data.mdb"):
            raise read_only(path / "data.mdb")
        with cls._opening:
            key = (os.getpid(), path)  # a forked child must not use its parent's
            environment = cls._open.get(key)
            if environment is None:
                environment = cls._open[key] = cls(path, map_bytes)
            environment._users += 1
            return environment

    def release(self) -> None:
        """Close the environment when its last user has let go."""
        with Environment._opening:
            self._users -= 1
            if self._users == 0:
                Environment._open.pop((os.getpid(), self.path), None)
                with self._gate.alone():
                    self._lmdb.close()

    def transact(
        self,
        work: Callable[[Any], T],
        view: Any | None = None,
        *,
        write: bool = False,
        buffers: bool = False,
    ) -> T:
        """The result of ``work(transaction)``; repeated in a larger map when this one is full.

        ``view`` is the handle that the transaction works on where it names none. With ``buffers`` values are
        views of the map, good until the transaction ends.
        """
        while True:
            size = self._lmdb.info()["map_size"]
            try:
                with (
                    self._errors(),
                    self._gate.shared(),
                    self._lmdb.begin(view, None, write, buffers) as transaction,
                ):
                    return work(transaction)
            except lmdb.MapFullError:
                self._resize(size, 2 * size)
            except lmdb.MapResizedError:
                self._resize(size, 0)

    def view(self, name: bytes, *, create: bool = False) -> Any | None:
        """The handle of a view; None when there is none and none is to be made."""
        if name not in self._handles:
            if not create and not self.transact(lambda txn: txn.cursor().set_key(name)):
                return None
            self._handles[name] = self.transact(lambda txn: self._lmdb.open_db(name, txn=txn), write=True)
        return self._handles[name]

    def version(self) -> str:
        return ".".join(map(str, lmdb.version()))

    def _resize(self, seen: int, size: int) -> None:
        with self._errors(), self._gate.alone():  # a map must not move under a transaction
            if self._lmdb.info()["map_size"] == seen:
                self._lmdb.set_mapsize(size)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Map what LMDB raises to Upnext's errors, save for the two about the map's size."""
        try:
            yield
        except (lmdb.MapFullError, lmdb.MapResizedError):
            raise
        except (lmdb.CorruptedError, lmdb.InvalidError, lmdb.VersionMismatchError) as error:
            raise CorruptData(f"{self.path} is no readable LMDB environment: remove it") from error
        except lmdb.BadValsizeError as error:
            raise InvalidRequest(_EMPTY) from error
        except lmdb.DbsFullError as error:
            raise StoreError(f"{self.path} already holds {_MAX_VIEWS} views: drop some") from error
        except (lmdb.Error, OSError) as error:
            raise StoreError(f"{self.path}: {error}; is there space left on the disk?") from error


class LmdbFeatures:
    """One packed value per view and id."""

    def __init__(self, path: Path, map_bytes: int = MAP_BYTES) -> None:
        self._environment = Environment.share(path, map_bytes)

    @classmethod
    def open(cls, url: str, settings: Settings) -> Self:
        path = local_path(url)
        if path is None:
            raise ConfigError(f"{masked(url)!r} names no folder: write lmdb:///folder")
        return cls(path)

    def ping(self) -> str:
        return f"LMDB {self._environment.version()}, {len(self.views())} views"

    def close(self) -> None:
        self._environment.release()

    def put(self, view: str, ids: Sequence[str], values: Sequence[bytes]) -> None:
        items = sorted(dict(zip(_keys(ids), values, strict=True)).items())
        if items:
            handle = self._environment.view(_name(view), create=True)
            self._environment.transact(lambda txn: txn.cursor(handle).putmulti(items), write=True)

    def get(self, view: str, ids: Sequence[str]) -> list[bytes | None]:
        keys = _keys(ids)
        handle = self._environment.view(_name(view))
        if handle is None:
            return [None] * len(keys)
        return self._environment.transact(lambda txn: list(map(txn.get, keys)), handle)

    def get_joined(self, view: str, ids: Sequence[str], absent: bytes) -> bytes:
        handle = self._environment.view(_name(view))
        if handle is None:
            return absent * len(_keys(ids))
        keys = list(map(str.encode, ids))  # looked at more closely only where one is not found

        def joined(txn: Any) -> bytes:
            found = list(map(txn.get, keys))
            try:
                return b"".join(found)
            except TypeError:  # None among them
                lacking = [place for place, value in enumerate(found) if value is None]
                for place, key in zip(lacking, _keys([ids[place] for place in lacking]), strict=True):
                    found[place] = txn.get(key, absent)
                return b"".join(found)

        return self._environment.transact(joined, handle, buffers=True)

    def delete(self, view: str, ids: Sequence[str]) -> int:
        keys = _keys(ids)
        handle = self._environment.view(_name(view))
        if handle is None:
            return 0
        return self._environment.transact(
            lambda txn: sum(bool(txn.delete(key, db=handle)) for key in keys), write=True
        )

    def count(self, view: str) -> int:
        handle = self._environment.view(_name(view))
        return 0 if handle is None else self._environment.transact(lambda txn: _entries(txn, handle))

    def drop(self, view: str) -> None:
        handle = self._environment.view(_name(view))
        if handle is not None:  # emptied rather than removed: other processes hold handles to it
            self._environment.transact(lambda txn: txn.drop(handle, delete=False), write=True)

    def views(self) -> list[str]:
        names = self._environment.transact(lambda txn: [bytes(key) for key, _ in txn.cursor()])
        return sorted(view for view in map(bytes.decode, names) if self.count(view))


def _entries(transaction: Any, handle: Any) -> int:
    return int(transaction.stat(handle)["entries"])


def _name(view: str) -> bytes:
    name = view.encode()
    if not 0 < len(name) <= _MAX_KEY:
        raise ConfigError(f"{view!r} is no name for a view: use 1 to {_MAX_KEY} bytes")
    return name


def _keys(ids: Sequence[str]) -> list[bytes]:
    """The ids' bytes; of those too long for LMDB a digest, behind a byte that begins no UTF-8 text."""
    if "" in ids:
        raise InvalidRequest(_EMPTY)
    keys = list(map(str.encode, ids))
    if max(map(len, keys), default=0) > _MAX_KEY:
        keys = [key if len(key) <= _MAX_KEY else b"\xff" + blake2b(key).digest() for key in keys]
    return keys


def _file_bytes(path: Path) -> int:
    file = path / "data.mdb"
    return file.stat().st_size if file.exists() else 0
