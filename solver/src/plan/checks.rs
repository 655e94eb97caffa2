//! The build checks that need more than the text: variables, base images, the context's ignore file.
//!
//! [`forge_parser::check`] does the others. Whether anybody wants a warning is the file's `# check=` to say.

use std::collections::BTreeSet;

use forge_parser::check::Warning;
use forge_parser::{Span, Spanned};
use forge_store::{ImageConfig, Platform};

use super::PROXY_ARGS;
use super::lower::Lowering;
use super::stages::Planner;
use crate::limits::WARNINGS_MAX;

impl Planner<'_> {
    /// Keeps a warning unless the file skips its rule there.
    pub(super) fn warn(&mut self, warning: Warning) {
        let has_room = self.warnings.len() < WARNINGS_MAX;
        if has_room && self.checks.allows(warning.rule, warning.span) && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// A base image for another machine than the stage is for.
    pub(super) fn check_platform(&mut self, name: &str, image: &ImageConfig, wanted: &Platform, span: Span) {
        let found = image.platform();
        // Old images do not say what they are for.
        let says = !found.os.is_empty() && !found.architecture.is_empty();
        if says && (found.os != wanted.os || found.architecture != wanted.architecture) {
            let [found, wanted] = [found.to_string(), wanted.to_string()];
            self.warn(Warning::invalid_base_image_platform(name, &found, &wanted, span));
        }
    }

    /// `--build-arg`s that nothing in the file takes.
    pub(super) fn unused_args(&self) -> Vec<String> {
        let is_known = |name: &String| {
            self.declared.contains(name)
                || self.globals.declared.contains(name)
                || PROXY_ARGS.contains(&name.as_str())
                || forge_parser::platform_args::NAMES.contains(&name.as_str())
                || name.starts_with("BUILDKIT_")
                || name == "SOURCE_DATE_EPOCH"
        };
        let stages = self.dockerfile.stages.iter();
        let elsewhere: BTreeSet<&str> =
            stages.flat_map(|stage| &stage.instructions).flat_map(args_of).collect();
        let given = self.options.build_args.keys();
        given.filter(|name| !is_known(name) && !elsewhere.contains(name.as_str())).cloned().collect()
    }
}

/// The names that an ARG instruction, or the trigger of an ONBUILD, declares.
fn args_of(instruction: &forge_parser::ast::Instruction) -> Vec<&str> {
    use forge_parser::ast::Kind;
    match &instruction.kind {
        Kind::Arg(args) => args.iter().map(|arg| arg.name.as_str()).collect(),
        Kind::Onbuild { instruction, .. } => args_of(instruction),
        _ => Vec::new(),
    }
}

impl Lowering<'_, '_> {
    /// Names that nothing defines.
    pub(super) fn note_undefined(&mut self, undefined: &[String]) {
        if self.planner.warnings.len() >= WARNINGS_MAX {
            return;
        }
        for name in undefined {
            let declared = self.state.build_args.iter().any(|(arg, _)| arg == name);
            if declared || PROXY_ARGS.contains(&name.as_str()) {
                continue;
            }
            let set = self.state.env.0.iter().map(|(name, _)| name.as_str());
            let globals = self.planner.globals.declared.iter().map(String::as_str);
            let warning = Warning::undefined_var(name, set.chain(globals), self.span);
            self.planner.warn(warning);
        }
    }

    /// A relative WORKDIR that the base image decides. Those written without variables the parser has found.
    pub(super) fn check_workdir(&mut self, word: &Spanned<String>, expanded: &str) {
        let begins_with_variable = word.value.trim_start_matches(['"', '\'']).starts_with('$');
        if begins_with_variable && !self.state.workdir_set && !expanded.starts_with('/') {
            self.planner.warn(Warning::workdir_relative_path(expanded, word.span));
        }
        self.state.workdir_set = true;
    }

    /// Ports that variables brought in.
    pub(super) fn check_ports(&mut self, ports: &[String], span: Span) {
        for port in ports {
            if port.contains(':') {
                self.planner.warn(Warning::expose_invalid_format(port, span));
            }
            if port.split_once('/').is_some_and(|(_, protocol)| protocol != protocol.to_lowercase()) {
                self.planner.warn(Warning::expose_proto_casing(port, span));
            }
        }
    }
}
