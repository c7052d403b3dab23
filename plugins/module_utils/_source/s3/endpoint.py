# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse and validate the URL of a server.

Invariant: no error message holds a part of the URL, which may contain a password.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_PATH = re.compile(r"(/[A-Za-z0-9._~%!$&'()*+,;=:@-]*)*")  # RFC 3986, 3.3


def endpoint_problem(url: str) -> str:
    """What is wrong with ``url`` as the address of a server, to be said behind the option's name; empty when nothing is."""
    try:
        parts = urlsplit(url)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https"):
        return "does not begin with http:// or https://"
    if parts.username is not None or parts.password is not None:
        return "holds a user name or password"
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "holds a query or a fragment"
    if not _PATH.fullmatch(parts.path) or any(part in (".", "..") for part in parts.path.split("/")):
        return "holds a path that cannot be a server's"
    return "" if port_is_right and _is_host(parts.hostname or "") else "names no host that could exist"


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})", host))
    return True
