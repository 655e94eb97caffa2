//! Every row of what is known about attacks by archives, input by input, with the test that gives it to forge. Rows are
//! named U01 to U18; those of images and layouts are tested from outside, in `cli/tests/it/images/rejected.rs`.
//! Below the table are the inputs that no other file has.

use forge_store::layer::unpack::UnpackError;
use forge_store::layer::{UnpackOptions, unpack_blob};
use forge_store::tree::OverlayXattrs;
use forge_store::{DiffId, Digest};

use super::metadata::access_list;
use super::sparse::sparse;
use crate::archive::ground::Ground;
use crate::archive::{Archive, Magic, Member};

/// Row, inputs, test.
const TABLE: &[(&str, &str, &str)] = &[
    ("U01", "/abs, //x, ./x", "absolute_names_are_relative_to_the_root"),
    (
        "U01",
        "../x, a/../../x, ./../x, and each as a directory, symlink, FIFO",
        "names_that_lead_out_are_refused",
    ),
    ("U01", "seen to leave the tree by Python and GNU tar", "what_escapes_elsewhere_stays_inside_here"),
    ("U02", "TestBreakouts: Symlink…", "through_symlinks"),
    ("U02", "TestBreakouts: Hardlink…", "through_hard_links"),
    ("U02", "TestBreakouts: …Override…, over a base and in one directory", "over_what_lies_below"),
    ("U02", "TestBreakouts: Whiteout…", "by_whiteouts"),
    ("U02", "TestBreakouts: HardlinkSymlinkChmod", "hardlink_symlink_chmod"),
    ("U02", "TestBreakouts: all of them", "none_is_forgotten"),
    ("U02", "every way of writing a target that leads out", "what_is_written_through_symlinks_stays_inside"),
    (
        "U03",
        "/etc/passwd, ../../../x, relative to the process's directory",
        "hard_links_that_mean_files_of_the_host",
    ),
    (
        "U03",
        "to the root, a directory, a missing file, a whiteout",
        "what_is_not_a_file_of_the_tree_is_no_target",
    ),
    ("U03", "to a symlink that points out", "a_link_to_a_symlink_is_the_symlink"),
    ("U03", "to itself", "a_link_to_itself_is_what_tar_writes_for_a_file_given_twice"),
    ("U04", "symlink foo, then directory foo, foo/., file foo", "metadata_never_follow_the_last_name"),
    ("U04", "deferred modes and times", "a_replaced_directory_takes_its_late_metadata_with_it"),
    ("U05", "/., ., ./, empty, as all types", "the_root_can_only_be_a_directory"),
    ("U06", ".wh.., .wh..., .wh., etc/.wh..", "whiteouts_that_hide_no_name_are_refused"),
    ("U06", "a/.wh.b/c", "a_whiteout_name_above_the_last_is_a_name"),
    (
        "U06",
        ".wh..wh..opq through a symlink, before and after siblings",
        "an_opaque_directory_keeps_what_the_layer_adds",
    ),
    (
        "U06",
        "whiteout of a path of the same layer, before and after",
        "whiteouts_hide_layers_below_and_not_their_own",
    ),
    (
        "U07",
        "0:0, trusted.overlay.*, user.overlay.*, encoded too",
        "overlayfs_s_own_attributes_and_devices_are_refused",
    ),
    ("U07", "seen to be set by GNU tar", "marks_that_others_would_set_are_refused"),
    ("U08", "devices, FIFO, contiguous, v7's directories", "special_files_are_content"),
    ("U08", "socket type, unknown types, impossible device numbers", "types_that_no_layer_has_are_refused"),
    (
        "U08",
        "without the right to make nodes",
        "in_a_user_namespace_devices_are_recorded_and_marks_are_the_user_s",
    ),
    ("U09", "(a), (b) PAX size and another in the header", "the_pax_size_counts_whatever_the_header_says"),
    ("U09", "(c) PAX size, then GNU's L, K", "the_pax_size_is_the_file_s_and_not_a_long_name_s"),
    ("U09", "the same listing by GNU tar, Python and umoci", "no_name_is_smuggled_in"),
    ("U09", "seen to mislead the `tar` crate", "a_reader_that_splits_at_newlines_is_misled"),
    ("U10", "record lengths, no `=`, NUL, key missing", "records_that_do_not_parse"),
    ("U10", "keys twice", "the_last_of_two_records_counts"),
    ("U10", "global path, linkpath, size", "global_headers_give_times_and_owners"),
    ("U10", "negative and 2^63 sizes, base-256 negative", "sizes_that_are_none_are_refused"),
    ("U10", "x, g, L, K that claim more than 1 MiB, up to 4 GiB", "extended_headers_have_a_limit"),
    ("U10", "wrong checksum", "a_wrong_checksum"),
    ("U10", "numbers that are none", "fields_that_are_no_numbers"),
    ("U10", "sparse maps of a million rows, in all four forms", "a_million_rows_are_refused_in_every_form"),
    ("U10", "8 EiB", "a_huge_hole_counts_against_the_quota"),
    ("U11", "a claim of 10 GiB", "a_bomb_is_stopped_by_its_claim"),
    ("U11", "10 GiB of zstd zeros, many small files, many directories", "a_bomb_is_stopped_by_its_bytes"),
    ("U11", "window of 2^28", "a_window_over_the_limit_is_refused"),
    (
        "U11",
        "window of 2^31 as `zstd --long=31` makes it",
        "a_window_of_two_gibibytes_is_only_taken_by_who_allows_it",
    ),
    ("U12", "members, frames, skippable frames, no compression", "layers_of_every_compression"),
    ("U12", "trailing garbage, damaged bytes", "cut_or_damaged_streams_are_refused"),
    ("U12", "compressed and cut at every byte", "cut_at_any_byte_a_stream_is_refused"),
    ("U12", "a tar cut at every block", "cut_anywhere_an_archive_is_whole_entries_or_an_error"),
    ("U12", "two tars, no end, half an end, garbage behind the end", "an_archive_ends_where_go_s_ends"),
    ("U13", "another layer's DiffID", "a_diff_id_that_is_another_layer_s_is_refused"),
    ("U14", "directories swapped for symlinks", "directories_swapped_for_symlinks_while_it_runs"),
    ("U15", "-1, 2^63, fractions", "times_before_1970_and_to_the_nanosecond"),
    ("U15", "times that no file system holds", "a_time_is_exact_or_refused"),
    ("U15", "ids over 2^32", "owners_fit_32_bits_or_are_refused"),
    ("U15", "07777 under umask 0777", "every_mode_bit_is_kept_whatever_the_owner_and_the_umask"),
    ("U15", "setuid with capabilities, binary values", "attributes_are_binary"),
    ("U15", "64 KiB, and one byte more", "an_attribute_of_64_kib_is_exact_or_refused"),
    ("U15", "a megabyte in one file", "attributes_have_limits"),
    ("U15", "access ACL", "an_access_acl_is_kept_exactly"),
    ("U15", "default ACL", "a_default_acl_is_not_inherited_by_the_archive_s_own_files"),
    ("U16", "non-UTF-8, newline, backslash", "any_bytes_but_nul_and_slash"),
    ("U16", "255 and 256 bytes, 4095 and 4096", "too_long_is_refused"),
    ("U16", "trailing / on a file", "a_slash_at_the_end_of_a_file_s_name"),
    ("U16", "NUL", "nul_bytes"),
    ("U16", "duplicates, file and directory replacing each other", "the_last_entry_of_a_name_counts"),
    ("U16", "case pairs", "case_and_normal_forms_are_kept_apart"),
    ("U17", "hard link with an absolute target", "targets_resolve_inside_the_tree"),
    ("U17", "var/run -> /run, then through it", "symlinks_of_the_directory_are_followed_inside_it"),
    ("U17", "the same in a layer, dangling", "a_dangling_parent_is_made_inside"),
    ("U17", "implied parents", "implied_directories_are_root_s_and_told"),
    ("U17", "dev/ptmx", "special_files_are_content"),
    ("U17", "hard link to a symlink", "a_link_to_a_symlink_is_the_symlink"),
    ("U11", "a bomb in an image, memory bounded", "a_bomb_ends_within_bounds_and_leaves_nothing"),
    (
        "U12",
        "media type and magic that disagree",
        "the_bytes_tell_the_compression_whatever_the_media_type_says",
    ),
    ("U13", "an image with the base's DiffIDs and other bytes", "a_poisoned_image_never_becomes_the_base"),
    ("U13", "fewer or more DiffIDs than layers", "as_many_diff_ids_as_layers"),
    ("U18", "symlinks for blobs, a FIFO, a directory", "only_regular_files_are_blobs"),
    ("U18", "manifest.json with ../../x", "names_in_an_archive_mean_its_own_entries"),
    ("U18", "index.json of 10 GiB, no oci-layout, another version", "a_layout_that_is_none"),
    ("all", "wrong digest, size, type, order", "what_is_not_as_described_is_refused"),
];

