"""Ads: where they may stand, and who says what they are. An ad never delays or empties a feed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from serving.postrank import Slate
from serving.rules import AdRules
from upnext.errors import ConfigError, CorruptData, StoreUnavailable
from upnext.settings import Settings
from upnext.stores.urls import masked

DEADLINE_S = 0.020
"""Seconds that an ad server may take."""
LARGEST = 64 << 10
"""Bytes of an ad server's answer at most."""


class Ad(BaseModel):
    """One ad, as an ad server or the house's own list gives it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    ad_id: str = Field(min_length=1, max_length=128)
    title: str = Field(default="", max_length=500)
    advertiser: str | None = Field(default=None, max_length=128)
    click_url: str | None = Field(default=None, max_length=2_000)
    thumbnail_url: str | None = Field(default=None, max_length=2_000)
    duration_ms: int | None = Field(default=None, gt=0, le=86_400_000)


_ADS: TypeAdapter[list[Ad]] = TypeAdapter(list[Ad])


@dataclass(frozen=True)
class AdRequest:
    """What an ad server is told: the moment, and nothing that names the viewer."""

    request_id: str
    surface: str
    count: int
    region: str | None = None
    device: str | None = None


class AdServer(Protocol):
    """Who says what the ads are."""

    def ads(self, request: AdRequest) -> list[Ad]:
        """At most ``count`` ads; StoreUnavailable when they cannot be had in time."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class HouseAds:
    """The platform's own ads, from a JSON file: a list of objects as :class:`Ad`. Taken in turn."""

    known: tuple[Ad, ...]

    @classmethod
    def read(cls, path: Path) -> "HouseAds":
        """The ads of a file; none where there is no file. CorruptData when it is not a list of ads."""
        if not path.is_file():
            return cls(())
        try:
            return cls(tuple(_ADS.validate_json(path.read_bytes())))
        except ValidationError as error:
            raise CorruptData(f"{path} is no list of ads: {error.errors()[0]['msg']}") from error

    def ads(self, request: AdRequest) -> list[Ad]:
        start = int.from_bytes(request.request_id.encode()[-4:], "big")
        count = min(request.count, len(self.known))
        return [self.known[(start + at) % len(self.known)] for at in range(count)]

    def close(self) -> None:
        """Nothing is open."""


class HttpAds:
    """An ad server over HTTP: GET with an :class:`AdRequest` as its query answers a list of ads."""

    def __init__(self, url: str, deadline_s: float = DEADLINE_S) -> None:
        self._url = httpx.URL(url)
        self._client = httpx.Client(timeout=httpx.Timeout(deadline_s), follow_redirects=False)

    def ads(self, request: AdRequest) -> list[Ad]:
        asked = {name: value for name, value in vars(request).items() if value is not None}
        try:
            with self._client.stream("GET", self._url.copy_merge_params(asked)) as answer:
                answer.raise_for_status()
                body = b"".join(_bounded(answer.iter_bytes()))
            return _ADS.validate_json(body)[: request.count]
        except (httpx.HTTPError, ValidationError) as error:
            where = f"{self._url.scheme}://{self._url.netloc.decode()}"
            raise StoreUnavailable(f"the ad server at {where}: {_why(error)}") from error

    def close(self) -> None:
        self._client.close()


def open_ads(settings: Settings) -> AdServer:
    """The ad server that the settings name: ``house:FILE`` or an HTTP address."""
    url = settings.url("ads")
    if url.startswith(("http://", "https://")):
        return HttpAds(url)
    if url.startswith("house:"):
        return HouseAds.read(Path(url.removeprefix("house:")))
    raise ConfigError(f"UPNEXT_ADS_URL is {masked(url)!r}: use house:FILE or http://…")


def wanted(count: int, surface: str, kids: bool, rules: AdRules) -> int:
    """How many ads a slate of so many places asks for."""
    if kids or surface not in rules.surfaces or count <= rules.first:
        return 0
    return min(rules.most, 1 + (count - rules.first - 1) // rules.every)


def places(restricted: NDArray[np.bool_], ads: int, rules: AdRules) -> list[int]:
    """Final positions of the ads in a slate, ascending.

    restricted: bool[m], the videos of the slate that no ad may stand beside. An ad follows ``first`` videos,
    then one each ``every`` videos; where that is beside a restricted one it moves down to the next place that
    is not. What finds no place is not shown.
    """
    beside = restricted.copy()
    beside[1:] |= restricted[:-1]  # an ad before video i lies between i - 1 and i
    found: list[int] = []
    at = rules.first
    for _ in range(ads):
        free = np.flatnonzero(~beside[at:])
        if at >= len(restricted) or not len(free):
            break
        at += int(free[0])
        found.append(at + len(found))
        at += rules.every
    return found


def with_ads(
    slate: Slate, ads: Sequence[Ad], count: int, restricted: NDArray[np.bool_], rules: AdRules
) -> tuple[Slate, dict[int, Ad]]:
    """A slate cut to what ``count`` places leave beside the ads, and the ads by their final positions.

    restricted: bool[n] over the catalogue.
    """
    found = places(restricted[slate.rows], len(ads), rules)
    found = [at for at in found if at < count]
    return slate.take(np.arange(min(len(slate), count - len(found)))), dict(zip(found, ads, strict=False))


def _why(error: Exception) -> str:
    """What went wrong, without the address, which may hold a password or a key."""
    status = f" {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else ""
    return type(error).__name__ + status


def _bounded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > LARGEST:
            raise httpx.DecodingError(f"the answer is longer than {LARGEST} bytes")
        yield chunk
