# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Assume a role for requests to a bucket.

Invariant: its credentials are renewed by botocore before they expire, so a download may take longer than they hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..options import S3Options
from ..s3_errors import no_credentials

if TYPE_CHECKING:
    from boto3.session import Session

_SESSION_NAME = "flyd.lite"


def assume(session: Session, options: S3Options) -> Session:
    """A session with the role ``options.role_arn``, assumed with the credentials of ``session`` when they are first needed.

    The token service is ``options.sts_endpoint_url``, or that of AWS.
    """
    import boto3.session
    import botocore.session
    from botocore.config import Config
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    source = session.get_credentials()
    if source is None:
        raise no_credentials()
    config = Config(
        connect_timeout=options.connect_timeout_seconds,
        read_timeout=options.read_timeout_seconds,
        retries={"total_max_attempts": 1, "mode": "standard"},
    )
    below = session._session  # boto3 has no public name for what it is made of

    def client(service: str, **how: Any) -> Any:
        verify = options.ca_bundle or (None if options.validate_certs else False)
        region = session.region_name or "us-east-1"
        endpoint = options.sts_endpoint_url or None
        return below.create_client(
            service, region_name=region, endpoint_url=endpoint, verify=verify, config=config, **how
        )

    wanted = {"RoleSessionName": _SESSION_NAME, **({"ExternalId": options.external_id} if options.external_id else {})}
    fetcher = AssumeRoleCredentialFetcher(client, source, options.role_arn, extra_args=wanted)
    assumed = botocore.session.Session()
    # Its public way to be given credentials takes none that are renewed.
    assumed._credentials = DeferredRefreshableCredentials(  # type: ignore[attr-defined]  # as above
        fetcher.fetch_credentials, "assume-role"
    )
    return boto3.session.Session(botocore_session=assumed, region_name=session.region_name)