const SOURCES: &[&str] = &[
    include_str!("adding.rs"),
    include_str!("breakouts.rs"),
    include_str!("escapes.rs"),
    include_str!("headers.rs"),
    include_str!("known_bad.rs"),
    include_str!("layers.rs"),
    include_str!("links.rs"),
    include_str!("listings.rs"),
    include_str!("metadata.rs"),
    include_str!("names.rs"),
    include_str!("rows.rs"),
    include_str!("sizes.rs"),
    include_str!("sparse.rs"),
    include_str!("streams.rs"),
    include_str!("../../../../cli/tests/it/images/rejected.rs"),
];

#[test]
fn every_row_has_its_tests() {
    for (row, input, test) in TABLE {
        let head = format!("#[test]\nfn {test}()");
        assert!(SOURCES.iter().any(|source| source.contains(&head)), "{row}, {input}: there is no {test}");
    }
    let rows = (1..=18).map(|number| format!("U{number:02}"));
    for row in rows {
        assert!(TABLE.iter().any(|(id, ..)| *id == row), "{row} has no test");
    }
}

#[test]
fn hard_links_that_mean_files_of_the_host() {
    // The process's own directory has a Cargo.toml (CVE-2026-50163 linked from there).
    assert!(std::path::Path::new("Cargo.toml").exists());
    for target in
        ["/etc/passwd", "../../../x", "../../../etc/passwd", "Cargo.toml", "./Cargo.toml", "src/lib.rs"]
    {
        let ground = Ground::new();
        let error = ground.layer(&Archive::new().link("name", target).end()).unwrap_err();
        assert!(error.to_string().contains("hard link target"), "{target}: {error}");
        assert!(
            ground.archive(&Archive::new().link("name", target).end()).is_err() && !ground.exists("name")
        );
    }
}

