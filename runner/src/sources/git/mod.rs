//! Git repositories, fetched by git's own command line.
//!
//! A repository is hostile input, and so is its address. References and addresses were checked when they were
//! parsed; here git gets no configuration of the user or the machine, no hooks, no helpers and no terminal, may speak
//! https, http, ssh and git only (submodules too, so no `file:` and no `ext:`), and reads no keys but those that the
//! user gave to the build. A checkout is brought into one shape whatever the user's umask: root's, 0755 and 0644.

mod command;
mod tidy;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forge_solver::op::Access;
use forge_solver::op::types::{GitMtime, GitReference};
use forge_solver::{TroubleKind, WorldError};
use forge_store::rootdir::{FileKind, Mtime};
use forge_store::{Draft, RootDir, Store};

use self::command::Git;
use super::{Sources, host_of};
use crate::secrets::Secrets;
use crate::trouble;

/// How git is found, and what of the caller's environment it may see.
#[derive(Clone, Debug, Default)]
pub struct GitSettings {
    /// `PATH`, to find git and ssh in.
    pub search_path: String,
    /// Variables that it needs to reach the network: proxies, certificates.
    pub environment: Vec<(OsString, OsString)>,
    /// The user's home and agent, for repositories that the user names: see [`Access::User`].
    pub user: Vec<(OsString, OsString)>,
}

/// A repository that can be asked.
pub struct Repository<'a> {
    reference: &'a GitReference,
    /// The address without credentials.
    url: String,
    git: Git,
}

impl<'a> Repository<'a> {
    /// A repository, with the credentials that there are for it.
    pub fn new(
        settings: &GitSettings,
        secrets: &Secrets,
        reference: &'a GitReference,
        access: Access,
    ) -> Result<Self, WorldError> {
        let (url, userinfo) = without_userinfo(&reference.remote);
        if is_link_local(&url) {
            let message =
                format!("cannot fetch {}: link-local addresses are not asked", reference.shown_remote());
            return Err(WorldError::new(TroubleKind::Input, message));
        }
        let header = match userinfo {
            Some(userinfo) => Some(format!("Basic {}", STANDARD.encode(userinfo))),
            None => header(secrets, &url)?,
        };
        let mut git = Git::new(settings, &reference.shown_remote())?;
        if let Some(header) = header.filter(|_| url.starts_with("http")) {
            // By the environment and not by argument: other users can read arguments.
            let origin = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
            git.configure(&format!("http.{origin}/.extraHeader"), &format!("Authorization: {header}"));
        }
        git.allow_keys(access, settings, secrets.agents.get("default").map(PathBuf::as_path));
        Ok(Self { reference, url, git })
    }

    /// Which commit the reference stands for now: whole, in hex.
    pub fn resolve(&self, work: &Path) -> Result<String, WorldError> {
        let commit = match self.reference.commit() {
            Some(commit) => commit.to_owned(),
            None => self.ask(work)?,
        };
        match &self.reference.checksum {
            Some(checksum) if !commit.starts_with(checksum.as_str()) => {
                let message = format!("expected checksum to match {checksum}, got {commit}");
                Err(WorldError::new(TroubleKind::Corrupt, message)
                    .hint("the branch or tag moved; change the checksum only if you trust where it is now"))
            }
            _ => Ok(commit),
        }
    }

    fn ask(&self, work: &Path) -> Result<String, WorldError> {
        let name = self.reference.reference.as_deref().unwrap_or("HEAD");
        let peeled = format!("{name}^{{}}");
        let listed = self.git.run(work, &["ls-remote", "--", &self.url, name, &peeled], &|| false)?;
        pick(&listed, name).ok_or_else(|| {
            let message = format!("repository {} does not contain ref {name}", self.reference.shown_remote());
            WorldError::new(TroubleKind::NotFound, message)
                .hint("write a branch, a tag or a whole commit hash")
        })
    }

