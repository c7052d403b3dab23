"""Which test shows which attack fended off, and which rule of images kept.

Invariant: every row names tests that exist, and an attack's tests try it as a docker archive, as an OCI archive and as a family (their
parameter ``form``) unless the row says why it has no such forms. ``test_catalogue.py`` sees to that.
"""

from __future__ import annotations

from dataclasses import dataclass

NAMES, LINKS, WHITEOUTS = "test_attacks_on_names", "test_attacks_on_links", "test_whiteouts"
META, SIZE, READERS, DOCUMENTS = (
    "test_metadata",
    "test_attacks_by_size",
    "test_attacks_on_readers",
    "test_attacks_on_documents",
)
LAYOUTS, HYBRIDS, COMPRESSION, SPARSE, WRITING = (
    "test_layouts",
    "test_hybrids",
    "test_compression",
    "test_sparse",
    "test_writing",
)
READER, VERIFY, WALLS, GNU, PRODUCERS = (
    "test_members",
    "test_verify",
    "test_walls",
    "test_like_gnu_tar",
    "test_producers",
)
OF_DOCUMENTS = "it is about the documents of an archive, and a family has none"
OF_DOCKER = "only docker archives have this document"


@dataclass(frozen=True)
class Row:
    """One line of the catalogue: ``tests`` are file and function; ``why_no_forms`` is empty when all forms are tried."""

    what: str
    tests: tuple[str, ...]
    why_no_forms: str = ""


def row(what: str, file: str, *functions: str, why_no_forms: str = "") -> Row:
    """A row whose tests stand in one file; a function of another file is written ``file::function``."""
    return Row(what, tuple(name if "::" in name else f"{file}::{name}" for name in functions), why_no_forms)


