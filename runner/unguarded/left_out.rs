//! Guards that can be left out: the tests' half of `runner/src/guard.rs`, which no shipped program contains.
//!
//! `FORGE_WITHOUT=InRoot,Nodev` names the guards to leave out, and `FORGE_MEANWHILE` a shell command to be run by the
//! machine's shell at the worst moment of a race: after a path was looked at, and before it is used.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::Guard;

const WITHOUT: &str = "FORGE_WITHOUT";
const MEANWHILE: &str = "FORGE_MEANWHILE";

fn variable(name: &'static str, slot: &'static OnceLock<String>) -> &'static str {
    slot.get_or_init(|| std::env::var(name).unwrap_or_default())
}

fn left_out() -> &'static str {
    static SLOT: OnceLock<String> = OnceLock::new();
    variable(WITHOUT, &SLOT)
}

fn command() -> &'static str {
    static SLOT: OnceLock<String> = OnceLock::new();
    variable(MEANWHILE, &SLOT)
}

impl Guard {
    /// Whether it stands.
    pub(crate) fn holds(self) -> bool {
        let own = format!("{self:?}");
        !left_out().split(',').any(|name| name == own)
    }
}

/// Runs what is to happen between a look and a use.
pub(crate) fn meanwhile() {
    if command().is_empty() {
        return;
    }
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command()]).env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    let _ = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// A helper process gets an empty environment, so it is told.
pub(crate) fn hand_on(helper: &mut Command) {
    helper.env(WITHOUT, left_out()).env(MEANWHILE, command());
}

/// What C's `atoi` makes of a text, in a variable of 32 bits.
pub(crate) fn careless_number(text: &str) -> Option<u32> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    let number = digits[..end].parse::<i64>().ok()?;
    Some((if negative { -number } else { number }) as u32)
}
