//! `forge login` and `forge logout`: credentials where Docker keeps them.

use std::io::Read;

use super::print;
use crate::args::{Login, Logout};
use crate::failure::{Failure, Kind};
use crate::progress::say;
use crate::registries;

/// The most that a password may have, in bytes.
const MOST_BYTES: u64 = 64 << 10;

/// Stores credentials that the registry takes.
pub fn login(args: &Login) -> Result<(), Failure> {
    let mut password = String::new();
    let read = std::io::stdin().lock().take(MOST_BYTES).read_to_string(&mut password);
    read.map_err(|e| Failure::new(Kind::Usage, format!("cannot read the password: {e}"), None))?;
    let password = password.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        let hint = Some("give it on standard input".to_owned());
        return Err(Failure::new(Kind::Usage, "the password is empty", hint));
    }
    let path = registries::login(&args.registry_name, &args.username, password, &args.registry)?;
    say(&format!("credentials are kept in {}", path.display()));
    print("Login Succeeded")
}

/// Forgets credentials.
pub fn logout(args: &Logout) -> Result<(), Failure> {
    match registries::logout(&args.registry_name)? {
        true => print(&format!("Removed credentials for {}", args.registry_name)),
        false => print(&format!("Not logged in to {}", args.registry_name)),
    }
}