ATTACKS = {
    1: row("a name that climbs out", NAMES, "test_a_name_with_dot_dot_is_refused"),
    2: row(
        "`..` that stays inside",
        NAMES,
        "test_a_name_with_dot_dot_is_refused",
        "test_a_whiteout_behind_dot_dot_is_refused",
    ),
    3: row("absolute names", NAMES, "test_an_absolute_name_lands_inside"),
    4: row(
        "a file through a symbolic link to the host",
        NAMES,
        "test_a_file_through_a_link_to_the_hosts_directory_lands_inside",
        "test_a_link_and_a_file_through_it_in_different_layers_land_inside",
    ),
    5: row("/var/run -> /run with nothing there yet", NAMES, "test_var_run_works_though_its_target_is_missing"),
    6: row("climbing by links", NAMES, "test_climbing_stops_at_the_root"),
    7: row("two hops upwards", NAMES, "test_two_hops_upwards_stay_inside"),
    8: row(
        "a trampoline longer than PATH_MAX, links in a circle",
        NAMES,
        "test_a_trampoline_of_long_directories_stays_inside",
        "test_links_in_a_circle_are_refused",
    ),
    9: row("a link without a name", NAMES, "test_a_link_without_a_name_is_refused"),
    10: row("the root replaced", NAMES, "test_the_root_as_anything_but_a_directory_is_refused"),
    11: row("a link whose name ends in a slash", NAMES, "test_a_link_named_with_a_slash_at_its_end_leads_inside"),
    12: row("a file written through a link at its place", NAMES, "test_a_file_over_a_link_replaces_the_link"),
    13: row(
        "a directory that becomes a link and a directory again",
        NAMES,
        "test_a_directory_that_becomes_a_link_and_again_a_directory_holds_its_own_files",
    ),
    14: row("a hard link to the host", LINKS, "test_a_hard_link_that_climbs_out_is_refused"),
    15: row("an absolute hard link target", LINKS, "test_an_absolute_hard_link_target_starts_at_the_images_root"),
    16: row("a hard link through a symbolic link", LINKS, "test_a_hard_link_through_a_symbolic_link_stays_inside"),
    17: row(
        "a hard link to a symbolic link, and a mode for it",
        LINKS,
        "test_a_hard_link_to_a_symbolic_link_links_the_link_and_changes_no_mode",
    ),
    18: row(
        "a hard link into our working directory", LINKS, "test_a_hard_link_is_not_looked_up_in_our_working_directory"
    ),
    19: row(
        "a sibling with the root's name as prefix", LINKS, "test_a_hard_link_to_a_sibling_with_our_prefix_is_refused"
    ),
    20: row(
        "a hard link to nothing, ahead, to a directory, to itself",
        LINKS,
        "test_a_hard_link_to_nothing_to_a_directory_or_to_itself_is_refused",
        "test_a_hard_link_before_its_file_waits_for_it",
        "test_hard_links_in_a_circle_are_refused",
    ),
    21: row("a mode through a link to a directory", LINKS, "test_a_link_over_a_directory_of_the_host_gets_no_mode"),
    22: row("types that flip between layers", LINKS, "test_what_an_upper_layer_makes_of_a_name_replaces_what_it_was"),
    23: row("a write through a shared inode", LINKS, "test_a_file_over_one_of_two_names_leaves_the_other_alone"),
    24: row(
        "a whiteout of the root or the parent",
        WHITEOUTS,
        "test_a_whiteout_of_nothing_or_of_the_directory_itself_is_refused",
    ),
    25: row("an empty whiteout", WHITEOUTS, "test_a_whiteout_of_nothing_or_of_the_directory_itself_is_refused"),
    26: row(
        "a whiteout of, through and behind a dangling link",
        WHITEOUTS,
        "test_a_whiteout_of_a_link_keeps_its_target",
        "test_a_whiteout_through_a_link_removes_inside_of_the_image",
        "test_removing_what_is_not_there_is_no_error",
    ),
    27: row(
        "an opaque marker late in its layer",
        WHITEOUTS,
        "test_an_opaque_directory_hides_lower_children_only_wherever_the_marker_stands",
    ),
    28: row("a whiteout of the layer's own file", WHITEOUTS, "test_a_whiteout_does_not_reach_its_own_layer"),
    29: row(
        "a whiteout that is a directory, has data, or members below",
        WHITEOUTS,
        "test_a_whiteout_that_is_no_empty_file_is_refused",
        "test_a_member_below_a_whiteout_is_refused",
    ),
    30: row("the bookkeeping of aufs", WHITEOUTS, "test_the_bookkeeping_of_aufs_is_left_out_and_counted"),
    31: row("an opaque root", WHITEOUTS, "test_an_opaque_root_clears_lower_layers_only"),
    32: row(
        "device nodes",
        META,
        "test_devices_and_fifos_are_made_and_counted",
        "test_devices_can_be_skipped_and_are_counted",
        "test_devices_can_be_refused",
    ),
    33: row("device numbers out of range", META, "test_device_numbers_that_linux_cannot_have_are_refused"),
    34: row("special files opened by us", META, "test_special_files_are_never_opened"),
    35: row("setuid, setgid, sticky", META, "test_modes_survive_setuid_and_all"),
    36: row(
        "huge and negative owners and times",
        META,
        "test_large_owners_are_kept",
        "test_owners_that_linux_cannot_store_are_refused",
        "test_owners_in_pax_are_held_to_the_same",
        "test_times_that_ext4_cannot_store_are_clamped_and_counted",
        "test_a_time_that_is_none_is_refused",
    ),
    37: row(
        "evil extended attributes",
        META,
        "test_other_attributes_are_dropped_and_counted",
        "test_attributes_are_never_set_through_links_or_on_special_files",
    ),
    38: row(
        "directories without rights", META, "test_a_directory_without_rights_gets_its_files_and_then_its_mode_and_time"
    ),
    39: row("missing parents", META, "test_missing_parents_are_made_for_root"),
    40: row(
        "long, odd and undecodable names",
        NAMES,
        "test_a_name_of_255_bytes_is_kept_and_one_of_256_is_refused",
        "test_a_path_longer_than_the_hosts_limit_can_be_written",
        "test_odd_names_are_kept_byte_for_byte",
        "test_names_that_differ_in_case_are_two_files",
        "test_a_nul_in_a_name_is_refused",
        "test_a_link_target_that_linux_cannot_store_is_refused",
        "test_an_escaped_name_is_shown_in_errors",
    ),
    41: row(
        "compression bombs",
        SIZE,
        "test_a_layer_that_grows_beyond_the_ratio_is_refused",
        "test_many_gzip_members_are_counted_as_one",
    ),
    42: row("extension headers of 400 MiB", READERS, "test_a_header_of_400_mib_is_refused_before_it_is_read"),
    43: row(
        "sparse bombs",
        SPARSE,
        "test_the_logical_size_counts_against_the_limits",
        "test_a_map_of_ten_million_ranges_is_refused_before_it_is_read",
        "test_a_map_that_lies_is_refused",
    ),
    44: row(
        "too many members, too deep",
        SIZE,
        "test_a_limit_is_named_with_the_value_met",
        "test_a_hundred_thousand_directories_deep_is_refused",
    ),
    45: row(
        "members that two readers see differently",
        READERS,
        "test_an_image_with_such_a_layer_has_what_gnu_tar_lists",
        "test_an_image_with_such_a_layer_is_refused",
    ),
    46: row("sizes below zero", READERS, "test_an_image_with_such_a_layer_is_refused"),
    47: row("an archive that was cut, damaged or joined", READERS, "test_an_image_with_such_a_layer_is_refused"),
    48: row("one name twice", LINKS, "test_the_last_of_several_members_of_one_name_wins"),
    49: row(
        "odd types",
        READERS,
        "test_an_image_with_such_a_layer_is_refused",
        "test_an_image_with_such_a_layer_has_what_gnu_tar_lists",
    ),
    50: row("global headers", READERS, "test_an_image_with_such_a_layer_has_what_gnu_tar_lists"),
    51: row(
        "a path to a layer as a weapon",
        DOCUMENTS,
        "test_a_layers_path_is_only_looked_up_among_the_members",
        "test_a_layer_that_links_out_of_the_archive_is_refused",
        "test_layers_that_link_to_each_other_are_refused",
        "test_eight_links_are_followed_and_nine_are_not",
        why_no_forms=OF_DOCKER,
    ),
    52: row(
        "a document as a weapon",
        DOCUMENTS,
        "test_a_manifest_is_no_weapon",
        "test_an_index_and_a_configuration_are_no_weapons_either",
        "test_a_document_above_four_mebibytes_is_not_read",
        why_no_forms=OF_DOCUMENTS,
    ),
    53: row(
        "several images",
        LAYOUTS,
        "test_two_images_without_a_selector_are_refused_with_their_names",
        "test_two_images_for_this_machine_need_a_name",
        why_no_forms=OF_DOCUMENTS,
    ),
    54: row(
        "keys in lower case", LAYOUTS, "test_keys_in_lower_case_are_read_as_jib_writes_them", why_no_forms=OF_DOCKER
    ),
    55: row(
        "counts that lie",
        DOCUMENTS,
        "test_counts_that_lie_are_refused",
        "test_repeated_layers_are_legal",
        why_no_forms=OF_DOCUMENTS,
    ),
    56: row(
        "digests that lie",
        DOCUMENTS,
        "test_a_layer_with_another_digest_is_refused_by_name",
        "test_two_layers_in_each_others_place_are_refused",
        "test_a_blob_with_bytes_behind_it_is_refused",
        "test_a_configuration_that_is_not_what_its_name_says_is_refused",
        why_no_forms=OF_DOCUMENTS,
    ),
    57: row(
        "references outward",
        DOCUMENTS,
        "test_sha512_works",
        "test_unknown_algorithms_and_broken_digests_are_refused",
        "test_urls_are_never_fetched",
        "test_a_media_type_is_not_believed",
        why_no_forms=OF_DOCUMENTS,
    ),
    58: row(
        "an object key as a weapon",
        "../test_names",
        "test_a_key_that_is_a_weapon_or_no_key_is_refused_with_the_reason",
        "test_a_key_that_s3_allows_is_kept_to_the_letter",
        why_no_forms="it is about the archive's name, not about what is in it",
    ),
    59: row(
        "a volume that a guest has written",
        "../test_architecture",
        "test_only_a_volume_that_is_being_made_is_ever_mounted",
        why_no_forms="it is about what comes after the image",
    ),
    60: row(
        "a program out of the image for decompression",
        "test_decoders",
        "test_a_decoder_has_nothing_but_its_input_and_its_output",
        "test_confinement::test_from_inside_it_is_refused_to",
        "test_compression::test_zstd_is_read_in_each_way",
        why_no_forms="layers are decompressed before there is a tree",
    ),
}

