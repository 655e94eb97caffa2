//! `-o`: where the result goes, in Docker's words.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// One output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The store, under the given names; `push` sends it on.
    Image {
        /// Names beside those of `-t`.
        names: Vec<String>,
        /// To its registries, too.
        push: bool,
    },
    /// An image layout: a tar, or a directory.
    Oci {
        /// Where; `-` is standard output.
        dest: PathBuf,
        /// A tar rather than a directory.
        tar: bool,
    },
    /// What `docker load` reads.
    Docker {
        /// Where; `-` is standard output.
        dest: PathBuf,
    },
    /// The files, in a directory.
    Local {
        /// Where.
        dest: PathBuf,
    },
    /// The files, in a tar.
    Tar {
        /// Where; `-` is standard output.
        dest: PathBuf,
    },
}

/// A text that is no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("output `{text}`: {detail}")]
pub struct OutputError {
    text: String,
    detail: String,
}

impl Output {
    /// Reads a `-o` argument: `type=…,key=value`, a directory, or `-`.
    pub fn parse(text: &str) -> Result<Self, OutputError> {
        let fail = |detail: String| OutputError { text: text.to_owned(), detail };
        if text == "-" {
            return Ok(Self::Tar { dest: "-".into() });
        }
        if !text.contains('=') {
            return Ok(Self::Local { dest: text.into() });
        }
        let mut options = BTreeMap::new();
        for part in split_csv(text) {
            let (key, value) =
                part.split_once('=').ok_or_else(|| fail(format!("`{part}` is not key=value")))?;
            options.insert(key.trim().to_lowercase(), value.to_owned());
        }
        let kind = options.remove("type").ok_or_else(|| fail("it has no type=".into()))?;
        let dest = options.remove("dest").map(PathBuf::from);
        let need = |dest: Option<PathBuf>| dest.ok_or_else(|| fail(format!("type={kind} needs dest=PATH")));
        let mut flag = |name: &str, default: bool| match options.remove(name).as_deref() {
            None => Ok(default),
            Some("true" | "1" | "") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(fail(format!("{name}={other} is neither true nor false"))),
        };
        let output = match kind.as_str() {
            "image" | "registry" => {
                let push = flag("push", kind == "registry")?;
                let names = options.remove("name").map(|names| names.split(',').map(str::to_owned).collect());
                Self::Image { names: names.unwrap_or_default(), push }
            }
            "oci" => {
                let dest = need(dest)?;
                // A destination that is a directory, or is written as one, is one.
                let tar =
                    flag("tar", !(dest.is_dir() || dest.as_os_str().as_encoded_bytes().ends_with(b"/")))?;
                Self::Oci { dest, tar }
            }
            "docker" => Self::Docker { dest: need(dest)? },
            "local" => Self::Local { dest: need(dest)? },
            "tar" => Self::Tar { dest: need(dest)? },
            _ => {
                return Err(fail(format!(
                    "there is no type={kind}; there are image, registry, oci, docker, local, tar"
                )));
            }
        };
        match options.into_keys().next() {
            Some(key) => Err(fail(format!("forge does not know the option `{key}` of type={kind}"))),
            None => Ok(output),
        }
    }
}

/// Splits at commas, but not inside double quotes.
fn split_csv(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(String::new()),
            c => parts.last_mut().expect("one part is there from the start").push(c),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_read_as_docker_reads_them() {
        let dest = |text: &str| PathBuf::from(text);
        for (text, want) in [
            ("out", Output::Local { dest: dest("out") }),
            ("-", Output::Tar { dest: dest("-") }),
            ("type=tar,dest=x.tar", Output::Tar { dest: dest("x.tar") }),
            ("type=oci,dest=x.tar", Output::Oci { dest: dest("x.tar"), tar: true }),
            ("type=oci,dest=x,tar=false", Output::Oci { dest: dest("x"), tar: false }),
            ("type=docker,dest=-", Output::Docker { dest: dest("-") }),
            ("type=image,push=true", Output::Image { names: vec![], push: true }),
            ("type=registry,name=a/b", Output::Image { names: vec!["a/b".into()], push: true }),
            ("type=image,\"name=a,b\"", Output::Image { names: vec!["a".into(), "b".into()], push: false }),
        ] {
            assert_eq!(Output::parse(text), Ok(want), "{text}");
        }
        for bad in
            ["type=oci", "type=zip,dest=x", "dest=x", "type=tar,dest=x,foo=1", "type=oci,dest=x,tar=maybe"]
        {
            assert!(Output::parse(bad).is_err(), "{bad}");
        }
    }
}
