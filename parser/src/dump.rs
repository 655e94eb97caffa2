//! A Dockerfile as a few readable lines: what `forge` understood. The golden tests compare it.
//!
//! One line for each instruction, options in the order of the AST; every value in quotes is unexpanded.

use crate::ast::{
    Add, Arg, Command, Copy, CopyFlags, Dockerfile, Healthcheck, Heredoc, Instruction, Kind, Mount, Pairs,
    Run, Source, Stage,
};
use crate::span::Spanned;
use std::fmt::{Debug, Write};

/// Renders a whole file.
pub fn dump(dockerfile: &Dockerfile) -> String {
    let mut out = Out::default();
    let directives = &dockerfile.directives;
    if directives.escape != '\\' {
        out.line(0, &format!("escape {}", directives.escape));
    }
    for (name, value) in [("syntax", &directives.syntax), ("check", &directives.check)] {
        if let Some(value) = value {
            out.line(0, &format!("{name} {:?}", value.value));
        }
    }
    for arg in &dockerfile.global_args {
        out.line(0, &format!("global ARG {}", arg_text(arg)));
    }
    for stage in &dockerfile.stages {
        out.stage(stage);
    }
    out.text
}

/// Renders one instruction.
pub fn dump_instruction(instruction: &Instruction) -> String {
    let mut out = Out::default();
    out.instruction(0, instruction);
    out.text
}

#[derive(Default)]
struct Out {
    text: String,
}

impl Out {
    fn line(&mut self, depth: usize, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{}{text}", "  ".repeat(depth));
    }

    fn stage(&mut self, stage: &Stage) {
        let mut line = format!("FROM {:?}", stage.from.image.value);
        option(&mut line, "platform", stage.from.platform.as_deref());
        option(&mut line, "as", stage.from.name.as_deref());
        option(&mut line, "doc", stage.doc.as_ref());
        self.line(0, &line);
        for instruction in &stage.instructions {
            self.instruction(1, instruction);
        }
    }

    fn instruction(&mut self, depth: usize, instruction: &Instruction) {
        let line = match &instruction.kind {
            Kind::Arg(args) => {
                format!("ARG {}", args.iter().map(|arg| arg_text(arg)).collect::<Vec<_>>().join(" "))
            }
            Kind::Env(pairs) => format!("ENV{}", pairs_text(pairs)),
            Kind::Label(pairs) => format!("LABEL{}", pairs_text(pairs)),
            Kind::Run(run) => return self.run(depth, run),
            Kind::Copy(copy) => return self.copy(depth, copy),
            Kind::Add(add) => return self.add(depth, add),
            Kind::Cmd(command) => format!("CMD {}", command_text(command)),
            Kind::Entrypoint(command) => format!("ENTRYPOINT {}", command_text(command)),
            Kind::Healthcheck(check) => healthcheck_text(check),
            Kind::Shell(words) => format!("SHELL {words:?}"),
            Kind::Stopsignal(word) => format!("STOPSIGNAL {:?}", word.value),
            Kind::User(word) => format!("USER {:?}", word.value),
            Kind::Workdir(word) => format!("WORKDIR {:?}", word.value),
            Kind::Maintainer(word) => format!("MAINTAINER {:?}", word.value),
            Kind::Volume(words) => {
                format!("VOLUME{} {:?}", if words.json { " json" } else { "" }, values(&words.words))
            }
            Kind::Expose(ports) => format!("EXPOSE {:?}", values(ports)),
            Kind::Onbuild { trigger, instruction } => {
                self.line(depth, &format!("ONBUILD {:?}", trigger.value));
                return self.instruction(depth + 1, instruction);
            }
        };
        self.line(depth, &line);
    }

    fn run(&mut self, depth: usize, run: &Run) {
        let mut line = format!("RUN {}", command_text(&run.command));
        option(&mut line, "network", run.network.as_ref().map(|network| network.value));
        option(&mut line, "security", run.security.as_ref().map(|security| security.value));
        run.devices.iter().for_each(|device| option(&mut line, "device", Some(&device.value)));
        self.line(depth, &line);
        run.mounts.iter().for_each(|mount| self.line(depth + 1, &mount_text(mount)));
        run.heredocs.iter().for_each(|heredoc| self.line(depth + 1, &heredoc_text(heredoc)));
    }

