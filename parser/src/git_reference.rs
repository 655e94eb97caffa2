//! Git repositories as ADD and build contexts name them: `https://host/path.git?query#ref:subdir`.
//!
//! What comes out is safe to hand to git: no part begins with a dash or holds control characters, the transport is
//! one of four, the reference is one that git itself would take, and the directory has no way out.

use crate::remote::is_git_reference;

/// A repository, what is wanted of it, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GitReference {
    /// The address, without query and fragment. It may hold a user name and a password.
    pub remote: String,
    /// Branch, tag or commit; none is the repository's default branch.
    pub reference: Option<String>,
    /// The directory that is wanted, relative, cleaned; empty for all.
    pub subdir: String,
    /// The beginning of the commit's hash that must be found, lower-case hex.
    pub checksum: Option<String>,
    /// Whether `.git` is kept.
    pub keep_git_dir: Option<bool>,
    /// Submodules are checked out too.
    pub submodules: bool,
    /// The checksum is the commit to fetch, and the reference only says where it is expected.
    pub fetch_by_commit: bool,
    /// What time files get.
    pub mtime: GitMtime,
}

/// What modification time the files of a checkout get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GitMtime {
    /// The commit's own: the same commit gives the same image at any time.
    #[default]
    Commit,
    /// That of the checkout.
    Checkout,
}

/// Why a text names no repository that forge takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitReferenceError {
    /// Another transport than https, http, ssh and git, or none at all.
    #[error("{0:?} is not a git repository that forge can fetch")]
    Remote(String),
    /// A reference that git would not take, or would take for an option.
    #[error("invalid git reference {0:?}")]
    Reference(String),
    /// A query key that there is not.
    #[error("unexpected query {0:?} in a git URL")]
    Query(String),
    /// Two parts of the address that say different things.
    #[error("conflicting {what} in a git URL: {one:?} and {other:?}")]
    Conflict {
        /// What they say differently.
        what: &'static str,
        /// The one.
        one: String,
        /// The other.
        other: String,
    },
    /// A value that its key does not take.
    #[error("invalid value {value:?} for {key} in a git URL")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A commit that is none.
    #[error("expected hex commit hash, got {0:?}")]
    Checksum(String),
}