TELLING_APART = {
    0: row(
        "outer compression by magic",
        COMPRESSION,
        "test_compressed_layers_and_archives_are_read",
        "test_several_members_are_one_stream",
        "test_zeros_behind_gzip_are_padding",
        "test_compression_is_found_by_magic_and_not_mistaken_for_a_tars_first_name",
    ),
    1: row(
        "OCI, with manifest.json beside it or not",
        HYBRIDS,
        "test_both_lists_of_the_same_layers_are_one_image",
        "test_two_lists_that_disagree_are_refused",
        "test_manifest_json_is_used_when_an_oci_blob_is_missing",
        "test_manifest_json_is_used_when_the_counts_of_the_oci_side_differ",
        "test_layouts::test_an_oci_archive_is_recognised",
    ),
    2: row(
        "docker archive",
        LAYOUTS,
        "test_a_docker_archive_is_recognised",
        "test_keys_in_lower_case_are_read_as_jib_writes_them",
        "test_one_of_two_images_can_be_selected",
    ),
    3: row(
        "repositories alone",
        LAYOUTS,
        "test_an_archive_of_docker_before_1_10_follows_the_parents",
        "test_parents_in_a_circle_are_refused",
    ),
    4: row("a plain root file system", LAYOUTS, "test_a_root_file_system_is_recognised"),
    5: row(
        "a family",
        LAYOUTS,
        "test_a_family_is_its_layers_in_order",
        "../tools/test_unpack_tool::test_a_directory_of_layers_is_a_family_in_natural_order",
    ),
}

