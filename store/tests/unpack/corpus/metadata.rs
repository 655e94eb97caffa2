//! Modes, owners, times and attributes at their extremes: exact, or refused.

use crate::archive::ground::Ground;
use crate::archive::{Archive, Magic, Member};

/// `cap_net_raw+ep`, with a newline byte in it, as real ones have.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn every_mode_bit_is_kept_whatever_the_owner_and_the_umask() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    if !status.contains("Umask:\t0777") {
        let script = r#"umask 0777; exec "$0" --exact "$1""#;
        let test = "corpus::metadata::every_mode_bit_is_kept_whatever_the_owner_and_the_umask";
        let binary = std::env::current_exe().unwrap();
        let output = crate::judges::run("dash", "sh", ["-c", script, binary.to_str().unwrap(), test]);
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }
    for mode in [0, 0o1, 0o400, 0o644, 0o755, 0o777, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777] {
        let ground = Ground::new();
        let archive = Archive::new()
            .add(Member::dir("dir").mode(mode).uid(1000).gid(1001))
            .add(Member::file("dir/file", "content").mode(mode).uid(1000).gid(1001))
            .add(Member::new(b'6', "dir/fifo").mode(mode).uid(1000).gid(1001))
            .link("dir/link", "dir/file");
        ground.layer(&archive.end()).unwrap();
        for path in ["dir", "dir/file", "dir/fifo", "dir/link"] {
            assert!(
                ground.line(path)[2..].starts_with(&format!("{mode:04o} 1000:1001 ")),
                "{}",
                ground.line(path)
            );
        }
    }
    let ground = Ground::new();
    // Some writers put the type into the mode; a setgid directory gives its group to new files.
    let archive = Archive::new()
        .add(Member::dir("d").mode(0o2775).gid(50))
        .add(Member::file("d/f", "").mode(0o100_640).gid(7))
        .add(Member::dir("d/sub").gid(8));
    ground.layer(&archive.end()).unwrap();
    assert!(ground.line("d/f").starts_with("- 0640 0:7"));
    assert!(ground.line("d/sub").starts_with("d 0755 0:8"));
}

#[test]
fn owners_fit_32_bits_or_are_refused() {
    let large = u32::MAX - 1;
    let ground = Ground::new();
    let gnu = Member::file("gnu", "").magic(Magic::Gnu).base_256(108, 8, large.into());
    let id = large.to_string();
    ground
        .layer(&Archive::new().add(gnu).pax(&[("uid", id.as_bytes()), ("gid", b"7")]).file("pax", "").end())
        .unwrap();
    assert!(ground.line("gnu").contains(&format!(" {large}:0 ")));
    assert!(ground.line("pax").contains(&format!(" {large}:7 ")));

    for bad in ["4294967295", "4294967296", "-1", "9223372036854775808", "1e3", "0x10", " 1", "+1"] {
        for key in ["uid", "gid"] {
            let archive = Archive::new().pax(&[(key, bad.as_bytes())]).file("f", "").end();
            assert!(Ground::new().layer(&archive).is_err(), "{key} {bad}");
        }
    }
    for bad in [-1, u32::MAX.into(), 1 << 32, i64::MIN, i64::MAX] {
        let member = Member::file("f", "").magic(Magic::Gnu).base_256(116, 8, bad);
        assert!(Ground::new().layer(&Archive::new().add(member).end()).is_err(), "{bad}");
    }
}

#[test]
fn times_before_1970_and_to_the_nanosecond() {
    for (text, wanted) in [
        ("0", "0.000000000"),
        ("-1", "-1.000000000"),
        ("-1.25", "-2.750000000"),
        ("1.999999999", "1.999999999"),
        ("2147483648.5", "2147483648.500000000"),
        ("-2147483648", "-2147483648.000000000"),
    ] {
        let ground = Ground::new();
        let archive = Archive::new()
            .pax(&[("mtime", text.as_bytes())])
            .dir("d")
            .pax(&[("mtime", text.as_bytes())])
            .file("d/f", "x")
            .pax(&[("mtime", text.as_bytes())])
            .symlink("d/l", "f");
        ground.layer(&archive.end()).unwrap();
        for path in ["d", "d/f", "d/l"] {
            let line = ground.line(path);
            assert_eq!(line.split(' ').nth(3), Some(wanted), "{line}");
        }
    }
    let ground = Ground::new();
    let old = Member::file("f", "").magic(Magic::Gnu).base_256(136, 12, -5);
    ground.layer(&Archive::new().add(old).end()).unwrap();
    assert!(ground.line("f").contains(" -5.000000000 "));
    for bad in ["9223372036854775808", "-9223372036854775809", "1.5x", "1,5", "", "nan", "1e9"] {
        let result =
            Ground::new().layer(&Archive::new().pax(&[("mtime", bad.as_bytes())]).file("f", "").end());
        assert_eq!(result.is_ok(), bad.is_empty(), "{bad}");
    }
}

