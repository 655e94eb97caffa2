//! What an export takes out of the configuration, and puts in last: `--unset` and `--label`.

use std::collections::BTreeMap;

use forge_solver::did_you_mean;
use forge_store::image::RuntimeConfig;

/// Edits of the `config` object, in the order in which they are done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// What is taken out.
    pub unset: Vec<Unset>,
    /// Labels that are there whatever was taken out.
    pub labels: Vec<(String, String)>,
}

/// One thing that an image should not have from its base or its Dockerfile. `*` for a name means all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unset {
    /// A variable.
    Env(String),
    /// A volume.
    Volume(String),
    /// A label.
    Label(String),
    /// A port.
    Expose(String),
    /// A field that there is one of.
    Field(Field),
}

/// Fields that there is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// ENTRYPOINT.
    Entrypoint,
    /// CMD.
    Cmd,
    /// HEALTHCHECK.
    Healthcheck,
    /// USER.
    User,
    /// WORKDIR.
    Workdir,
    /// STOPSIGNAL.
    StopSignal,
    /// SHELL.
    Shell,
    /// ONBUILD, all of them.
    OnBuild,
}

const FIELDS: [(&str, Field); 8] = [
    ("entrypoint", Field::Entrypoint),
    ("cmd", Field::Cmd),
    ("healthcheck", Field::Healthcheck),
    ("user", Field::User),
    ("workdir", Field::Workdir),
    ("stopsignal", Field::StopSignal),
    ("shell", Field::Shell),
    ("onbuild", Field::OnBuild),
];
const SETS: [&str; 4] = ["env", "volume", "label", "expose"];

impl Unset {
    /// Reads a `--unset` argument: `env=NAME,volume=PATH,label=KEY,expose=PORT,entrypoint,…`.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(|word| Self::parse_one(word.trim())).collect()
    }

    fn parse_one(word: &str) -> Result<Self, String> {
        let lower = word.to_lowercase();
        let Some((kind, name)) = word.split_once('=') else {
            if let Some((_, field)) = FIELDS.iter().find(|(name, _)| *name == lower) {
                return Ok(Self::Field(*field));
            }
            if SETS.contains(&lower.as_str()) {
                return Err(format!("`{word}` does not say which: write {lower}=NAME, or {lower}=* for all"));
            }
            let words = FIELDS.iter().map(|(name, _)| *name).chain(SETS);
            let near =
                did_you_mean(word, words).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
            return Err(format!("an image has no `{word}` to unset{near}"));
        };
        let name = name.to_owned();
        if name.is_empty() {
            return Err(format!("`{word}` does not say which: write {kind}=NAME, or {kind}=* for all"));
        }
        match kind.to_lowercase().as_str() {
            "env" => Ok(Self::Env(name)),
            "volume" => Ok(Self::Volume(name)),
            "label" => Ok(Self::Label(name)),
            "expose" => {
                Ok(Self::Expose(if name.contains('/') || name == "*" { name } else { name + "/tcp" }))
            }
            other => {
                let near = did_you_mean(other, SETS).map(|near| format!(" (did you mean {near}?)"));
                let near = near.unwrap_or_default();
                Err(format!("`{word}`: there is no set `{other}`{near}; there are {}", SETS.join(", ")))
            }
        }
    }

    fn apply(&self, config: &mut RuntimeConfig) {
        match self {
            Self::Env(name) => config.env.retain(|line| {
                name != "*" && line.split_once('=').map_or(line.as_str(), |(own, _)| own) != name
            }),
            Self::Volume(path) => remove(&mut config.volumes, path),
            Self::Label(key) => remove(&mut config.labels, key),
            Self::Expose(port) => remove(&mut config.exposed_ports, port),
            Self::Field(field) => field.clear(config),
        }
    }
}

impl Field {
    fn clear(self, config: &mut RuntimeConfig) {
        match self {
            Self::Entrypoint => config.entrypoint = None,
            Self::Cmd => {
                config.cmd = None;
                config.args_escaped = false;
            }
            Self::Healthcheck => config.healthcheck = None,
            Self::User => config.user.clear(),
            Self::Workdir => config.working_dir = "/".into(),
            Self::StopSignal => config.stop_signal.clear(),
            Self::Shell => config.shell = None,
            Self::OnBuild => config.on_build.clear(),
        }
    }
}

fn remove<T>(set: &mut BTreeMap<String, T>, name: &str) {
    set.retain(|own, _| name != "*" && own != name);
}

impl Edits {
    /// Carries them out.
    pub fn apply(&self, config: &mut RuntimeConfig) {
        self.unset.iter().for_each(|unset| unset.apply(config));
        config.labels.extend(self.labels.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_goes_and_labels_come_last() {
        let json = r#"{"Env":["A=1","AB=2"],"Volumes":{"/v":{},"/w":{}},"Labels":{"a":"1","b":"2"},
            "ExposedPorts":{"80/tcp":{},"53/udp":{}},"Entrypoint":["e"],"Cmd":["c"],"ArgsEscaped":true,
            "Healthcheck":{"Test":["CMD","x"]},"User":"u","WorkingDir":"/x","OnBuild":["RUN x"],"Kept":1}"#;
        let config: RuntimeConfig = serde_json::from_str(json).unwrap();
        let after = |text: &str| {
            let mut config = config.clone();
            let edits =
                Edits { unset: Unset::parse(text).unwrap(), labels: vec![("a".into(), "last".into())] };
            edits.apply(&mut config);
            serde_json::to_value(&config).unwrap()
        };
        let some = after("env=A,volume=/v,label=a,label=b,expose=80,entrypoint,healthcheck");
        assert_eq!(some["Env"], serde_json::json!(["AB=2"]));
        assert_eq!(some["Volumes"], serde_json::json!({"/w": {}}));
        assert_eq!(some["Labels"], serde_json::json!({"a": "last"}));
        assert_eq!(some["ExposedPorts"], serde_json::json!({"53/udp": {}}));
        assert!(some.get("Entrypoint").is_none() && some.get("Healthcheck").is_none());
        assert_eq!((&some["User"], &some["Kept"]), (&"u".into(), &1.into()));
        let rest = after("env=*,volume=*,expose=*,CMD,user,workdir,onbuild,shell,stopsignal");
        for gone in ["Env", "Volumes", "ExposedPorts", "Cmd", "ArgsEscaped", "User", "OnBuild"] {
            assert!(rest.get(gone).is_none(), "{gone}: {rest}");
        }
    }

    #[test]
    fn what_no_image_has_is_refused() {
        for (bad, why) in [
            ("entripoint", "an image has no `entripoint` to unset (did you mean entrypoint?)"),
            ("env", "`env` does not say which: write env=NAME, or env=* for all"),
            ("env=A,B", "an image has no `B` to unset"),
            ("volumes=/x", "there is no set `volumes` (did you mean volume?)"),
            ("label=", "`label=` does not say which"),
        ] {
            let error = Unset::parse(bad).expect_err(bad);
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
