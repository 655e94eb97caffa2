//! Subordinate ids: /etc/subuid and /etc/subgid, and the set-uid programs that map them (subuid(5), newuidmap(1)).

use std::fs;
use std::path::PathBuf;

use rustix::process::geteuid;

use super::find_program;

/// Host ids that belong to a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first id, on the host.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// All that is needed to map subordinate ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subids {
    /// Subordinate user ids, in the order of the file.
    pub uids: Vec<IdRange>,
    /// Subordinate group ids.
    pub gids: Vec<IdRange>,
    /// The program that maps user ids.
    pub newuidmap: PathBuf,
    /// The program that maps group ids.
    pub newgidmap: PathBuf,
}

/// Why subordinate ids cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubidError {
    /// The user has none.
    #[error("user {user} has no line in {file}; {}", self.remedy())]
    NoRange {
        /// The file.
        file: &'static str,
        /// The user's name, or number if it has none.
        user: String,
    },
    /// A helper is missing.
    #[error("{program} is not installed; {}", self.remedy())]
    NoProgram {
        /// Its name.
        program: &'static str,
    },
}

impl SubidError {
    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            SubidError::NoRange { user, .. } => {
                format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}")
            }
            SubidError::NoProgram { .. } => {
                "as root: apt-get install uidmap (it is in shadow-utils elsewhere)".into()
            }
        }
    }
}

impl Subids {
    /// What this user has; `search_path` is where programs are looked for, in the form of `PATH`.
    ///
    /// # Errors
    /// [`SubidError`], with what to do.
    pub fn of_this_user(search_path: &str) -> Result<Subids, SubidError> {
        let uid = geteuid().as_raw();
        let name = name_of(uid, &fs::read_to_string("/etc/passwd").unwrap_or_default());
        let ranges = |file| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let found = parse(&text, uid, name.as_deref());
            let user = name.clone().unwrap_or_else(|| uid.to_string());
            if found.is_empty() { Err(SubidError::NoRange { file, user }) } else { Ok(found) }
        };
        let program = |program| find_program(program, search_path).ok_or(SubidError::NoProgram { program });
        Ok(Subids {
            uids: ranges("/etc/subuid")?,
            gids: ranges("/etc/subgid")?,
            newuidmap: program("newuidmap")?,
            newgidmap: program("newgidmap")?,
        })
    }
}

fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The ranges of one user, whom a line may name or number. Lines that make no sense are not ours to judge.
fn parse(text: &str, uid: u32, name: Option<&str>) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let ours = Some(owner) == name || owner.parse() == Ok(uid);
            (ours && count > 0).then_some(IdRange { first, count })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_by_name_and_by_number_count() {
        let text = "other:1:2\nme:100000:65536\n1000:300000:10\nme:broken\n\n# me:5:5\nme:7:0\n";
        let found = parse(text, 1000, Some("me"));
        assert_eq!(found, [IdRange { first: 100_000, count: 65_536 }, IdRange { first: 300_000, count: 10 }]);
        assert!(parse(text, 1001, None).is_empty());
    }

    #[test]
    fn a_number_finds_its_name() {
        assert_eq!(name_of(33, "root:x:0:0:::\nwww-data:x:33:33:::\n").unwrap(), "www-data");
        assert_eq!(name_of(34, "root:x:0:0:::\n"), None);
    }
}
