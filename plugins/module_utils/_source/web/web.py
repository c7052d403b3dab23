# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How web servers are asked, and a small file from one: the checksum file that stands beside a release.

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

from ..._errors import BadInput, Untrusted
from ..._names import printable, size_text
from ..._redaction import redacted_url
from ..body import read_within
from ..options import S3Options
from ..s3_errors import Where, from_answer
from ..transport_errors import from_exception

_OWN_HEADERS = ("accept-encoding", "range", "if-match", "if-unmodified-since", "user-agent")


def read_url(options: S3Options, url: str, limit_bytes: int) -> bytes:
    """What is at ``url``; certificates and the read time-out as ``options`` say, proxies as the environment does."""
    where = Where(without_query(url), "", "the checksum file", read_timeout_seconds=options.read_timeout_seconds)
    try:
        with opener_of(options).open(url, timeout=options.read_timeout_seconds) as answer:
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
        raise BadInput(
            f"{where} has more than {size_text(limit_bytes)}", hint="check that checksum is the URL you mean"
        )
    return content


def opener_of(options: S3Options) -> urllib.request.OpenerDirector:
    """What asks web servers as ``options`` say."""
    context = ssl.create_default_context(cafile=options.ca_bundle or None)
    if not options.validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _Redirects)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, as releases on the web need it, but never away from TLS; another server gets no header of the operator's."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            fp.close()
            raise Untrusted(
                f"{without_query(req.full_url)} sends the request on to {without_query(newurl)}, which is no https:// URL",
                hint="what comes without TLS may be anybody's: give a URL that stays on https",
            )
        if req.get_method() == "HEAD" and code in (301, 302, 303, 307, 308):
            sent_on: urllib.request.Request | None = urllib.request.Request(  # noqa: S310 - the scheme was checked above
                newurl, headers=req.headers, method="HEAD"
            )
        else:
            sent_on = super().redirect_request(req, fp, code, msg, headers, newurl)
        if sent_on is not None and urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            for name in [one for one in sent_on.headers if one.lower() not in _OWN_HEADERS]:
                del sent_on.headers[name]
        return sent_on


def without_query(url: str) -> str:
    """``url`` for messages: a query may be a signature, and a user's name may have a password behind it."""
    return printable(redacted_url(url))
