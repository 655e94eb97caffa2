//! `forge login` and `forge logout`: credentials where Docker keeps them.

use std::io::{self, Read};

use super::print;
use crate::args::{Login, Logout};
use crate::failure::{Failure, Kind};
use crate::progress::say;
use crate::prompt::Terminal;
use crate::registries;

/// The most that a password may have, in bytes.
const MOST_BYTES: u64 = 64 << 10;

/// Stores credentials that the registry takes. Without a user name, what is kept already is tried first.
pub fn login(args: &Login) -> Result<(), Failure> {
    let registry = registries::registry_name(&args.registry_name);
    if args.username.is_none() && registries::check_kept_login(&registry, &args.registry)? {
        say(&format!("the credentials kept for {registry} are good"));
        return print("Login Succeeded");
    }
    let (username, password) = credentials(args, &registry)?;
    if username.is_empty() || password.is_empty() {
        let what = if username.is_empty() { "user name" } else { "password" };
        let hint = Some("give both; `--password-stdin` reads the password from standard input".to_owned());
        return Err(Failure::new(Kind::Usage, format!("the {what} is empty"), hint));
    }
    say(&registries::login(&registry, &username, &password, &args.registry)?);
    print("Login Succeeded")
}

/// User name and password: from the flags, standard input, or whoever sits at the terminal.
fn credentials(args: &Login, registry: &str) -> Result<(String, String), Failure> {
    if let (Some(username), true) = (&args.username, args.password_stdin) {
        return Ok((username.clone(), from_stdin()?));
    }
    if let (Some(username), Some(password)) = (&args.username, &args.password) {
        say("warning: a password on the command line can be seen by others; use --password-stdin");
        return Ok((username.clone(), password.clone()));
    }
    let terminal = Terminal::open().ok_or_else(|| {
        let hint = "pipe the password in: `forge login -u USER --password-stdin REGISTRY`";
        Failure::new(Kind::Usage, "there is no terminal to ask for the login on", Some(hint.into()))
    })?;
    let username = match &args.username {
        Some(username) => username.clone(),
        None => terminal.ask(&format!("Username for {registry}: ")).map_err(unread)?,
    };
    Ok((username, terminal.ask_secret("Password: ").map_err(unread)?))
}

fn from_stdin() -> Result<String, Failure> {
    let mut password = String::new();
    io::stdin().lock().take(MOST_BYTES).read_to_string(&mut password).map_err(unread)?;
    Ok(password.trim_end_matches(['\n', '\r']).to_owned())
}

fn unread(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::Interrupted => Failure::new(Kind::Signal(2), "stopped by the user", None),
        _ => Failure::new(Kind::Usage, format!("cannot read the login: {error}"), None),
    }
}

/// Forgets credentials.
pub fn logout(args: &Logout) -> Result<(), Failure> {
    match registries::logout(&registries::registry_name(&args.registry_name))? {
        true => print(&format!("Removed credentials for {}", args.registry_name)),
        false => print(&format!("Not logged in to {}", args.registry_name)),
    }
}
