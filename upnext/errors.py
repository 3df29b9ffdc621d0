"""Every error that Upnext raises on purpose.

    UpnextError                    anything below; carries an HTTP status and an exit code
    ├── ConfigError                a setting or a command's option is wrong
    ├── DataError                  what was brought in is not as the contract says
    │   ├── MissingData            a file, folder, table or column is not there
    │   ├── CorruptData            it is there and cannot be read
    │   ├── EmptyData              it is there and holds nothing to work on
    │   ├── TooLittleData          it is there, and too little to tell anything by
    │   ├── SuiteFailed            it does not meet what was expected of it, so nothing is trained on it
    │   └── SkewFound              features are not served as they are computed
    ├── InvalidRequest             a client's request is wrong
    │   └── InvalidEvent           one engagement event is refused
    ├── AccessError                whoever asks may not
    │   ├── UnknownKey             no key, or none that is valid
    │   ├── AccessDenied           the key lacks the scope
    │   └── TooManyRequests        the key has asked too often
    ├── NotFound                   a video, user or release that nobody knows
    ├── StoreError                 an outside system failed
    │   ├── StoreUnavailable       it does not answer, or not in time
    │   └── StoreReadOnly          it answers and refuses to write
    └── ReleaseError               a bundle must not be used
        ├── ReleaseCorrupt         a file is missing or its checksum differs
        ├── LayoutMismatch         its feature layout is not the one in use
        └── CandidateRefused       the gate said no to what was trained

A message says what was wrong, with what value, and what to do about it. Errors of the libraries behind
an adapter are mapped to these at the adapter, with the original as ``__cause__``.
"""

from typing import ClassVar


class UpnextError(Exception):
    """Root of the tree: catch this to catch everything that Upnext raises on purpose."""

    status: ClassVar[int] = 500
    """HTTP status that the API answers with."""
    exit_code: int = 1
    """Status that the command line exits with."""


class ConfigError(UpnextError):
    exit_code = 2


class DataError(UpnextError):
    status = 422
    exit_code = 3


class MissingData(DataError):
    pass


class CorruptData(DataError):
    pass


class EmptyData(DataError):
    pass


class TooLittleData(DataError):
    pass


class SuiteFailed(DataError):
    pass


class SkewFound(DataError):
    exit_code = 8


class InvalidRequest(UpnextError):
    status = 422
    exit_code = 2


class InvalidEvent(InvalidRequest):
    pass


class AccessError(UpnextError):
    """``headers``: what the answer tells beside the message."""

    exit_code = 2

    def __init__(self, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.headers = dict(headers or {})


class UnknownKey(AccessError):
    status = 401


class AccessDenied(AccessError):
    status = 403


class TooManyRequests(AccessError):
    status = 429


class NotFound(UpnextError):
    status = 404
    exit_code = 4


class StoreError(UpnextError):
    status = 503
    exit_code = 5


class StoreUnavailable(StoreError):
    pass


class StoreReadOnly(StoreError):
    pass


class ReleaseError(UpnextError):
    exit_code = 6


class ReleaseCorrupt(ReleaseError):
    pass


class LayoutMismatch(ReleaseError):
    pass


class CandidateRefused(ReleaseError):
    exit_code = 7
