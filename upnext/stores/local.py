"""Folders and files of the local profile: made on first use, refusals named with path and remedy."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upnext.errors import MissingData, StoreError, StoreReadOnly

REMEDY = "make it writable for this user, or point UPNEXT_HOME at a folder that is"


def read_only(path: Path | str) -> StoreReadOnly:
    return StoreReadOnly(f"{path} cannot be written: {REMEDY}")


def writable(path: Path) -> bool:
    """Whether this process may write to a file or folder, or make it below the nearest one that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return os.access(path, os.W_OK, effective_ids=True)


def prepare_folder(path: Path) -> Path:
    """Make a folder, with its parents, that can be written to; StoreReadOnly when it cannot."""
    with os_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    if not writable(path):
        raise read_only(path)
    return path


@contextmanager
def os_errors(path: Path | str) -> Iterator[None]:
    """Map what the operating system refuses about a path to Upnext's errors."""
    try:
        yield
    except OSError as error:
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise read_only(path) from error
        if isinstance(error, FileNotFoundError):
            raise MissingData(f"{path} is not there") from error
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StoreError(f"no space is left for {path}: free some, nothing was changed") from error
        raise StoreError(f"{path}: {error}") from error
