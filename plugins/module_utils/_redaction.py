# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in URLs: user names and passwords, and queries, which hold signatures and tokens.

Invariant: what ``redacted_url`` or ``redacted`` returns names scheme, host and path of a URL at most. Where a URL is ambiguous (a
password with an unescaped ``/`` or ``?``), too much is hidden rather than too little.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus

HIDDEN = "***"
# Each pattern tries a run of letters once, from its begin: a text of any length takes a time that grows as its length does.
_SCHEME = r"[A-Za-z0-9+.-]+://"
_URL = re.compile(rf"(?<![A-Za-z0-9+.-])({_SCHEME})(\S*)")
_WHOLE_URL = re.compile(rf"\s*({_SCHEME})(.*)", re.DOTALL)
# A key or a file name with the query of a signed URL behind it, and what servers repeat of a request.
_PARAMETER = re.compile(r"(?<![\w.-])([\w.-]+=)[^&\s]+")
_SECRET_NAME = re.compile(
    r"^sig=|signature|token|secret|passw(or)?d|credential|api[-_]?key|authorization", re.IGNORECASE
)
_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[^:\[\]]*)(:[0-9]*)?")
_USER_WITHOUT_SCHEME = re.compile(r"\A\s*(//)?[^/\s@:]*:[^/\s@]*@")
_MIN_PASSWORD, _MIN_VALUE = 4, 8  # what is shorter would be struck out of words that have nothing to do with it
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")
_CREDENTIALS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")


def redacted_url(url: str) -> str:
    """``url``, all of which is one URL or a name, without user, password, query and fragment."""
    match = _WHOLE_URL.fullmatch(url)
    if match:
        return match[1] + _without_secrets(match[2])
    return redacted(_USER_WITHOUT_SCHEME.sub(rf"\1{HIDDEN}@", url, count=1))


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` with every URL in it as ``redacted_url`` shows it, and without ``secrets``."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _URL.sub(lambda found: found[1] + _without_secrets(found[2]), text)
    return _PARAMETER.sub(_without_value, text)


def redacted_value(value: Any, secrets: Iterable[str] = ()) -> Any:
    """A value of JSON with every string in it redacted; a string is taken for one URL when it begins as one."""
    if isinstance(value, str):
        return redacted(redacted_url(value), secrets)
    if isinstance(value, Mapping):
        return {name: redacted_value(one, secrets) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted_value(one, secrets) for one in value]
    return value


def secrets_of(options: Mapping[str, Any]) -> frozenset[str]:
    """What must not be repeated of ``options``: the secret parts of their URLs, as written and decoded, and the values of headers.

    A part of a query that is the value of another option (``?file=`` and the key) is none.
    """
    texts = list(_texts(list(options.values())))
    found = {part for text in texts for part in _secret_parts(text)}
    headers = options.get("headers")
    values = [str(value) for value in headers.values()] if isinstance(headers, Mapping) else []
    words = {word for value in values for word in (value, *value.split()) if len(word) >= _MIN_VALUE}
    return frozenset(part for part in found if part not in texts) | words


def _texts(value: Any) -> Iterator[str]:
    """Every string in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _texts(one)


def secrets_of_environment(environment: Mapping[str, str] | None = None) -> frozenset[str]:
    """Credentials of AWS, and users and passwords of proxies, in ``environment``, this process's when it is left out."""
    environment = os.environ if environment is None else environment
    keys = {environment.get(name, "") for name in _CREDENTIALS}
    proxies = {value for name, value in environment.items() if name.lower() in _PROXIES}
    parts = {part for one in proxies for part in _secret_parts(one if "://" in one else f"http://{one}")}
    return frozenset(parts | {key for key in keys if len(key) >= _MIN_VALUE})


def _without_secrets(rest: str) -> str:
    """What stands behind ``scheme://``, redacted."""
    server, path, query = _parts(rest)
    _user, at, host = server.rpartition("@")
    shown = f"{HIDDEN}@{host}" if at else host
    return shown + path + (query[0] + HIDDEN if len(query) > 1 else query)


def _without_value(parameter: re.Match[str]) -> str:
    return parameter[1] + HIDDEN if _SECRET_NAME.search(parameter[1]) else parameter[0]


def _parts(rest: str) -> tuple[str, str, str]:
    """Server (with its user), path, and query or fragment with its mark."""
    begin = re.search(r"[/?#]", rest)
    server = rest[: begin.start()] if begin else rest
    behind = rest[len(server) :]
    is_cut = "@" not in server and "@" in behind and ":" in server
    if is_cut and (not _SERVER.fullmatch(server) or "@" in "".join(re.split(r"([?#])", behind, maxsplit=1)[1:])):
        user, _at, left = rest.rpartition("@")  # the mark stood in the password
        begin = re.search(r"[/?#]", left)
        server = f"{user}@{left[: begin.start()] if begin else left}"
        behind = rest[len(server) :]
    mark = re.search(r"[?#]", behind)
    return (server, behind[: mark.start()], behind[mark.start() :]) if mark else (server, behind, "")


def _secret_parts(text: str) -> set[str]:
    found: set[str] = set()
    match = _WHOLE_URL.fullmatch(text)
    rests = [match[2]] if match else [one[2] for one in _URL.finditer(text)]
    for rest in rests:
        server, _path, query = _parts(rest)
        user = server.rpartition("@")[0]
        found |= {one for one in (user, user.partition(":")[2]) if len(one) >= _MIN_PASSWORD}
        found |= {one for one in re.split(r"[:/?#]", user) if len(one) >= _MIN_VALUE}
        found |= _values(query)
    if not rests:
        query = text.partition("?")[1] + text.partition("?")[2]
        found |= _values(query) if _SECRET_NAME.search(query) else set()
    decoded = {decode(one) for one in found for decode in (unquote, unquote_plus)}
    return found | {one for one in decoded if len(one) >= _MIN_PASSWORD}


def _values(query: str) -> set[str]:
    words = [query[1:], *re.split(r"[&;#\s]", query[1:])]
    return {one for word in words for one in (word, word.partition("=")[2]) if len(one) >= _MIN_VALUE}
