//! `--secret` and `--ssh`, read.

use std::path::PathBuf;

use forge_runner::secrets::{SecretSource, Secrets};

use crate::environment;
use crate::failure::{Failure, Kind};

/// Reads all `--secret` and `--ssh` flags.
pub fn read(secrets: &[String], agents: &[String]) -> Result<Secrets, Failure> {
    let mut all = Secrets::default();
    for text in secrets {
        let (id, source) = secret(text)?;
        all.secrets.insert(id, source);
    }
    for text in agents {
        let (id, socket) = agent(text)?;
        all.agents.insert(id, socket);
    }
    Ok(all)
}

/// `[type=file|env,]id=ID[,src=FILE|env=NAME]`.
fn secret(text: &str) -> Result<(String, SecretSource), Failure> {
    let fail =
        |detail: &str| usage(&format!("--secret {text}: {detail}"), "write id=ID,src=FILE or id=ID,env=NAME");
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| fail(&format!("`{part}` is not key=value")))?;
        match key {
            "id" => id = Some(value.to_owned()),
            "src" | "source" => file = Some(value.to_owned()),
            "env" => variable = Some(value.to_owned()),
            "type" if matches!(value, "file" | "env") => kind = Some(value.to_owned()),
            _ => return Err(fail(&format!("there is no {part}"))),
        }
    }
    let id = id.ok_or_else(|| fail("it has no id"))?;
    if kind.as_deref() == Some("env") {
        // With type=env the source names the variable.
        variable = variable.or(file.take());
    }
    let source = match (file, variable, kind.as_deref()) {
        (Some(_), Some(_), _) => return Err(fail("it has both a file and a variable")),
        (Some(file), None, _) => SecretSource::File(file.into()),
        (None, Some(name), _) => {
            from_variable(&name).ok_or_else(|| fail(&format!("the variable {name} is not set")))?
        }
        // As Docker: a variable of the id's name, and otherwise a file of that name.
        (None, None, Some("file")) => SecretSource::File(id.clone().into()),
        (None, None, _) => from_variable(&id).unwrap_or_else(|| SecretSource::File(id.clone().into())),
    };
    Ok((id, source))
}

fn from_variable(name: &str) -> Option<SecretSource> {
    environment::variable(name).map(|value| SecretSource::Value(value.into_bytes()))
}

/// `default`, or `ID=SOCKET`.
fn agent(text: &str) -> Result<(String, PathBuf), Failure> {
    let (id, socket) = match text.split_once('=') {
        Some((id, socket)) => (id, Some(PathBuf::from(socket))),
        None => (text, None),
    };
    let socket = socket.or_else(|| environment::variable("SSH_AUTH_SOCK").map(PathBuf::from));
    let socket = socket
        .ok_or_else(|| usage("no ssh agent runs here", "start one with ssh-agent, or name its socket"))?;
    let is_socket = std::fs::metadata(&socket)
        .is_ok_and(|metadata| std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()));
    if !is_socket {
        let message = format!("--ssh {text}: {} is not an agent's socket", socket.display());
        return Err(usage(&message, "add the key to an agent with ssh-add, and name the agent's socket"));
    }
    Ok((id.to_owned(), socket))
}

fn usage(message: &str, hint: &str) -> Failure {
    Failure::new(Kind::Usage, message, Some(hint.to_owned()))
}