impl GitReference {
    /// Reads a word that [`is_git_reference`] takes for a repository.
    pub fn parse(text: &str) -> Result<Self, GitReferenceError> {
        let (address, fragment) = match text.split_once('#') {
            Some((address, fragment)) => (address, Some(fragment)),
            None => (text, None),
        };
        let (remote, query) = match address.split_once('?') {
            Some((remote, query)) => (remote, Some(query)),
            None => (address, None),
        };
        if !is_git_reference(remote) || !is_safe_remote(remote) {
            return Err(GitReferenceError::Remote(crate::context::brief(text)));
        }
        let mut parsed = Self {
            remote: remote.to_owned(),
            reference: None,
            subdir: String::new(),
            checksum: None,
            keep_git_dir: None,
            submodules: true,
            fetch_by_commit: false,
            mtime: GitMtime::default(),
        };
        let (reference, subdir) = fragment.map_or(("", ""), |f| f.split_once(':').unwrap_or((f, "")));
        parsed.set_reference(reference)?;
        parsed.set_subdir(subdir)?;
        for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            parsed.query(&decode(key), &decode(value))?;
        }
        if parsed.fetch_by_commit && parsed.checksum.is_none() {
            return Err(GitReferenceError::Value { key: "fetch-by-commit".into(), value: "true".into() });
        }
        Ok(parsed)
    }

    /// Reads a build context; `github.com/organisation/repository` is one too.
    pub fn parse_context(text: &str) -> Result<Self, GitReferenceError> {
        if !text.starts_with("github.com/") {
            return Self::parse(text);
        }
        let end = text.find(['#', '?']).unwrap_or(text.len());
        let (path, rest) = text.split_at(end);
        let path = path.trim_end_matches('/');
        let suffix = if path.ends_with(".git") { "" } else { ".git" };
        Self::parse(&format!("https://{path}{suffix}{rest}"))
    }

    /// Whether a build context names a repository.
    pub fn is_context(text: &str) -> bool {
        is_git_reference(text) || text.strip_prefix("github.com/").is_some_and(|rest| !rest.is_empty())
    }

    /// Demands a commit, as `--checksum` does.
    pub fn set_checksum(&mut self, checksum: &str) -> Result<(), GitReferenceError> {
        let checksum = checksum.to_ascii_lowercase();
        let is_hex = checksum.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || checksum.is_empty() || checksum.len() > 64 {
            return Err(GitReferenceError::Checksum(crate::context::brief(&checksum)));
        }
        agree("checksum", self.checksum.as_ref(), &checksum)?;
        self.checksum = Some(checksum);
        Ok(())
    }

    /// The address for people and for images: a password is hidden.
    pub fn shown_remote(&self) -> String {
        crate::remote::redacted(&self.remote)
    }

    /// The commit, where the reference is nothing but one.
    pub fn commit(&self) -> Option<&str> {
        let whole = |text: &&str| {
            matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let fetched = self.checksum.as_deref().filter(|_| self.fetch_by_commit);
        fetched.or(self.reference.as_deref()).filter(whole)
    }

    fn query(&mut self, key: &str, value: &str) -> Result<(), GitReferenceError> {
        match key {
            "ref" => self.set_reference(value),
            "tag" => self.set_reference(&format!("refs/tags/{value}")),
            "branch" => self.set_reference(&format!("refs/heads/{value}")),
            "subdir" => self.set_subdir(value),
            "checksum" | "commit" => self.set_checksum(value),
            "keep-git-dir" => boolean(key, value).map(|keep| self.keep_git_dir = Some(keep)),
            "submodules" => boolean(key, value).map(|wanted| self.submodules = wanted),
            "fetch-by-commit" => boolean(key, value).map(|wanted| self.fetch_by_commit = wanted),
            "mtime" => {
                self.mtime = match value {
                    "commit" => GitMtime::Commit,
                    "checkout" => GitMtime::Checkout,
                    _ => return Err(GitReferenceError::Value { key: key.into(), value: value.into() }),
                };
                Ok(())
            }
            _ => Err(GitReferenceError::Query(crate::context::brief(key))),
        }
    }

    fn set_reference(&mut self, reference: &str) -> Result<(), GitReferenceError> {
        if reference.is_empty() {
            return Ok(());
        }
        if !is_reference(reference) {
            return Err(GitReferenceError::Reference(crate::context::brief(reference)));
        }
        agree("references", self.reference.as_ref(), reference)?;
        self.reference = Some(reference.to_owned());
        Ok(())
    }

    fn set_subdir(&mut self, subdir: &str) -> Result<(), GitReferenceError> {
        let mut kept: Vec<&str> = Vec::new();
        for part in subdir.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(kept.pop()),
                part => kept.push(part),
            }
        }
        let cleaned = kept.join("/");
        if cleaned.contains(char::is_control) {
            return Err(GitReferenceError::Value { key: "subdir".into(), value: cleaned });
        }
        if !cleaned.is_empty() {
            agree("subdirectories", Some(&self.subdir).filter(|known| !known.is_empty()), &cleaned)?;
            self.subdir = cleaned;
        }
        Ok(())
    }
}

fn agree(what: &'static str, known: Option<&String>, new: &str) -> Result<(), GitReferenceError> {
    match known {
        Some(known) if known != new => {
            Err(GitReferenceError::Conflict { what, one: known.clone(), other: new.to_owned() })
        }
        _ => Ok(()),
    }
}

/// A flag of the query: present counts as true.
fn boolean(key: &str, value: &str) -> Result<bool, GitReferenceError> {
    match value {
        "" | "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(GitReferenceError::Value { key: key.to_owned(), value: crate::context::brief(value) }),
    }
}

/// No part of an address may look like an option to git or ssh, or move a terminal's cursor.
fn is_safe_remote(remote: &str) -> bool {
    let rest = remote.split_once("://").map_or(remote, |(_, rest)| rest);
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let path = host.split_once(['/', ':']).map_or("", |(_, path)| path);
    !remote.contains(|c: char| c.is_control() || c.is_whitespace())
        && ![remote, rest, host, path].iter().any(|part| part.starts_with('-'))
        && !host.starts_with(['/', ':'])
}

/// What git-check-ref-format(1) allows, and no dash in front.
fn is_reference(text: &str) -> bool {
    let forbidden = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    !text.starts_with(['-', '/', '.'])
        && !text.ends_with(['/', '.'])
        && !text.contains(forbidden)
        && !["..", "//", "@{", "/.", "/-"].iter().any(|bad| text.contains(bad))
        && !text.split('/').any(|part| part.ends_with(".lock"))
        && text != "@"
}

