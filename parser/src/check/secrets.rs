//! Names that look like those of secrets.

/// Parts of names that say so.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// Parts of names that say otherwise.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// Whether a variable's name is one that a secret would have: a telling part between underscores, and no
/// harmless one.
pub fn looks_like_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let any = |parts: &[&str]| name.split('_').any(|part| parts.contains(&part));
    any(&SECRET) && !any(&HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telling_names() {
        for name in ["NPM_TOKEN", "aws_secret_access_key", "PASSWORD", "API_KEY", "apikey", "git_auth_x"] {
            assert!(looks_like_secret(name), "{name}");
        }
        for name in ["MONKEY", "PUBLIC_KEY", "TOKEN_FILE", "KEY_VERSION", "AUTHOR", "PATH", ""] {
            assert!(!looks_like_secret(name), "{name}");
        }
    }
}
