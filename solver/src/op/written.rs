//! How the parser's words are written down: the parser itself knows no formats but JSON's own.

use forge_parser::ast;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(remote = "ast::Network", rename_all = "lowercase")]
pub(super) enum Network {
    Default,
    None,
    Host,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ast::Security", rename_all = "lowercase")]
pub(super) enum Security {
    Sandbox,
    Insecure,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ast::MountKind", rename_all = "lowercase")]
pub(super) enum MountKind {
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ast::Sharing", rename_all = "lowercase")]
pub(super) enum Sharing {
    Shared,
    Private,
    Locked,
}

/// A script's name and content.
pub(super) mod script {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    type Script = Option<(String, Arc<str>)>;

    pub fn serialize<S: Serializer>(script: &Script, serializer: S) -> Result<S::Ok, S::Error> {
        script.as_ref().map(|(name, content)| (name, &**content)).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Script, D::Error> {
        let script = Option::<(String, String)>::deserialize(deserializer)?;
        Ok(script.map(|(name, content)| (name, Arc::from(content))))
    }
}
