"""HTTP(S) as the installer speaks it: bounded in time and size, patient with servers, careful with what it carries.

A body and a token go to the address that was named and nowhere else: a redirect to another origin is followed without
them, one from https to http never.
"""

import hashlib
import random
import re
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.request import getproxies_environment

import urllib3
from urllib3.exceptions import (
    HTTPError,
    LocationParseError,
    MaxRetryError,
    ProxyError,
    SSLError,
)
from urllib3.util import Timeout, make_headers, parse_url

from installer.errors import Exit, HyperError

LARGEST = 8 << 20
"""Bytes of an answer, whatever its headers say."""
REDIRECTS = 5
CONNECT = 10.0
"""Seconds for one connection."""
READ = 30.0
"""Seconds between two pieces of an answer."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between tries: doubled each time, and each one drawn by chance below that, so that a thousand machines that
lost the same server do not come back at once."""
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""States of HTTP after which the same request may succeed (RFC 9110, RFC 6585)."""
MOVED = frozenset({301, 302, 303, 307, 308})
KEEPS_METHOD = frozenset({307, 308})
_HEX = re.compile(r"[0-9a-f]{64}")
_CHUNK = 64 << 10


@dataclass(frozen=True)
class Place:
    """Where something can be had, and how it is recognised."""

    url: str
    """`https://…` or `http://…`, without fragment."""
    sha256: str | None = None
    """Of the content, if that was named."""
    certificate: str | None = None
    """SHA-256 of the server's certificate (DER), if that was named; it is trusted then, whoever issued it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """`URL`, or with a fragment `URL#sha256:HEX`, `URL#cert:HEX`, or both with a comma between.

        The fragment of a URL is never sent to a server (RFC 3986 section 3.5).

        Raises:
            HyperError: it is no such URL.
        """
        url, fragment = urldefrag(text.strip())
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _bad(url, "it does not begin with `https://` or `http://` and the name of a server")
        if parts.username or parts.password:
            raise _bad(url, "it has a name or password in it, which would end in logs")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise _bad(url, "it has a character that a URL writes as %XX")
        named: dict[str, str] = {}
        for piece in filter(None, fragment.split(",")):
            kind, _, value = piece.partition(":")
            digest = value.removeprefix("sha256:").replace(":", "").lower()
            if kind not in ("sha256", "cert") or not _HEX.fullmatch(digest) or kind in named:
                raise _bad(
                    url, "after its `#` stand `sha256:` or `cert:` and 64 hexadecimal digits, once each"
                )
            named[kind] = digest
        if "cert" in named and parts.scheme != "https":
            raise _bad(url, "a server without TLS has no certificate to be recognised by")
        return cls(url, named.get("sha256"), named.get("cert"))

    def __str__(self) -> str:
        return shown(self.url)


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    """State of HTTP."""
    body: bytes
    """Content."""
    url: str
    """Where it came from in the end."""
    tries: int
    """How often it was asked for."""


@dataclass(frozen=True)
class Client:
    """How servers are reached from here."""

    ca: bytes | None = None
    """PEM certificates to trust beside the system's."""
    token: str | None = field(default=None, repr=False)
    """Sent as `Authorization: Bearer …`, over https alone."""
    proxies: Mapping[str, str] = field(default_factory=getproxies_environment)
    """Proxy for each scheme, and `no` with names reached without."""
    patience: float = 300.0
    """Seconds for all tries together."""
    say: Callable[[str], None] = lambda _text: None
    """Told of every try that failed."""
    agent: str = "hyper-nixos"
    """User-Agent."""

    def ask(
        self, place: Place, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """GET, or POST of a body (JSON), until there is an answer that another try would not change.

        Raises:
            HyperError: no answer within the time, the server is not who it should be, or the answer is too large
                (Exit.fetch).
        """
        deadline = time.monotonic() + self.patience
        ceiling, tries = FIRST_PAUSE, 0
        while True:
            tries += 1
            asked: float | None = None
            try:
                status, content, url, asked = self._follow(place, body, headers or {}, deadline)
            except RetryError as error:
                why = str(error)
            else:
                if status not in TRANSIENT:
                    return Reply(status, content, url, tries)
                why = f"it answers with HTTP state {status}"
            pause = max(asked or 0.0, random.uniform(ceiling / 2, ceiling))  # noqa: S311 -- no secret
            ceiling = min(LONGEST_PAUSE, 2 * ceiling)
            if time.monotonic() + pause >= deadline:
                raise failure(
                    place,
                    f"{why}; asked {tries} times within {self.patience:.0f} seconds",
                    "see that the server runs and this machine reaches it, then start again",
                )
            self.say(f"{place}: {why}; trying again in {pause:.1f} s")
            time.sleep(pause)

    def _follow(
        self, place: Place, body: bytes | None, headers: Mapping[str, str], deadline: float
    ) -> tuple[int, bytes, str, float | None]:
        """One try with its redirects: state, content, address, and how long the server wants to be left alone."""
        here, carried, extra = place, body, dict(headers)
        for _ in range(REDIRECTS + 1):
            own = _origin(here.url) == _origin(place.url)
            if not own:
                carried, extra = None, {}
            status, content, location, pause = self._once(here, carried, extra, deadline, own=own)
            if status not in MOVED or location is None:
                return status, content, here.url, pause
            here = self._moved(place, here, location)
            if status not in KEEPS_METHOD:
                carried = None
        raise failure(place, f"more than {REDIRECTS} redirects", "name the address where it ends")

    @staticmethod
    def _moved(place: Place, here: Place, location: str) -> Place:
        remedy = "name the address itself"
        try:
            moved = Place.parse(urldefrag(urljoin(here.url, location)).url)
        except HyperError as error:
            raise failure(place, f"it redirects to no usable address: {error.why}", remedy) from None
        if here.url.startswith("https:") and moved.url.startswith("http:"):
            raise failure(place, f"it redirects from https to http ({moved})", remedy)
        if place.certificate and _origin(moved.url) != _origin(place.url):
            raise failure(place, f"its certificate is pinned, and it redirects elsewhere ({moved})", remedy)
        return replace(moved, certificate=place.certificate)

    def _once(
        self,
        place: Place,
        body: bytes | None,
        headers: Mapping[str, str],
        deadline: float,
        *,
        own: bool,
    ) -> tuple[int, bytes, str | None, float | None]:
        fields = {"User-Agent": self.agent, "Accept": "*/*", **headers}
        if body is not None:
            fields.setdefault("Content-Type", "application/json")
        if self.token and own and place.url.startswith("https:"):
            fields["Authorization"] = f"Bearer {self.token}"
        left = max(0.1, deadline - time.monotonic())
        with _reasons(place), self._pool(place) as pool:
            reply = self._get(pool, place, body, fields, left)
            try:
                content = self._read(place, reply, deadline)
            finally:
                reply.close()
            return reply.status, content, reply.headers.get("Location"), _pause(reply.headers)

    @contextmanager
    def stream(self, place: Place, headers: Mapping[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        """One GET for a large body, redirects followed; whoever asks reads the body, and tries again.

        Raises:
            HyperError: the server is not who it should be, or redirects where it must not (Exit.fetch).
            RetryError: it cannot be reached, or breaks off, also while the body is read.
        """
        here, extra = place, dict(headers)
        for _ in range(REDIRECTS + 1):
            with _reasons(place), self._pool(here) as pool:
                fields = {"User-Agent": self.agent, "Accept": "*/*", **extra}
                reply = self._get(pool, here, None, fields, READ)
                location = reply.headers.get("Location")
                try:
                    if reply.status not in MOVED or location is None:
                        yield reply
                        return
                finally:
                    reply.close()
            here = self._moved(place, here, location)
        raise failure(place, f"more than {REDIRECTS} redirects", "name the address where it ends")

    @staticmethod
    def _get(
        pool: urllib3.PoolManager, place: Place, body: bytes | None, fields: dict[str, str], left: float
    ) -> urllib3.BaseHTTPResponse:
        return pool.request(
            "GET" if body is None else "POST",
            place.url,
            body=body,
            headers=fields,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=Timeout(connect=min(CONNECT, left), read=min(READ, left)),
        )

    @staticmethod
    def _read(place: Place, reply: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
        content = bytearray()
        # read1 gives what is there: a server that sends a byte a minute must not outlast the deadline.
        while chunk := reply.read1(_CHUNK):
            content += chunk
            if len(content) > LARGEST:
                raise failure(
                    place, f"it sends more than {LARGEST >> 20} MiB", "name an answer file, not an image"
                )
            if time.monotonic() >= deadline:
                raise RetryError("it did not end in time")
        return bytes(content)

    def _pool(self, place: Place) -> urllib3.PoolManager:
        trust: dict[str, object] = {}
        if place.url.startswith("https:"):
            context = ssl.create_default_context()
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.ca:
                context.load_verify_locations(cadata=self.ca.decode("ascii", "replace"))
            trust["ssl_context"] = context
            if place.certificate:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                trust |= {"assert_fingerprint": place.certificate, "assert_hostname": False}
        proxy = self._proxy(place.url)
        if proxy is None:
            return urllib3.PoolManager(**trust)  # type: ignore[arg-type]
        login = parse_url(proxy).auth
        return urllib3.ProxyManager(
            proxy,
            proxy_headers=make_headers(proxy_basic_auth=login) if login else None,
            **trust,  # type: ignore[arg-type]
        )

    def _proxy(self, url: str) -> str | None:
        parts = urlsplit(url)
        bypassed = urllib.request.proxy_bypass_environment(  # type: ignore[attr-defined]
            parts.netloc, dict(self.proxies)
        )
        return None if bypassed else self.proxies.get(parts.scheme)


class RetryError(Exception):
    """Another try may help."""


@contextmanager
def _reasons(place: Place) -> Iterator[None]:
    """urllib3's exceptions as ours."""
    try:
        yield
    except SSLError as error:
        raise failure(
            place,
            f"the server cannot prove who it is: {_reason(error)}",
            "correct its certificate, this machine's clock, or the certificate that was named",
        ) from None
    except ProxyError as error:
        raise RetryError(f"the proxy does not let through: {_reason(error)}") from None
    except LocationParseError:
        raise failure(place, "it is no URL", "correct it") from None
    except (HTTPError, OSError) as error:
        raise RetryError(_reason(error)) from None


def verified(place: Place, content: bytes) -> bytes:
    """The content, if it is what the place named. Raises HyperError (Exit.fetch)."""
    if place.sha256 and hashlib.sha256(content).hexdigest() != place.sha256:
        raise failure(
            place,
            f"its SHA-256 is {hashlib.sha256(content).hexdigest()}, {place.sha256} was named",
            "put the right file there, or name its SHA-256",
        )
    return content


def failure(place: Place, why: str, remedy: str) -> HyperError:
    """The error for something that cannot be had."""
    return HyperError(f"{place} cannot be fetched", why=why, remedy=remedy, code=Exit.fetch)


def shown(url: str) -> str:
    """A URL for people and logs: what stands behind `?` may be a secret."""
    parts = urlsplit(url)
    query = "?…" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def certificates(text: bytes) -> bytes:
    """PEM certificates, if Python's TLS takes them. Raises ValueError."""
    try:
        ssl.create_default_context().load_verify_locations(cadata=text.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ValueError("holds no PEM certificate") from error
    return text


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _pause(headers: Mapping[str, str]) -> float | None:
    """Seconds of Retry-After; dates are left to our own pause."""
    value = headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None


def _reason(error: BaseException) -> str:
    """The innermost reason in one line, without addresses of objects."""
    while isinstance(error, MaxRetryError) and error.reason:
        error = error.reason
    inner = error.__cause__ or error.__context__
    text = str(inner if isinstance(inner, OSError) and not isinstance(error, SSLError) else error)
    text = re.sub(
        r"<[^>]* object at 0x[0-9a-f]+>:? ?|\(?_ssl\.c:\d+\)?|HTTPS?Connection(Pool)?\([^)]*\):? ?", "", text
    )
    return " ".join(text.split()).strip("() ,'") or type(error).__name__


def _bad(url: str, why: str) -> HyperError:
    return HyperError(
        f"{shown(url)[:200]} is no address that answers can come from",
        why=why,
        remedy="write it as https://server/path, or https://server/path#sha256:HEX",
        code=Exit.fetch,
    )
