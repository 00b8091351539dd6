"""Addresses: which ones are fetched from at all, and which ones are the configured server's."""

from __future__ import annotations

import re

import httpx

_ADDRESS = re.compile(r"https?://[!-\[\]-~]+", re.IGNORECASE)
_PORTS = 1 << 16


def parse(address: object) -> httpx.URL:
    """An address on the web, of a scheme and host that are written out.

    Raises:
        ValueError: It is none, names a user, or holds characters that programs read differently: the reason does not
            repeat it, since there may be a password in it.
    """
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise ValueError("is not an address that starts with http:// or https://")
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise ValueError("is not an address") from error
    if url.userinfo or "@" in url.netloc.decode("ascii"):
        raise ValueError("holds a user name or a password")
    if not url.host or (url.port is not None and not 0 < url.port < _PORTS):
        raise ValueError("names no host and port")
    return url


def same_server(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether two addresses have one scheme, host and port."""
    return (one.scheme, one.raw_host, one.port) == (other.scheme, other.raw_host, other.port)
