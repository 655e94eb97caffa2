//! `RUN --mount`: a CSV record of options, read twice as BuildKit does: once when the file is parsed, to find
//! what is wrong in any case, and once when the stage's variables are known.

use crate::ast::{Mount, MountKind, Sharing};
use crate::context::brief;
use crate::expand::ExpandError;
use crate::grammar;
use crate::size::parse_size;
use crate::suggest;

/// What is wrong with a `--mount`; worded as people script against it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The options themselves.
    #[error("{0}")]
    Options(String, /* the next step */ Option<String>),
    /// A variable in one of them.
    #[error(transparent)]
    Expand(#[from] ExpandError),
}

impl MountError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Options(_, hint) => hint.clone(),
            Self::Expand(_) => None,
        }
    }
}

/// Expands the variables of one value.
pub type ExpandValue<'a> = dyn FnMut(&str) -> Result<String, ExpandError> + 'a;

impl Mount {
    /// The same with all values expanded and all checks made. `from` is never expanded.
    pub fn expand(&self, expand: &mut ExpandValue<'_>) -> Result<Self, MountError> {
        read(&self.raw, Some(expand))
    }
}

/// Reads the options without knowing any variable: a typed option whose value holds one keeps its default, and
/// what depends on it goes unchecked.
pub(crate) fn parse(text: &str) -> Result<Mount, MountError> {
    read(text, None)
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
];

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

fn read(text: &str, mut expand: Option<&mut ExpandValue<'_>>) -> Result<Mount, MountError> {
    let Some(fields) = grammar::mount_fields(text).filter(|_| !text.is_empty()) else {
        let what = if text.is_empty() { "no options".to_owned() } else { brief(text) };
        return Err(with_hint(
            format!("failed to parse csv mounts: {what}"),
            "write key=value pairs with commas between; a pair that holds a comma needs quotes around all of it",
        ));
    };
    let mut reader = Reader::new(text, expand.is_some());
    for field in fields {
        let Some((key, value)) = field.split_once('=') else {
            reader.bare(&field)?;
            continue;
        };
        let key = key.to_lowercase();
        let value = match (&mut expand, key.as_str()) {
            (_, "from") => value.to_owned(),
            (Some(expand), _) => expand(value)?,
            (None, _) => value.to_owned(),
        };
        reader.pair(&key, &value, &field)?;
    }
    reader.finish()
}

struct Reader {
    mount: Mount,
    /// Values are final: whatever is wrong with one is an error.
    expanded: bool,
    /// The type is in a variable that is not known yet.
    kind_unknown: bool,
}

impl Reader {
    fn new(raw: &str, expanded: bool) -> Self {
        let mount = Mount {
            kind: MountKind::Bind,
            target: None,
            source: None,
            from: None,
            id: None,
            readonly: None,
            sharing: None,
            size: None,
            mode: None,
            uid: None,
            gid: None,
            required: false,
            env: None,
            raw: raw.to_owned(),
        };
        Self { mount, expanded, kind_unknown: false }
    }

    /// A key without a value.
    fn bare(&mut self, field: &str) -> Result<(), MountError> {
        match field.to_lowercase().as_str() {
            "readonly" | "ro" => self.mount.readonly = Some(true),
            "readwrite" | "rw" => self.mount.readonly = Some(false),
            "required" => self.mount.required = true,
            "env" => self.mount.env = Some(String::new()),
            key => {
                let field = brief(field);
                let near = suggest::suffix(key, KEYS);
                let message = format!("invalid field '{field}' must be a key=value pair{near}");
                return Err(with_hint(message, "only ro, rw, required and env may stand without a value"));
            }
        }
        Ok(())
    }

    fn pair(&mut self, key: &str, value: &str, field: &str) -> Result<(), MountError> {
        let open = !self.expanded && value.contains(['$', '\\', '`', '"', '\'']);
        let text = || Some(value.to_owned());
        let mount = &mut self.mount;
        match key {
            "target" | "dst" | "destination" => mount.target = text(),
            "source" | "src" => mount.source = text(),
            "id" => mount.id = text(),
            "env" => mount.env = text(),
            "size" => mount.size = text(),
            "mode" => mount.mode = text(),
            "uid" => mount.uid = text(),
            "gid" => mount.gid = text(),
            "from" => {
                if value.find('$').is_some_and(|at| at + 1 < value.len()) {
                    return Err(with_hint(
                        "'from' doesn't support variable expansion, define alias stage instead".to_owned(),
                        &format!("write `FROM {value} AS alias` above this stage, and from=alias"),
                    ));
                }
                mount.from = text();
            }
            "type" if open => self.kind_unknown = true,
            "type" => {
                mount.kind = choose(value, &KINDS, |value| format!("unsupported mount type {value:?}"))?
            }
            "sharing" if open => mount.sharing = Some(Sharing::default()),
            "sharing" => {
                let chosen =
                    choose(value, &SHARINGS, |value| format!("unsupported sharing value {value:?}"))?;
                mount.sharing = Some(chosen);
            }
            "readonly" | "ro" if open => {}
            "readonly" | "ro" => mount.readonly = Some(boolean(key, value)?),
            "readwrite" | "rw" if open => {}
            "readwrite" | "rw" => mount.readonly = Some(!boolean(key, value)?),
            "required" if open => {}
            "required" => mount.required = boolean(key, value)?,
            _ => {
                let near = suggest::suffix(key, KEYS);
                let (key, field) = (brief(key), brief(field));
                let message = format!("unexpected key '{key}' in '{field}'{near}");
                return Err(with_hint(message, &format!("the keys are {}", KEYS.join(", "))));
            }
        }
        if open {
            return Ok(());
        }
        match key {
            "size" if parse_size(value).is_err() => {
                Err(with_hint(format!("invalid value for size: {}", brief(value)), "write 64m, for instance"))
            }
            "mode" if u32::from_str_radix(value, 8).is_err() => {
                Err(with_hint(format!("invalid value {} for mode", brief(value)), "write 0400, for instance"))
            }
            "uid" | "gid" if value.parse::<u32>().is_err() => {
                Err(with_hint(format!("invalid value {} for {key}", brief(value)), "write a number"))
            }
            _ => Ok(()),
        }
    }