#[test]
fn a_time_is_exact_or_refused() {
    for sec in [1 << 40, -(1 << 40), i64::MAX] {
        let ground = Ground::new();
        let text = sec.to_string();
        let archive = Archive::new().pax(&[("mtime", text.as_bytes())]).file("f", "").end();
        match ground.layer(&archive) {
            Ok(_) => assert!(ground.line("f").contains(&format!(" {sec}.")), "{}", ground.line("f")),
            Err(error) => assert!(error.to_string().contains("cannot hold"), "{error}"),
        }
    }
}

#[test]
fn attributes_are_binary() {
    let ground = Ground::new();
    let hostile = b"a\n21 path=etc/evil.cfg\nb=\0c";
    let archive = Archive::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", &CAPABILITY),
            ("SCHILY.xattr.user.hostile", hostile),
            ("SCHILY.xattr.user.empty", b""),
            ("size", b"2"),
        ])
        .add(Member::file("ok.txt", "ok").mode(0o4755).uid(12))
        .pax(&[("SCHILY.xattr.user.dir", b"x")])
        .dir("dir")
        .pax(&[("SCHILY.xattr.trusted.link", b"y")])
        .symlink("link", "x");
    ground.layer(&archive.end()).unwrap();
    assert_eq!(ground.xattr("ok.txt", "security.capability").as_deref(), Some(&CAPABILITY[..]));
    assert_eq!(ground.xattr("ok.txt", "user.hostile").as_deref(), Some(&hostile[..]));
    assert_eq!(ground.xattr("ok.txt", "user.empty").as_deref(), Some(&b""[..]));
    assert_eq!(ground.xattr("dir", "user.dir").as_deref(), Some(&b"x"[..]));
    assert_eq!(ground.xattr("link", "trusted.link").as_deref(), Some(&b"y"[..]));
    assert!(ground.line("ok.txt").starts_with("- 4755 12:0") && !ground.exists("etc"));
}

#[test]
fn attributes_have_limits() {
    let file =
        |records: &[(&str, &[u8])]| Ground::new().layer(&Archive::new().pax(records).file("f", "").end());
    let error = file(&[("SCHILY.xattr.user.x", &vec![b'x'; 64 * 1024 + 1])]).unwrap_err();
    assert!(error.to_string().contains("longer than 65536"), "{error}");
    let value = vec![b'x'; 60_000];
    let names: Vec<_> = (0..18).map(|n| format!("SCHILY.xattr.user.{n}")).collect();
    let records: Vec<_> = names.iter().map(|name| (name.as_str(), &value[..])).collect();
    let error = file(&records).unwrap_err();
    assert!(error.to_string().contains("longer than 1048576"), "{error}");
}

#[test]
fn what_is_no_content_is_left_out_and_counted() {
    let ground = Ground::new();
    let archive = Archive::new().pax(&[
        ("SCHILY.xattr.security.selinux", b"system_u:object_r:bin_t:s0\0"),
        ("SCHILY.xattr.security.ima", b"\x03\x02"),
        ("SCHILY.xattr.com.apple.provenance", b"\x01\x02"),
        ("SCHILY.acl.access", b"user::rwx"),
        ("RHT.security.selinux", b"system_u"),
        ("comment", b"hello"),
        ("VENDOR.unknown", b"x"),
        ("SCHILY.xattr.user.kept", b"x"),
    ]);
    let unpacked = ground.layer(&archive.file("f", "").end()).unwrap();
    assert_eq!(unpacked.attributes_left_out, 5);
    assert_eq!(ground.xattr("f", "security.selinux"), None);
    assert_eq!(ground.xattr("f", "user.kept").as_deref(), Some(&b"x"[..]));
}

#[test]
fn a_default_acl_is_not_inherited_by_the_archive_s_own_files() {
    // user::rwx, user:99:rwx, group::r-x, mask::rwx, other::r-x
    let acl = access_list([7, 7, 5, 7, 5]);
    let ground = Ground::new();
    let archive = Archive::new()
        .pax(&[("SCHILY.xattr.system.posix_acl_default", &acl)])
        .dir("d")
        .add(Member::file("d/f", "").mode(0o600))
        .dir("d/sub");
    ground.layer(&archive.end()).unwrap();
    assert_eq!(ground.xattr("d", "system.posix_acl_default").as_deref(), Some(&acl[..]));
    assert_eq!(ground.xattr("d/f", "system.posix_acl_access"), None);
    assert_eq!(ground.xattr("d/sub", "system.posix_acl_default"), None);
    assert!(ground.line("d/f").starts_with("- 0600"));
}

/// Permissions of the owner, user 99, the group, the mask and others, as the kernel keeps them
/// (linux/posix_acl_xattr.h, version 2).
pub fn access_list(permissions: [u16; 5]) -> Vec<u8> {
    let whom: [(u16, u32); 5] = [(1, u32::MAX), (2, 99), (4, u32::MAX), (0x10, u32::MAX), (0x20, u32::MAX)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for ((tag, id), permissions) in whom.into_iter().zip(permissions) {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}