#[test]
fn a_million_rows_are_refused_in_every_form() {
    const ROWS: usize = 1_000_000;
    let head = "32 GNU.sparse.numblocks=1000000\n22 GNU.sparse.size=0\n".to_owned();
    let in_header =
        |rows: String| Archive::new().extended(b'x', (head.clone() + &rows).as_bytes()).file("s", "");
    let block = |more: u8| {
        let mut block = "00000000000\0".repeat(42).into_bytes();
        block.resize(512, 0);
        block[504] = more;
        block
    };
    let old = Member::new(b'S', "s").magic(Magic::Gnu).raw(386, &block(1)[..96]).raw(482, &[1]);
    let lines = format!("{ROWS}\n{}", "0\n0\n".repeat(ROWS));
    let version: [(&str, &[u8]); 3] =
        [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"0")];
    let archives = [
        Archive::new().add(old).raw(block(1).repeat(ROWS / 21)).raw(block(0)),
        in_header("23 GNU.sparse.offset=0\n25 GNU.sparse.numbytes=0\n".repeat(ROWS)),
        in_header(format!("4000022 GNU.sparse.map={}\n", ["0"; 2 * ROWS].join(","))),
        Archive::new().pax(&version).file("s", lines),
    ];
    for (form, archive) in archives.into_iter().enumerate() {
        let ground = Ground::new();
        let error = ground.layer(&archive.end()).unwrap_err();
        assert!(error.to_string().contains("longer than"), "form {form}: {error}");
        assert!(!ground.exists("s"));
    }
    // 8 EiB is a byte more than a file can have.
    for form in 1..4 {
        let archive = sparse(Archive::new(), form, "s", (&[(0, 1)], 1 << 63, b"x")).end();
        assert!(Ground::new().layer(&archive).is_err(), "form {form}");
    }
}

#[test]
fn cut_at_any_byte_a_stream_is_refused() {
    use std::io::Write;
    let tar = Archive::new().file("f", "content".repeat(50)).end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let options = UnpackOptions::layer(OverlayXattrs::Trusted);
    let diff_id = DiffId::new(Digest::of(&tar));
    for packed in [gzip.finish().unwrap(), zstd::encode_all(&tar[..], 1).unwrap()] {
        for cut in 0..packed.len() {
            let ground = Ground::new();
            let result = unpack_blob(&packed[..cut], &diff_id, &ground.root(), &options);
            assert!(result.is_err(), "{cut} of {} bytes", packed.len());
        }
        unpack_blob(&packed[..], &diff_id, &Ground::new().root(), &options).unwrap();
    }
}

#[test]
fn an_attribute_of_64_kib_is_exact_or_refused() {
    for size in [4_000, 64 * 1024, 64 * 1024 + 1] {
        let (ground, value) = (Ground::new(), vec![b'v'; size]);
        let archive = Archive::new().pax(&[("SCHILY.xattr.user.large", &value)]).file("f", "").end();
        match ground.layer(&archive) {
            Ok(_) => assert_eq!(ground.xattr("f", "user.large").as_deref(), Some(&value[..])),
            Err(UnpackError::Write(error)) => assert!(size > 4_000, "the file system's own limit: {error}"),
            Err(error) => assert!(size > 64 * 1024, "{error}"),
        }
    }
}

#[test]
fn an_access_acl_is_kept_exactly() {
    // user::rw-, user:99:r--, group::r--, mask::r--, other::---
    let acl = access_list([6, 4, 4, 4, 0]);
    let ground = Ground::new();
    let archive = Archive::new()
        .pax(&[("SCHILY.xattr.system.posix_acl_access", &acl)])
        .add(Member::file("f", "").mode(0o640).uid(5).magic(Magic::Ustar));
    ground.layer(&archive.end()).unwrap();
    assert_eq!(ground.xattr("f", "system.posix_acl_access").as_deref(), Some(&acl[..]));
    assert!(ground.line("f").starts_with("- 0640 5:0"));
}