APPLYING = {
    1: row(
        "names are bytes",
        NAMES,
        "test_a_name_with_dot_dot_is_refused",
        "test_an_absolute_name_lands_inside",
        "test_a_nul_in_a_name_is_refused",
        "test_the_root_as_anything_but_a_directory_is_refused",
        "test_a_name_of_255_bytes_is_kept_and_one_of_256_is_refused",
    ),
    2: row(
        "parents are resolved inside the image",
        NAMES,
        "test_var_run_works_though_its_target_is_missing",
        "test_climbing_stops_at_the_root",
        "test_links_in_a_circle_are_refused",
        "test_a_file_over_a_link_replaces_the_link",
    ),
    3: row(
        "missing parents",
        META,
        "test_missing_parents_are_made_for_root",
        f"{LINKS}::test_what_an_upper_layer_makes_of_a_name_replaces_what_it_was",
    ),
    4: row(
        "directory over directory, and every other mix",
        LINKS,
        "test_a_directory_over_a_directory_keeps_its_children_and_takes_new_attributes",
        "test_what_an_upper_layer_makes_of_a_name_replaces_what_it_was",
        "test_a_file_over_one_of_two_names_leaves_the_other_alone",
    ),
    5: row(
        "whiteouts",
        WHITEOUTS,
        "test_a_whiteout_removes_a_file_a_link_and_a_whole_directory",
        "test_whiteouts_of_one_layer_do_not_depend_on_their_order",
        "test_an_opaque_directory_hides_lower_children_only_wherever_the_marker_stands",
        "test_the_bookkeeping_of_aufs_is_left_out_and_counted",
        "test_removing_what_is_not_there_is_no_error",
    ),
    6: row(
        "hard links",
        LINKS,
        "test_a_hard_link_to_a_file_of_a_lower_layer_is_the_same_inode",
        "test_an_absolute_hard_link_target_starts_at_the_images_root",
        "test_a_hard_link_before_its_file_waits_for_it",
        "test_a_hard_link_to_nothing_to_a_directory_or_to_itself_is_refused",
    ),
    7: row(
        "owner, mode, attributes, times, in this order",
        META,
        "test_modes_survive_setuid_and_all",
        "test_attributes_of_users_capabilities_and_acls_are_kept",
        "test_times_keep_their_nanoseconds_also_those_of_directories_and_links",
        "test_the_umask_changes_nothing",
        "test_a_directory_without_rights_gets_its_files_and_then_its_mode_and_time",
    ),
    8: row(
        "extended attributes",
        META,
        "test_attributes_of_users_capabilities_and_acls_are_kept",
        "test_attributes_as_bsdtar_writes_them_are_kept",
        "test_other_attributes_are_dropped_and_counted",
    ),
    9: row(
        "devices and FIFOs",
        META,
        "test_devices_and_fifos_are_made_and_counted",
        "test_device_numbers_that_linux_cannot_have_are_refused",
    ),
    10: row("sparse files", SPARSE, "test_holes_stay_holes", "test_the_logical_size_counts_against_the_limits"),
    11: row(
        "dialects",
        READER,
        "test_members_are_those_that_gnu_tar_lists",
        "test_a_hard_link_may_bring_its_content_along",
        "test_a_volume_label_is_no_member_and_a_dump_directory_is_a_directory",
    ),
    12: row("the last of one name wins", LINKS, "test_the_last_of_several_members_of_one_name_wins"),
    13: row(
        "the end is the end",
        READER,
        "test_an_archive_is_refused_for",
        "test_where_no_digest_covers_the_archive_its_end_must_be_marked",
        f"{VERIFY}::test_a_wrong_digest_of_a_large_layer_fails_the_writing",
    ),
    14: row("the bookkeeping of eStargz", READER, "test_a_tar_that_a_digest_covers_ends_where_gnu_tar_ends_it"),
}

