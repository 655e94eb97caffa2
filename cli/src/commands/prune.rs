//! `forge prune`: what nobody needs is removed.

use std::io::{self, IsTerminal, Write};

use forge_store::gc::Freed;

use super::{Session, du, print};
use crate::disk_flags::Prune;
use crate::failure::{Failure, Kind};
use crate::size::human;

/// Removes it, after asking.
pub fn prune(session: &Session, args: &Prune) -> Result<(), Failure> {
    let options = args.options()?;
    let store = session.store()?;
    if args.dry_run {
        let items = store.would_prune(&options)?;
        du::table(items.iter())?;
        let bytes: u64 = items.iter().map(|item| item.size).sum();
        return print(&format!("\nWould free {} ({} things)", human(bytes), items.len()));
    }
    if !args.force {
        ask(args.all)?;
    }
    if args.verbose {
        du::table(store.would_prune(&options)?.iter())?;
        print("")?;
    }
    report(&store.prune(&options)?)
}

/// What a removal freed.
fn report(freed: &Freed) -> Result<(), Failure> {
    for (kind, (count, bytes)) in &freed.kinds {
        print(&format!("{kind:12} {count:>7} {:>9}", human(*bytes)))?;
    }
    print(&format!("Total reclaimed space: {}", human(freed.bytes())))
}

/// As Docker asks; whoever cannot be asked has to say so with a flag.
fn ask(all: bool) -> Result<(), Failure> {
    let what = match all {
        true => "everything that no image and no running build needs",
        false => "what no image and no running build needs and nobody used within two days",
    };
    let refused = |message: &str| {
        Failure::new(
            Kind::Usage,
            message,
            Some("`forge prune --force` does not ask; --dry-run shows what would go".into()),
        )
    };
    if !io::stdin().is_terminal() {
        return Err(refused("prune asks before it removes anything, and standard input is no terminal"));
    }
    let mut out = io::stderr();
    let _ = write!(out, "This removes {what}. Go on? [y/N] ");
    let _ = out.flush();
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    match read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(refused("nothing was removed")),
    }
}