    /// Checks what depends on the type, now that it is known.
    fn finish(self) -> Result<Mount, MountError> {
        let mount = self.mount;
        if self.kind_unknown {
            return Ok(mount);
        }
        let kind = KINDS.iter().find(|(_, kind)| *kind == mount.kind).map_or("", |(name, _)| name);
        let hint = format!("remove it, or write the type that it belongs to: this is a {kind} mount");
        let unexpected =
            |key: &str| Err(with_hint(format!("unexpected key '{key}' for mount type '{kind}'"), &hint));
        let (secret, ssh) = (mount.kind == MountKind::Secret, mount.kind == MountKind::Ssh);
        if mount.required && !secret && !ssh {
            return unexpected("required");
        }
        if mount.size.is_some() && mount.kind != MountKind::Tmpfs {
            return unexpected("size");
        }
        if mount.env.is_some() && !secret {
            return unexpected("env");
        }
        if matches!(mount.kind, MountKind::Bind | MountKind::Tmpfs) {
            for (key, value) in [("mode", &mount.mode), ("uid", &mount.uid), ("gid", &mount.gid)] {
                if value.is_some() {
                    return Err(with_hint(format!("{key} not allowed for {kind:?} type mounts"), &hint));
                }
            }
        }
        if secret {
            check_secret(&mount)?;
        }
        if mount.sharing.is_some() && mount.kind != MountKind::Cache {
            return Err(with_hint(format!("invalid cache sharing set for {kind} mount"), &hint));
        }
        if !secret && !ssh {
            check_target(&mount)?;
        }
        Ok(mount)
    }
}

fn check_secret(mount: &Mount) -> Result<(), MountError> {
    let given = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
    if given(&mount.from) {
        let message = "secret mount should not have a from".to_owned();
        return Err(with_hint(message, "secrets are given with --secret: name one with id="));
    }
    if mount.sharing.is_some() {
        return Err(with_hint("secret mount should not define sharing".to_owned(), "remove sharing="));
    }
    if !given(&mount.source) && !given(&mount.target) && !given(&mount.id) {
        let message = "invalid secret mount. one of source, target required".to_owned();
        return Err(with_hint(message, "write id=name as it is given to --secret"));
    }
    if given(&mount.source) && given(&mount.id) {
        return Err(with_hint(
            "both source and id can't be set".to_owned(),
            "they are the same option: keep id",
        ));
    }
    Ok(())
}

/// The other types need a place to be mounted at, which cannot be the root.
fn check_target(mount: &Mount) -> Result<(), MountError> {
    let target = mount.target.as_deref().unwrap_or_default();
    let root = !target.is_empty() && target.chars().all(|c| c == '/');
    if target.is_empty() || root {
        let message = format!("invalid mount target {target:?}");
        return Err(with_hint(message, "write target= and a directory"));
    }
    Ok(())
}

fn choose<T: Copy>(
    value: &str,
    choices: &[(&'static str, T)],
    complaint: impl Fn(&str) -> String,
) -> Result<T, MountError> {
    let wanted = value.to_lowercase();
    if let Some((_, chosen)) = choices.iter().find(|(name, _)| *name == wanted) {
        return Ok(*chosen);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let near = suggest::suffix(value, names.iter().copied());
    let message = format!("{}{near}", complaint(&brief(value)));
    Err(with_hint(message, &format!("it can be {}", names.join(", "))))
}

/// What Go takes for a boolean.
fn boolean(key: &str, value: &str) -> Result<bool, MountError> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => {
            let message = format!("invalid value for {key}: {}", brief(value));
            Err(with_hint(message, "write true or false"))
        }
    }
}

fn with_hint(message: String, hint: &str) -> MountError {
    MountError::Options(message, Some(hint.to_owned()))
}