    /// A tree with the commit's files, or with those of the directory that is wanted.
    pub fn checkout(
        &self,
        store: &Store,
        commit: &str,
        keep_git_dir: bool,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Draft, WorldError> {
        let draft = store.draft().map_err(trouble::of_store)?;
        let tree = draft.tree();
        let run = |words: &[&str]| self.git.run(&tree, words, cancelled);
        self.start(&tree)?;
        self.fetch(&tree, commit, cancelled)?;
        run(&["checkout", "-q", "--force", "--detach", commit])?;
        if self.reference.submodules && tree.join(".gitmodules").is_file() {
            run(&["submodule", "update", "-q", "--init", "--recursive", "--force", "--depth=1"])?;
        }
        let mtime = match self.reference.mtime {
            GitMtime::Checkout => None,
            GitMtime::Commit => Some(Mtime { sec: self.commit_time(&tree, commit, cancelled)?, nsec: 0 }),
        };
        if keep_git_dir {
            // Without it the index holds the times and inodes of this very checkout.
            run(&["read-tree", commit])?;
        }
        let root = RootDir::open_host(&tree).map_err(|e| trouble::of_files(e.into()))?;
        tidy::tidy(&root, keep_git_dir, mtime).map_err(|e| trouble::of_files(e.into()))?;
        match self.reference.subdir.as_str() {
            "" => Ok(draft),
            subdir => self.narrow(store, &draft, &root, subdir),
        }
    }

    /// When the commit was made, in seconds since 1970.
    pub fn time(&self, store: &Store, commit: &str) -> Result<i64, WorldError> {
        let draft = store.draft().map_err(trouble::of_store)?;
        let tree = draft.tree();
        self.start(&tree)?;
        self.fetch(&tree, commit, &|| false)?;
        self.commit_time(&tree, commit, &|| false)
    }

    /// An empty repository that knows where the real one is.
    fn start(&self, tree: &Path) -> Result<(), WorldError> {
        self.git.run(tree, &["init", "-q", "--template=", "--initial-branch=main"], &|| false)?;
        self.git.run(tree, &["remote", "add", "--", "origin", &self.url], &|| false).map(drop)
    }

    fn commit_time(
        &self,
        tree: &Path,
        commit: &str,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<i64, WorldError> {
        let seconds = self.git.run(tree, &["log", "-1", "--format=%ct", commit], cancelled)?;
        Ok(seconds.trim().parse().unwrap_or(0))
    }

    /// Gets the commit: by its hash, which most servers allow, or else by what leads to it.
    fn fetch(&self, tree: &Path, commit: &str, cancelled: &dyn Fn() -> bool) -> Result<(), WorldError> {
        let name = self.reference.reference.as_deref().filter(|name| *name != commit).unwrap_or("HEAD");
        let (by_hash, by_name) = (format!("+{commit}:refs/forge/commit"), format!("+{name}:refs/forge/name"));
        let all = ["+refs/heads/*:refs/forge/heads/*", "+refs/tags/*:refs/forge/tags/*"];
        let tries: [(&[&str], bool); 3] = [(&[&by_hash], true), (&[&by_name], true), (&all, false)];
        let mut first_error = None;
        for (refs, shallow) in tries {
            let mut words = vec!["fetch", "-q", "--no-tags", "--no-recurse-submodules", "--force"];
            words.extend(shallow.then_some("--depth=1"));
            words.extend(["--", "origin"]);
            words.extend(refs);
            match self.git.run(tree, &words, cancelled) {
                Err(error) if error.kind == TroubleKind::Cancelled => return Err(error),
                Err(error) => drop(first_error.get_or_insert(error)),
                Ok(_) => {}
            }
            let is_here = ["cat-file", "-e", &format!("{commit}^{{commit}}")];
            if self.git.run(tree, &is_here, cancelled).is_ok() {
                return Ok(());
            }
        }
        Err(first_error.unwrap_or_else(|| {
            let message = format!("repository {} does not contain {commit}", self.reference.shown_remote());
            WorldError::new(TroubleKind::NotFound, message)
        }))
    }

    /// A tree of one directory only; every component must be a directory, so that no link leads elsewhere.
    fn narrow(
        &self,
        store: &Store,
        draft: &Draft,
        root: &RootDir,
        subdir: &str,
    ) -> Result<Draft, WorldError> {
        let mut path = PathBuf::new();
        for name in subdir.split('/') {
            path.push(name);
            let is_dir = root.stat_nofollow(&path).is_ok_and(|stat| stat.kind == FileKind::Directory);
            if !is_dir {
                let shown = self.reference.shown_remote();
                let message = format!("{} is not a directory of repository {shown}", path.display());
                return Err(WorldError::new(TroubleKind::NotFound, message));
            }
        }
        let narrow = store.draft().map_err(trouble::of_store)?;
        // Nobody else writes there, so what was checked is what is moved.
        std::fs::rename(draft.tree().join(&path), narrow.tree()).map_err(|e| {
            WorldError::new(TroubleKind::System, format!("cannot move {}: {e}", path.display()))
        })?;
        Ok(narrow)
    }
}

/// What `git ls-remote` says of a name, as git itself would take it: branches before tags, tags as what they name.
fn pick(listed: &str, name: &str) -> Option<String> {
    let find = |wanted: &str| {
        let line =
            listed.lines().filter_map(|line| line.split_once('\t')).find(|(_, found)| *found == wanted);
        line.map(|(hash, _)| hash)
            .filter(|hash| matches!(hash.len(), 40 | 64) && hash.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    if name == "HEAD" {
        return find("HEAD").map(str::to_owned);
    }
    let bare = name.strip_prefix("refs/").unwrap_or(name);
    let (head, tag) = (
        format!("refs/heads/{}", bare.strip_prefix("heads/").unwrap_or(bare)),
        format!("refs/tags/{}", bare.strip_prefix("tags/").unwrap_or(bare)),
    );
    let exact = format!("refs/{bare}");
    let candidates = [format!("{exact}^{{}}"), exact, head, format!("{tag}^{{}}"), tag];
    // A name that says what it is cannot mean another thing.
    let most = if bare.starts_with("heads/") || bare.starts_with("tags/") { 2 } else { candidates.len() };
    candidates[..most].iter().find_map(|wanted| find(wanted)).map(str::to_owned)
}

/// The address, and `user:password` if it holds that: for http alone, since ssh needs its user.
fn without_userinfo(remote: &str) -> (String, Option<String>) {
    let is_http = remote.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http"));
    let Some((scheme, rest)) = remote.split_once("://").filter(|_| is_http) else {
        return (remote.to_owned(), None);
    };
    let scheme = scheme.to_ascii_lowercase();
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((userinfo, host)) => {
            let userinfo = if userinfo.contains(':') { userinfo.to_owned() } else { format!("{userinfo}:") };
            (format!("{scheme}://{host}{}", &rest[end..]), Some(userinfo))
        }
        None => (format!("{scheme}://{rest}"), None),
    }
}

/// `GIT_AUTH_HEADER` or `GIT_AUTH_TOKEN`, for the host or for all, if the user gave such a secret.
fn header(secrets: &Secrets, url: &str) -> Result<Option<String>, WorldError> {
    let suffixes = [format!(".{}", host_of(url)), String::new()];
    if let Some(header) = Sources::secret(secrets, "GIT_AUTH_HEADER", &suffixes)? {
        return Ok(Some(header));
    }
    let token = Sources::secret(secrets, "GIT_AUTH_TOKEN", &suffixes)?;
    Ok(token.map(|token| format!("Basic {}", STANDARD.encode(format!("x-access-token:{token}")))))
}

/// Literal addresses where clouds keep their credentials, and nobody keeps repositories.
fn is_link_local(url: &str) -> bool {
    let host = host_of(url);
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    match bare.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(v4)) => v4.is_link_local() || v4.is_unspecified(),
        Ok(std::net::IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.is_link_local(),
            None => v6.segments()[0] & 0xffc0 == 0xfe80 || v6.is_unspecified(),
        },
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_git_takes_them_for() {
        let (a, b, c, d) = ("a".repeat(40), "b".repeat(40), "c".repeat(40), "d".repeat(40));
        let listed = format!(
            "{a}\tHEAD\n{a}\trefs/heads/main\n{b}\trefs/heads/x/main\n{c}\trefs/tags/main\n{d}\trefs/tags/main^{{}}\n\
             {c}\trefs/tags/v1\n{d}\trefs/tags/v1^{{}}\n{b}\trefs/pull/1/head\nnonsense\n--x\trefs/heads/bad\n"
        );
        for (name, want) in [
            ("HEAD", Some(&a)),
            ("main", Some(&a)),
            ("x/main", Some(&b)),
            ("refs/tags/main", Some(&d)),
            ("tags/main", Some(&d)),
            ("v1", Some(&d)),
            ("refs/heads/v1", None),
            ("refs/pull/1/head", Some(&b)),
            ("bad", None),
            ("nothing", None),
        ] {
            assert_eq!(pick(&listed, name).as_ref(), want, "{name}");
        }
    }

    #[test]
    fn credentials_leave_the_address() {
        for (remote, url, userinfo) in [
            ("https://u:p@h/x.git", "https://h/x.git", Some("u:p")),
            ("HTTP://tok@h:1/x@y.git", "http://h:1/x@y.git", Some("tok:")),
            ("ssh://git@h/x", "ssh://git@h/x", None),
            ("git@h:x", "git@h:x", None),
        ] {
            assert_eq!(without_userinfo(remote), (url.to_owned(), userinfo.map(str::to_owned)));
        }
        assert!(is_link_local("http://169.254.169.254/x.git") && is_link_local("git://u@[fe80::1]:2/x"));
        assert!(!is_link_local("https://127.0.0.1/x.git") && !is_link_local("https://169.254.example/x.git"));
    }
}
