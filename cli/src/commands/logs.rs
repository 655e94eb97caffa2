//! `forge logs`: the whole log of an earlier build.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};

use super::Session;
use crate::args::Logs;
use crate::failure::{Failure, Kind};
use crate::kept::KeptBuilds;
use crate::progress::for_terminal;
use crate::registries::parse_reference;

/// Prints it, unclipped.
pub fn logs(session: &Session, args: &Logs) -> Result<(), Failure> {
    let store = session.store()?;
    let name = name_of(&args.build)?;
    let (_, log) = KeptBuilds::of(&store).find(name.as_deref()).ok_or_else(|| no_such_build(&args.build))?;
    let fail = |e: io::Error| Failure::new(Kind::System, format!("cannot read {}: {e}", log.display()), None);
    let out = io::stdout();
    match copy(BufReader::new(File::open(&log).map_err(fail)?), out.lock(), out.is_terminal()) {
        // Whoever read our output went away; that is theirs to judge.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(fail),
    }
}

/// Byte for byte, but harmless on a terminal.
fn copy(mut log: impl BufRead, mut out: impl Write, escapes: bool) -> io::Result<()> {
    if !escapes {
        io::copy(&mut log, &mut out)?;
        return out.flush();
    }
    let mut line = Vec::new();
    while log.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
        writeln!(out, "{}", for_terminal(&text))?;
        line.clear();
    }
    out.flush()
}

/// `last` stands for any build; else an image's whole name.
pub fn name_of(text: &str) -> Result<Option<String>, Failure> {
    if text == "last" {
        return Ok(None);
    }
    Ok(Some(parse_reference(text)?.canonical()))
}

/// What to say if nothing was kept.
pub fn no_such_build(name: &str) -> Failure {
    let what = if name == "last" { "no build".to_owned() } else { format!("no build of {name}") };
    let hint = format!("build it; the last {} builds of a store are kept", crate::kept::MOST_BUILDS);
    Failure::new(Kind::NotFound, format!("{what} is kept in this store"), Some(hint))
}