    fn copy(&mut self, depth: usize, copy: &Copy) {
        let mut line = String::from("COPY");
        option(&mut line, "from", copy.from.as_deref());
        switch(&mut line, "parents", copy.parents);
        self.files(depth, line, &copy.sources, &copy.dest, copy.json, &copy.flags);
    }

    fn add(&mut self, depth: usize, add: &Add) {
        let mut line = String::from("ADD");
        option(&mut line, "checksum", add.checksum.as_deref());
        option(&mut line, "keep-git-dir", add.keep_git_dir);
        option(&mut line, "unpack", add.unpack);
        self.files(depth, line, &add.sources, &add.dest, add.json, &add.flags);
    }

    fn files(
        &mut self,
        depth: usize,
        mut line: String,
        sources: &[Spanned<Source>],
        dest: &str,
        json: bool,
        flags: &CopyFlags,
    ) {
        option(&mut line, "chown", flags.chown.as_deref());
        option(&mut line, "chmod", flags.chmod.as_deref());
        switch(&mut line, "link", flags.link);
        flags.excludes.iter().for_each(|exclude| option(&mut line, "exclude", Some(&exclude.value)));
        switch(&mut line, "json", json);
        for source in sources {
            match &source.value {
                Source::Path(path) => line.push_str(&format!(" {path:?}")),
                Source::Heredoc(heredoc) => line.push_str(&format!(" <<{}", heredoc.name)),
            }
        }
        line.push_str(&format!(" -> {dest:?}"));
        self.line(depth, &line);
        for source in sources {
            if let Source::Heredoc(heredoc) = &source.value {
                self.line(depth + 1, &heredoc_text(heredoc));
            }
        }
    }
}

fn values(words: &[Spanned<String>]) -> Vec<&str> {
    words.iter().map(|word| word.value.as_str()).collect()
}

fn option(line: &mut String, name: &str, value: Option<impl Debug>) {
    if let Some(value) = value {
        line.push_str(&format!(" {name}={value:?}"));
    }
}

fn switch(line: &mut String, name: &str, on: bool) {
    if on {
        line.push(' ');
        line.push_str(name);
    }
}

fn arg_text(arg: &Arg) -> String {
    let mut text = arg.name.clone();
    if let Some(default) = &arg.default {
        text.push_str(&format!("={default:?}"));
    }
    option(&mut text, "doc", arg.doc.as_ref());
    text
}

fn pairs_text(pairs: &Pairs) -> String {
    let mut text = String::new();
    switch(&mut text, "legacy", pairs.legacy);
    for (key, value) in &pairs.pairs {
        text.push_str(&format!(" {:?}={:?}", key.value, value.value));
    }
    text
}

fn command_text(command: &Command) -> String {
    match command {
        Command::Shell(text) => format!("shell {text:?}"),
        Command::Exec(words) => format!("exec {words:?}"),
    }
}

fn healthcheck_text(check: &Healthcheck) -> String {
    let Healthcheck::Cmd { command, interval_ns, timeout_ns, start_period_ns, start_interval_ns, retries } =
        check
    else {
        return "HEALTHCHECK none".to_owned();
    };
    let mut text = format!("HEALTHCHECK {}", command_text(command));
    for (name, value) in [
        ("interval_ns", interval_ns),
        ("timeout_ns", timeout_ns),
        ("start_period_ns", start_period_ns),
        ("start_interval_ns", start_interval_ns),
        ("retries", retries),
    ] {
        option(&mut text, name, Some(value).filter(|value| **value != 0));
    }
    text
}

fn heredoc_text(heredoc: &Heredoc) -> String {
    let mut text = format!("<<{}", heredoc.name);
    option(&mut text, "fd", heredoc.fd);
    switch(&mut text, "chomp", heredoc.chomp);
    switch(&mut text, "expand", heredoc.expand);
    text.push_str(&format!(" {:?}", heredoc.content));
    text
}

fn mount_text(mount: &Mount) -> String {
    let mut text = format!("mount {:?}", mount.kind).to_lowercase();
    for (name, value) in [
        ("from", &mount.from),
        ("source", &mount.source),
        ("target", &mount.target),
        ("id", &mount.id),
        ("size", &mount.size),
        ("mode", &mount.mode),
        ("uid", &mount.uid),
        ("gid", &mount.gid),
        ("env", &mount.env),
    ] {
        option(&mut text, name, value.as_ref());
    }
    option(&mut text, "readonly", mount.readonly);
    option(&mut text, "sharing", mount.sharing);
    switch(&mut text, "required", mount.required);
    text
}
