# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users, passwords and queries of URLs are not repeated; everything else is."""

from __future__ import annotations

import time

import pytest

from module_utils._redaction import redacted, redacted_url, redacted_value, secrets_of, secrets_of_environment

URLS = [
    ("https://rel.example/SUMS?X-Amz-Signature=hush-hush", "https://rel.example/SUMS?***"),
    ("https://user:hush-hush@rel.example:8443/SUMS", "https://***@rel.example:8443/SUMS"),
    ("https://hush-hush@rel.example/SUMS#part", "https://***@rel.example/SUMS#***"),
    ("https://user:hush?hush-hush@rel.example/SUMS", "https://***@rel.example/SUMS"),
    ("https://user:hush/hush-hush@rel.example/SUMS?a=b", "https://***@rel.example/SUMS?***"),
    ("https://user:hush#hush-hush@rel.example/SUMS", "https://***@rel.example/SUMS"),
    ("https://user:12?hush-hush@rel.example/SUMS", "https://***@rel.example/SUMS"),
    ("https://u:p@q:hush-hush@rel.example/SUMS", "https://***@rel.example/SUMS"),
    (" https://rel.example/SUMS?a=b hush-hush", "https://rel.example/SUMS?***"),
    ("HTTPS://rel.example?hush-hush", "HTTPS://rel.example?***"),
    ("s3://hush-hush@bucket/key", "s3://***@bucket/key"),
    ("user:hush-hush@proxy:3128", "***@proxy:3128"),
    ("//user:hush-hush@proxy", "//***@proxy"),
    ("images/a.tar?X-Amz-Signature=hush-hush&partNumber=1", "images/a.tar?X-Amz-Signature=***&partNumber=1"),
    ("images/a.tar?sig=hush-hush", "images/a.tar?sig=***"),
    ("1https://user:hush-hush@h/x", "1https://***@h/x"),
]
HARMLESS = [
    "https://rel.example/a@b/SUMS",
    "https://rel.example:8443/a@b/SUMS",
    "http://[::1]:9000/x",
    "https://s3.example.org:9000",
    "s3://bucket/key",
    "images/redis@sha256:0123.tar",
    "images/what?.tar",
    "sha256:" + "0" * 64,
    "checksum_policy=require",
    "",
]


@pytest.mark.parametrize(("url", "shown"), URLS)
def test_an_option_is_shown_without_its_secret(url: str, shown: str) -> None:
    assert redacted_url(url).strip() == shown
    assert redacted_url(redacted_url(url)) == redacted_url(url)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_holds_no_secret_is_shown_as_it_is(text: str) -> None:
    assert (redacted_url(text), redacted(text), secrets_of({"checksum": text})) == (text, text, frozenset())


@pytest.mark.parametrize("url", [url for url, _ in URLS if "://" in url and " hush" not in url])
def test_in_a_sentence_too(url: str) -> None:
    assert "hush" not in redacted(f"there is no object {url} in the bucket", secrets_of({"checksum": url}))


@pytest.mark.parametrize("url", [url for url, _ in URLS if "://" in url])
def test_the_secret_alone_is_known(url: str) -> None:
    assert "hush-hush" not in redacted("a server repeats hush-hush", secrets_of({"checksum": url})) or "#part" in url


def test_the_secret_is_known_decoded_too() -> None:
    known = secrets_of({"checksum": "https://rel.example/SUMS?token=a%2Fb%2Bcdefgh+i&x=1"})
    assert {"a%2Fb%2Bcdefgh+i", "a/b+cdefgh+i", "a/b+cdefgh i"} <= known


def test_a_part_of_a_query_that_another_option_names_is_no_secret() -> None:
    given = {"key": "images/redis.tar", "checksum": "https://rel.example/?file=images/redis.tar&sig=hush-hush"}
    assert "images/redis.tar" not in secrets_of(given)
    assert "hush-hush" in secrets_of(given)


def test_values_of_json_are_redacted_at_every_depth() -> None:
    value = {"a": ["https://u:hush-hush@h/", {"b": "see https://h/x?hush now"}], "n": 3, "f": True, "none": None}
    assert redacted_value(value) == {
        "a": ["https://***@h/", {"b": "see https://h/x?*** now"}],
        "n": 3,
        "f": True,
        "none": None,
    }


def test_the_passwords_of_proxies_and_the_credentials_of_aws_are_known() -> None:
    environment = {
        "HTTPS_PROXY": "http://user:hush-hush@proxy:3128",
        "http_proxy": "other:secret@proxy:3128",
        "AWS_SECRET_ACCESS_KEY": "key-of-aws",
        "NO_PROXY": "a,b",
        "HOME": "/root",
    }
    known = secrets_of_environment(environment)
    assert {"hush-hush", "secret", "key-of-aws"} <= known
    assert not {"/root", "a,b", "proxy:3128"} & known
    assert secrets_of_environment({}) == frozenset()


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "a.b-" * 25_000, "http:" * 20_000, "a=" * 50_000, "u:" * 50_000, "@" * 100_000]
)
def test_a_long_text_takes_no_longer_than_its_length(text: str) -> None:
    begun = time.process_time()
    redacted_value({"text": text, "url": f"https://{text}", "last": f"{text}://u:hush-hush@h"})
    secrets_of({"url": f"https://{text}?{text}"})
    assert time.process_time() - begun < 2


def test_values_of_headers_are_secrets_unless_they_are_short() -> None:
    given = {
        "headers": {"Authorization": "Bearer a-token-that-is-secret", "X-One": "1"},
        "aws_config": {"proxies": {"https": "http://u:pass-word@p"}},
    }
    found = secrets_of(given)
    assert {"Bearer a-token-that-is-secret", "a-token-that-is-secret", "pass-word"} <= found
    assert "1" not in found
