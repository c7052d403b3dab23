# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that a rollout passes to a module, by the variables of the roles activate and rollout.

Invariant: an option is passed if its variable is defined on the host; what a module defaults to is left to it. Only variables that are named
here are read, for each value that is a template costs the controller a millisecond or two for each host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Variables = Mapping[str, Any]


def _named(prefix: str, names: str) -> dict[str, str]:
    """Options whose variables have their names with a prefix."""
    return {prefix + name: name for name in names.split()}


_COMMON = _named("activate_", "state_dir lock_timeout retries retry_delay command_timeout")
VARIABLES: Mapping[str, Mapping[str, str]] = {
    "flyd_pool": {
        **_COMMON,
        "activate_pool": "name",
        **_named(
            "activate_pool_",
            "data_file metadata_file data_device metadata_device data_size metadata_size block_size low_water_mark"
            " error_if_no_space min_free_percent max_size grow_by grow_reserve adopt",
        ),
    },
    "flyd_fetch": {
        **_COMMON,
        **_named(
            "activate_",
            "src remote_src headers url_username url_password bucket version_id request_payer sse_customer_key dualstack"
            " assume_role_arn external_id sts_endpoint_url aws_config endpoint_url region profile anonymous access_key"
            " secret_key session_token validate_certs ca_bundle addressing connections part_size connect_timeout"
            " read_timeout stall_timeout stall_rate deadline checksum checksum_policy on_change max_size",
        ),
        **_named("activate_fetch_", "max_rate reuse"),
    },
    "flyd_unpack": {
        **_COMMON,
        **_named("activate_", "pool size free_size platform image_name limits device_nodes inject reuse keep_archive"),
    },
    "flyd_instance": {
        **_named("activate_", "state_dir read_only owner group mode"),
        "activate_snapshot_size": "size",
        **_named("rollout_", "switch switch_timeout min_healthy healthy_deadline health_interval confirm_within"),
    },
}
_HEALTH = _named("rollout_health_", "command port host url status")
_TRUE = ("true", "yes", "on", "1", "y", "t")


def options_of(
    module: str, raw: Variables, read: Callable[[Variables], Variables], environment: Mapping[str, str]
) -> dict[str, Any]:
    """The options of ``module`` on a host with the variables ``raw``.

    ``read`` renders the values of variables, without those that are to be omitted; ``environment`` is the controller's.
    """
    names = VARIABLES[module]
    asked = (*names, *_ASKED.get(module, ()))
    given = read({name: raw[name] for name in asked if name in raw})
    found = {option: given[name] for name, option in names.items() if name in given}
    its = {name: value for name, value in raw.items() if name not in asked}
    omitted = dict.fromkeys((name for name in asked if name in raw), "")
    return dict(_COMPUTED[module](found, {**its, **omitted, **given}, environment))


def _of_pool(found: Variables, its: Variables, environment: Mapping[str, str]) -> Variables:
    return found


def _of_fetch(found: Variables, its: Variables, environment: Mapping[str, str]) -> Variables:
    result = {**_from_environment(found, its, environment), **found}
    result["anonymous"] = True if _is_true(found.get("anonymous", False)) else ""
    result = {option: value for option, value in result.items() if value != ""}
    pool = its.get("activate_pool", "pool")
    if pool and _is_true(its.get("activate_check_room", True)):
        result["pool"] = pool
    made = its.get("__activate_made") or {}
    if _is_check(its) and "data_size" in made:
        result["assume_pool_size"] = made["data_size"]
    return result


def _of_unpack(found: Variables, its: Variables, environment: Mapping[str, str]) -> Variables:
    fetched = its.get("__activate_fetched") or {}
    is_revived = _is_check(its) and fetched.get("revived") and fetched.get("sha256")
    return {**found, "assume": _assumed(its), **({"sha256": fetched["sha256"]} if is_revived else {})}


def _of_instance(found: Variables, its: Variables, environment: Mapping[str, str]) -> Variables:
    pin = its.get("__rollout_pin")
    health = {option: its[name] for name, option in _HEALTH.items() if its.get(name) is not None}
    more = {"sha256": pin, "health": health}
    return {**found, "assume": _assumed(its), **{option: value for option, value in more.items() if value}}


# What is read beside the options.
_ASKED: Mapping[str, tuple[str, ...]] = {
    "flyd_fetch": ("activate_check_room", "activate_pool"),
    "flyd_instance": ("__rollout_pin", *_HEALTH),
}
_COMPUTED: Mapping[str, Callable[[Variables, Variables, Mapping[str, str]], Variables]] = {
    "flyd_pool": _of_pool,
    "flyd_fetch": _of_fetch,
    "flyd_unpack": _of_unpack,
    "flyd_instance": _of_instance,
}


def _is_true(value: object) -> bool:
    return str(value).strip().lower() in _TRUE


def _is_check(raw: Variables) -> bool:
    return bool(raw.get("ansible_check_mode"))


def _assumed(raw: Variables) -> list[str]:
    """In check mode, what the steps before would have changed."""
    if not _is_check(raw):
        return []
    fetched, made = (raw.get(name) or {} for name in ("__activate_fetched", "__activate_made"))
    generation = ["generation"] if fetched.get("new_generation") or fetched.get("revived") else []
    return generation + (["pool"] if made.get("changed") else [])


def _from_environment(found: Variables, its: Variables, environment: Mapping[str, str]) -> dict[str, str]:
    """What is not given, from the environment of the controller as the AWS tools read it: as the role activate does it."""
    is_asked = not _is_true(found.get("anonymous", False)) and not found.get("profile")
    own_key = environment.get("AWS_ACCESS_KEY_ID", "") if is_asked else ""
    has_own_key = bool(own_key) and its.get("activate_access_key", own_key) == own_key
    default = {
        "endpoint_url": environment.get("AWS_ENDPOINT_URL", ""),
        "region": environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION", ""),
        "access_key": own_key,
        "secret_key": environment.get("AWS_SECRET_ACCESS_KEY", "") if has_own_key else "",
        "session_token": environment.get("AWS_SESSION_TOKEN", "") if has_own_key else "",
    }
    return {option: value for option, value in default.items() if f"activate_{option}" not in its}