/// `%41` is `A`; what is no such escape stays.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let ahead = rest.clone().take(2).collect::<Vec<_>>();
        let escaped = std::str::from_utf8(&ahead).ok().filter(|hex| byte == b'%' && hex.len() == 2);
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                bytes.push(value);
                rest.nth(1);
            }
            None => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> GitReference {
        GitReference::parse_context(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn addresses_fragments_and_queries() {
        let parsed = parse("https://host/a/b.git#v1:sub/./dir/");
        assert_eq!(parsed.remote, "https://host/a/b.git");
        assert_eq!((parsed.reference.as_deref(), parsed.subdir.as_str()), (Some("v1"), "sub/dir"));
        let parsed = parse("git@host:a/b.git?branch=x%2Fy&subdir=s&keep-git-dir&submodules=0&mtime=checkout");
        assert_eq!((parsed.remote.as_str(), parsed.subdir.as_str()), ("git@host:a/b.git", "s"));
        assert_eq!(parsed.reference.as_deref(), Some("refs/heads/x/y"));
        assert_eq!((parsed.keep_git_dir, parsed.submodules), (Some(true), false));
        assert_eq!(parsed.mtime, GitMtime::Checkout);
        let parsed = parse("github.com/moby/buildkit?tag=v0.1#:sub");
        assert_eq!(parsed.remote, "https://github.com/moby/buildkit.git");
        assert_eq!(parsed.reference.as_deref(), Some("refs/tags/v0.1"));
        assert_eq!(parsed.subdir, "sub");
        assert_eq!(parse("ssh://git@h:22/x.git#:").reference, None);
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(parse(&format!("git://h/x#{commit}")).commit(), Some(commit));
        let by_commit = format!("git://h/x?ref=main&commit={commit}&fetch-by-commit=true");
        assert_eq!(parse(&by_commit).commit(), Some(commit));
        assert_eq!(parse("git://h/x#0123456").commit(), None, "a short one may be a branch");
    }

    #[test]
    fn subdirectories_have_no_way_out() {
        for (written, want) in
            [("../../x", "x"), ("/abs", "abs"), ("dir/../../x", "x"), ("..", ""), ("a//b/.", "a/b")]
        {
            assert_eq!(parse(&format!("git://h/x#main:{written}")).subdir, want, "{written}");
        }
    }

    #[test]
    fn what_git_could_take_for_something_else_is_refused() {
        for bad in [
            "ext::sh -c x",
            "file:///etc",
            "/etc",
            "ssh://-oProxyCommand=x/y",
            "ssh://u@-oProxyCommand=x/y",
            "git@-h:x",
            "-u@h:x",
            "https://-h/x.git",
            "git://h/-x",
            "git@h:-x",
            "git://h/a\nb",
            "git:///x",
            "https://host/x",
        ] {
            assert!(matches!(GitReference::parse(bad), Err(GitReferenceError::Remote(_))), "{bad}");
        }
        for bad in [
            "--upload-pack=evil.sh",
            "-x",
            "a..b",
            "a b",
            "a~1",
            "a^",
            "x.lock",
            "@{u}",
            "a//b",
            "/a",
            "a/",
            "@",
        ] {
            let error = GitReference::parse(&format!("git://h/x?ref={bad}")).unwrap_err();
            assert_eq!(error, GitReferenceError::Reference(bad.into()), "{bad}");
        }
        for bad in ["?x=1", "?ref=a#b", "?subdir=a#:b", "?commit=xyz", "?mtime=now", "?fetch-by-commit=1"] {
            assert!(GitReference::parse(&format!("git://h/x{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn checksums_are_hex_and_agree() {
        let mut parsed = parse("git://h/x?checksum=ABC1");
        assert_eq!(parsed.checksum.as_deref(), Some("abc1"));
        assert!(parsed.set_checksum("abc1").is_ok() && parsed.set_checksum("abc2").is_err());
        assert!(parsed.set_checksum("").is_err() && parsed.set_checksum("sha256:00").is_err());
    }

    #[test]
    fn passwords_are_hidden() {
        assert_eq!(parse("https://u:p@h/x.git").shown_remote(), "https://xxxxx@h/x.git");
        assert_eq!(parse("ssh://git@h/x.git").shown_remote(), "ssh://git@h/x.git");
        assert_eq!(parse("git@h:x.git").shown_remote(), "git@h:x.git");
    }
}