OCI_CHOICE = {
    1: row("attestations and artifacts are no images", LAYOUTS, "test_attestations_and_artifacts_are_no_images"),
    2: row(
        "an index in an index, to a depth of four", LAYOUTS, "test_an_index_in_an_index_is_followed_to_a_depth_of_four"
    ),
    3: row(
        "this machine's platform, else the list",
        LAYOUTS,
        "test_the_image_for_this_machine_is_taken_of_several",
        "test_one_image_for_another_platform_is_refused_with_the_list",
    ),
    4: row("blobs of other platforms may be absent", LAYOUTS, "test_blobs_of_other_platforms_may_be_absent"),
    5: row(
        "digest and size of every blob",
        DOCUMENTS,
        "test_a_layer_with_another_digest_is_refused_by_name",
        "test_a_blob_with_bytes_behind_it_is_refused",
    ),
    6: row("encrypted layers are said to be", DOCUMENTS, "test_an_encrypted_layer_is_said_to_be_one"),
    7: row("an empty layer is empty", COMPRESSION, "test_a_compressed_empty_layer_is_empty"),
}

PRODUCED = {
    1: row("every producer of the table", PRODUCERS, "test_every_producers_archive_becomes_the_same_tree"),
    2: row(
        "real tools",
        "test_real_producers",
        "test_what_skopeo_writes_becomes_the_same_tree",
        "test_what_buildah_writes_becomes_the_same_tree",
        "test_what_podman_writes_becomes_the_same_tree",
        "test_what_ctr_exports_becomes_the_same_tree",
        "test_what_umoci_writes_becomes_the_same_tree",
    ),
}
