# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small file from a web server: the checksum file that stands beside a release.

Invariant: it ends, with little more than ``limit_bytes`` in memory, it is whole, and what was asked for over TLS came over TLS, by
whatever redirects. No message shows a URL's query or a password.
"""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from typing import IO
from urllib.parse import urlsplit

from .._errors import BadInput, Untrusted
from .._names import printable
from .body import read_within
from .faults import Where, from_answer
from .line import from_exception
from .options import S3Options


def read_url(options: S3Options, url: str, limit_bytes: int) -> bytes:
    """What is at ``url``; certificates and the read time-out as ``options`` say, proxies as the environment does."""
    where = Where(without_query(url), "", "the checksum file")
    context = ssl.create_default_context(cafile=options.ca_bundle or None)
    if not options.validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _Redirects)
    try:
        with opener.open(url, timeout=options.read_timeout_seconds) as answer:
            content = read_within(answer.read1, limit_bytes, where)
            if len(content) <= limit_bytes and answer.length:  # http.client says nothing of a body that broke off
                raise http.client.IncompleteRead(content, answer.length)
    except urllib.error.HTTPError as error:
        with error:  # it is an answer too, with a connection to let go of
            headers = {name.lower(): value for name, value in error.headers.items()}
        raise from_answer(error.code, "", "", headers, where) from None
    except Exception as error:
        raise from_exception(error, where) from error
    if len(content) > limit_bytes:
        raise BadInput(f"{where} has more than {limit_bytes} bytes", hint="check that the URL is the one you mean")
    return content


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, as releases on the web need it, but never away from TLS."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        told = urlsplit(newurl).scheme
        if told not in ("http", "https") or (req.type == "https" and told != "https"):
            fp.close()
            raise Untrusted(
                f"{without_query(req.full_url)} sends the request on to {without_query(newurl)}, which is no https:// URL",
                hint="what comes without TLS may be anybody's: give the URL of a checksum file that stays on https",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def without_query(url: str) -> str:
    """``url`` for messages: a query may be a signature, and a user's name may have a password behind it."""
    head, _mark, rest = url.partition("://")
    if not rest:
        return printable(head)
    return printable(f"{head}://{rest.partition('?')[0].partition('#')[0].rpartition('@')[2]}")
