//! Who `USER` means: Docker's rules over the image's own passwd and group files.
//!
//! A name that is not there is an error; a number is taken as it is, with the group and groups of its passwd entry if
//! it has one, else group 0. Whatever does not parse exactly is an error too: nothing ever falls back to uid 0. The
//! files are untrusted: they are opened inside the root without blocking, must be regular and small.

use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use crate::guard::{self, Guard};

/// The largest passwd or group file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 8 << 20;
/// The largest user or group id, as Docker has it.
pub const MAX_ID: u32 = i32::MAX as u32;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All groups to set, the primary one first.
    pub groups: Vec<u32>,
    /// The home directory of the passwd entry, if there is one.
    pub home: Option<String>,
}

/// Why a user could not be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No such name in passwd.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// No such name in group.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// A number that is no id.
    #[error("id {0} is out of range: uids and gids must be in range 0-{MAX_ID}")]
    Range(String),
    /// `1:` or `:1`.
    #[error("user {0:?} names no {1}")]
    Empty(String, &'static str),
    /// The entry exists, but its numbers do not parse.
    #[error("entry {0} of the {1} file is malformed")]
    Malformed(String, &'static str),
}

/// Resolves `spec` (`user`, `user:group`, `uid`, `uid:gid`; empty is root) against the contents of /etc/passwd and
/// /etc/group.
///
/// # Errors
/// [`UserError`].
pub fn resolve_user(spec: &str, passwd: &[u8], group: &[u8]) -> Result<Ids, UserError> {
    if spec.is_empty() {
        return Ok(Ids { uid: 0, gid: 0, groups: vec![0], home: home_of(0, passwd) });
    }
    let (user, group_name) = match spec.split_once(':') {
        Some(("", _)) => return Err(UserError::Empty(spec.into(), "user")),
        Some((_, "")) => return Err(UserError::Empty(spec.into(), "group")),
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    let account = find_account(user, passwd)?;
    let gid = match group_name {
        Some(name) => find_group(name, group)?,
        None => account.gid,
    };
    let mut groups = vec![gid];
    if let (None, Some(name)) = (group_name, &account.name) {
        for member_of in groups_of(name, group) {
            if !groups.contains(&member_of) {
                groups.push(member_of);
            }
        }
    }
    Ok(Ids { uid: account.uid, gid, groups, home: account.home })
}

/// The home directory of `uid`.
#[must_use]
pub fn home_of(uid: u32, passwd: &[u8]) -> Option<String> {
    entries(passwd).find(|entry| exact(entry.get(2)) == Some(uid)).and_then(|entry| text(entry.get(5)))
}

/// Reads /etc/passwd or /etc/group (`path`) below the open directory `root`; empty if there is none.
///
/// # Errors
/// EINVAL if it is no regular file, EFBIG if it is larger than [`MAX_FILE_BYTES`], else those of `openat2(2)`: no
/// link leads out of `root`.
pub fn read_account_file(root: impl AsFd, path: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let file = match openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(bytes)
}

struct Account {
    uid: u32,
    gid: u32,
    name: Option<String>,
    home: Option<String>,
}

/// The first entry whose name or number it is; a number without one stands for itself.
fn find_account(user: &str, passwd: &[u8]) -> Result<Account, UserError> {
    let number = number(user)?;
    let found = entries(passwd).find(|entry| {
        entry.first() == Some(&user.as_bytes()) || (number.is_some() && exact(entry.get(2)) == number)
    });
    match (found, number) {
        (Some(entry), _) => {
            let (Some(uid), Some(gid)) = (exact(entry.get(2)), exact(entry.get(3))) else {
                return Err(UserError::Malformed(user.into(), "passwd"));
            };
            Ok(Account { uid, gid, name: text(entry.first()), home: text(entry.get(5)) })
        }
        (None, Some(uid)) => Ok(Account { uid, gid: 0, name: None, home: None }),
        (None, None) => Err(UserError::NoUser(user.into())),
    }
}

fn find_group(name: &str, group: &[u8]) -> Result<u32, UserError> {
    let number = number(name)?;
    let found = entries(group).find(|entry| {
        entry.first() == Some(&name.as_bytes()) || (number.is_some() && exact(entry.get(2)) == number)
    });
    match (found, number) {
        (Some(entry), _) => exact(entry.get(2)).ok_or_else(|| UserError::Malformed(name.into(), "group")),
        (None, Some(gid)) => Ok(gid),
        (None, None) => Err(UserError::NoGroup(name.into())),
    }
}

fn groups_of<'a>(name: &'a str, group: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
    entries(group).filter_map(move |entry| {
        let members = entry.get(3)?;
        let is_member = members.split(|byte| *byte == b',').any(|member| member == name.as_bytes());
        if is_member { exact(entry.get(2)) } else { None }
    })
}

/// The colon-separated fields of each line that has any.
fn entries(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .map(|line| line.split(|byte| *byte == b':').collect())
}

/// A name that is a number (a sign counts as one) must be an id; `None` if it is a name.
fn number(name: &str) -> Result<Option<u32>, UserError> {
    if !Guard::ExactIds.holds() {
        return Ok(guard::careless_number(name));
    }
    let digits = name.strip_prefix(['-', '+']).unwrap_or(name);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match name.parse::<u32>() {
        Ok(id) if id <= MAX_ID && !name.starts_with('+') => Ok(Some(id)),
        _ => Err(UserError::Range(name.into())),
    }
}

fn exact(field: Option<&&[u8]>) -> Option<u32> {
    let text = std::str::from_utf8(field?).ok()?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

fn text(field: Option<&&[u8]>) -> Option<String> {
    let text = String::from_utf8(field?.to_vec()).ok()?;
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # a comment\n\
        www-data:x:33:33:www:/var/www:/usr/sbin/nologin\n\
        odd:x:abc:0::/:\n\
        77:x:1077:1077::/home/77:\n";
    const GROUP: &[u8] = b"root:x:0:\nadm:x:4:www-data,other\nwww-data:x:33:\nssl:x:99:www-data\nbad:x:zz:\n";

    fn ids(spec: &str) -> Result<(u32, u32, Vec<u32>), UserError> {
        resolve_user(spec, PASSWD, GROUP).map(|ids| (ids.uid, ids.gid, ids.groups))
    }

    #[test]
    fn a_user_has_its_own_groups_and_nobody_else_s() {
        assert_eq!(ids("www-data").unwrap(), (33, 33, vec![33, 4, 99]));
        assert_eq!(ids("33").unwrap(), (33, 33, vec![33, 4, 99]));
        assert_eq!(ids("").unwrap(), (0, 0, vec![0]));
        assert_eq!(ids("1234").unwrap(), (1234, 0, vec![0]));
        assert_eq!(resolve_user("33", PASSWD, GROUP).unwrap().home.unwrap(), "/var/www");
    }

    #[test]
    fn an_explicit_group_is_the_only_one() {
        assert_eq!(ids("www-data:adm").unwrap(), (33, 4, vec![4]));
        assert_eq!(ids("33:1000").unwrap(), (33, 1000, vec![1000]));
        assert_eq!(ids("5:ssl").unwrap(), (5, 99, vec![99]));
    }

    #[test]
    fn the_first_entry_that_fits_counts_even_for_a_numeric_name() {
        assert_eq!(ids("77").unwrap().0, 1077);
        assert_eq!(ids("01").unwrap().0, 1);
    }

    #[test]
    fn nothing_falls_back_to_root() {
        for (spec, error) in [
            ("nobody", UserError::NoUser("nobody".into())),
            ("www-data:none", UserError::NoGroup("none".into())),
            ("4294967296", UserError::Range("4294967296".into())),
            ("4294967295", UserError::Range("4294967295".into())),
            ("2147483648", UserError::Range("2147483648".into())),
            ("-1", UserError::Range("-1".into())),
            ("+0", UserError::Range("+0".into())),
            ("0x0", UserError::NoUser("0x0".into())),
            ("1:", UserError::Empty("1:".into(), "group")),
            (":1", UserError::Empty(":1".into(), "user")),
            (":", UserError::Empty(":".into(), "user")),
            ("odd", UserError::Malformed("odd".into(), "passwd")),
            ("5:bad", UserError::Malformed("bad".into(), "group")),
            ("1:-1", UserError::Range("-1".into())),
        ] {
            assert_eq!(ids(spec).unwrap_err(), error, "{spec}");
        }
    }

    #[test]
    fn ten_million_lines_are_no_trouble() {
        let passwd = b"a:x:1:1::/:\n".repeat(600_000);
        assert_eq!(resolve_user("missing", &passwd, b""), Err(UserError::NoUser("missing".into())));
    }
}
