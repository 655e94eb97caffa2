//! `forge`: words in, words out. Arguments, wiring, progress, reports, exit codes; no build logic.

mod args;
mod commands;
mod contexts;
mod diagnostics;
mod disk_flags;
mod docker_host;
mod dockerfile;
mod downloads;
mod early_push;
mod engines;
mod environment;
mod failure;
mod files;
mod history;
mod identity;
mod ignore_files;
mod image_flags;
mod isolation_flags;
mod kept;
mod limits;
mod local;
mod locking;
mod metadata;
mod places;
mod progress;
mod prompt;
mod recipes;
mod records;
mod registries;
mod secrets;
mod signals;
mod size;
mod step_flags;
mod steps;
mod template;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::commands::Session;
use crate::failure::Failure;

fn main() -> ExitCode {
    // The helper that sandboxes are born from is this same program under another name.
    if let Some(code) = forge_runner::serve_if_zygote(std::env::args_os().next().as_deref()) {
        return code;
    }
    forge_runner::share_heap();
    raise_descriptor_limit();
    give_the_terminal_back_on_panics();
    let outcome = match run(Cli::parse()) {
        // Found out on the way; opened once more, the store makes its index anew.
        Err(failure) if failure.is_of_index() => {
            failure.reports.iter().for_each(|report| progress::say(report));
            progress::say("the command is run once more");
            run(Cli::parse())
        }
        other => other,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.reports.iter().for_each(|report| progress::say(report));
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

/// A deep stack of layers holds a descriptor for each; shells often start with a soft limit of 1,024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Refused is no harm: what needs more says so itself.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// A terminal that is raw would be left so by a bug that ends forge.
fn give_the_terminal_back_on_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        forge_runner::terminal::restore();
        usual(panic);
    }));
}

fn run(cli: Cli) -> Result<(), Failure> {
    let identity = identity::settle(&cli.command)?;
    let session = Session { root: cli.root, identity };
    match cli.command {
        Command::Build(args) => commands::build::build(&session, &args),
        Command::Run(args) => commands::run::run(&session, &args),
        Command::Shell(args) => commands::shell::shell(&session, &args),
        Command::Replay(args) => commands::replay::replay(&session, &args),
        Command::Logs(args) => commands::logs::logs(&session, &args),
        Command::Images(args) => commands::images::images(&session, &args),
        Command::Inspect(args) => commands::inspect::inspect(&session, &args),
        Command::Tag(args) => commands::tag::tag(&session, &args),
        Command::Rmi(args) => commands::rmi::rmi(&session, &args),
        Command::Pull(args) => commands::pull::pull(&session, &args),
        Command::Push(args) => commands::push::push(&session, &args),
        Command::Copy(args) => commands::copy::copy(&session, &args),
        Command::Login(args) => commands::login::login(&args),
        Command::Logout(args) => commands::login::logout(&args),
        Command::Verify(args) => commands::verify::verify(&session, &args),
        Command::Explain(args) => commands::explain::explain(&session, &args),
        Command::Outdated(args) => commands::outdated::outdated(&session, &args),
        Command::Doctor(args) => commands::doctor::doctor(&args),
        Command::Info(args) => commands::info::info(&session, &args),
        Command::Du(args) => commands::du::du(&session, &args),
        Command::Prune(args) => commands::prune::prune(&session, &args),
        Command::Store(args) => commands::store::store(&session, &args),
    }
}
