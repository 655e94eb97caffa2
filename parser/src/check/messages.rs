//! What each check says, word for word.

use super::{Rule, Warning};
use crate::span::Span;
use crate::suggest::did_you_mean;

impl Warning {
    /// A warning in words of one's own.
    pub fn new(rule: Rule, message: impl Into<String>, span: Span) -> Self {
        Self { rule, message: message.into(), span, hint: None }
    }

    /// The same with a next step for the user.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// `name` is the stage's name as written.
    pub fn stage_name_casing(name: &str, span: Span) -> Self {
        Self::new(Rule::StageNameCasing, format!("Stage name '{name}' should be lowercase"), span)
    }

    /// Both keywords as written.
    pub fn from_as_casing(keyword: &str, from: &str, span: Span) -> Self {
        let message = format!("'{keyword}' and '{from}' keywords' casing do not match");
        Self::new(Rule::FromAsCasing, message, span)
    }

    /// A blank line between continued ones.
    pub fn no_empty_continuation(span: Span) -> Self {
        Self::new(Rule::NoEmptyContinuation, "Empty continuation line", span)
            .with_hint("remove the blank line, or the continuation mark above it")
    }

    /// `command` as written; `casing` is `uppercase` or `lowercase`.
    pub fn consistent_instruction_casing(command: &str, casing: &str, span: Span) -> Self {
        let message = format!("Command '{command}' should match the case of the command majority ({casing})");
        Self::new(Rule::ConsistentInstructionCasing, message, span)
    }

    /// `name` is the later stage's.
    pub fn duplicate_stage_name(name: &str, span: Span) -> Self {
        let message = format!("Duplicate stage name {name:?}, stage names should be unique");
        Self::new(Rule::DuplicateStageName, message, span)
    }

    /// `name` is `scratch` or `context`.
    pub fn reserved_stage_name(name: &str, span: Span) -> Self {
        let message = format!("Stage name should not use the same name as reserved stage {name:?}");
        Self::new(Rule::ReservedStageName, message, span)
    }

    /// `instruction` is CMD or ENTRYPOINT.
    pub fn json_args_recommended(instruction: &str, span: Span) -> Self {
        let message = format!(
            "JSON arguments recommended for {instruction} to prevent unintended behavior related to OS signals"
        );
        Self::new(Rule::JSONArgsRecommended, message, span)
            .with_hint(format!("write {instruction} [\"program\", \"argument\"]"))
    }

    /// MAINTAINER.
    pub fn maintainer_deprecated(span: Span) -> Self {
        let message = "Maintainer instruction is deprecated in favor of using label";
        Self::new(Rule::MaintainerDeprecated, message, span)
            .with_hint("write LABEL org.opencontainers.image.authors=\"…\"")
    }

    /// `declared` are the names that may have been meant.
    pub fn undefined_arg_in_from<'a>(
        name: &str,
        declared: impl IntoIterator<Item = &'a str>,
        span: Span,
    ) -> Self {
        let near = did_you_mean(name, declared);
        let near = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
        Self::new(Rule::UndefinedArgInFrom, format!("FROM argument '{name}' is not declared{near}"), span)
            .with_hint("write ARG with its name above the first FROM")
    }

    /// `path` as it was expanded.
    pub fn workdir_relative_path(path: &str, span: Span) -> Self {
        let message =
            format!("Relative workdir {path:?} can have unexpected results if the base image changes");
        Self::new(Rule::WorkdirRelativePath, message, span).with_hint("begin the path with /")
    }

    /// `set` are the names that may have been meant.
    pub fn undefined_var<'a>(name: &str, set: impl IntoIterator<Item = &'a str>, span: Span) -> Self {
        let near = did_you_mean(name, set);
        let near = near.map(|near| format!(" (did you mean ${near}?)")).unwrap_or_default();
        Self::new(Rule::UndefinedVar, format!("Usage of undefined variable '${name}'{near}"), span)
    }

    /// `instruction` is the one that loses to a later one.
    pub fn multiple_instructions_disallowed(instruction: &str, span: Span) -> Self {
        let message = format!(
            "Multiple {instruction} instructions should not be used in the same stage because only the last one \
             will be used"
        );
        Self::new(Rule::MultipleInstructionsDisallowed, message, span).with_hint("remove this one")
    }

    /// `instruction` is ENV or LABEL.
    pub fn legacy_key_value_format(instruction: &str, span: Span) -> Self {
        let message = format!(
            "\"{instruction} key=value\" should be used instead of legacy \"{instruction} key value\" format"
        );
        Self::new(Rule::LegacyKeyValueFormat, message, span)
    }

    /// Platforms as `os/arch[/variant]`.
    pub fn invalid_base_image_platform(image: &str, found: &str, expected: &str, span: Span) -> Self {
        let message = format!(
            "Base image {image} was pulled with platform {found:?}, expected {expected:?} for current build"
        );
        Self::new(Rule::InvalidBaseImagePlatform, message, span)
    }

    /// `platform` as written.
    pub fn redundant_target_platform(platform: &str, span: Span) -> Self {
        let message = format!(
            "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
        );
        Self::new(Rule::RedundantTargetPlatform, message, span).with_hint("remove --platform")
    }

    /// `instruction` is ARG or ENV.
    pub fn secrets_used_in_arg_or_env(instruction: &str, name: &str, span: Span) -> Self {
        let message =
            format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})");
        Self::new(Rule::SecretsUsedInArgOrEnv, message, span)
            .with_hint("use RUN --mount=type=secret: it leaves no trace in the image")
    }

    /// `image` is the FROM's, unexpanded.
    pub fn invalid_default_arg_in_from(image: &str, span: Span) -> Self {
        let message = format!("Default value for ARG {image} results in empty or invalid base image name");
        Self::new(Rule::InvalidDefaultArgInFrom, message, span).with_hint("give the ARG a default")
    }

    /// `platform` as written.
    pub fn from_platform_flag_const_disallowed(platform: &str, span: Span) -> Self {
        let message = format!("FROM --platform flag should not use constant value {platform:?}");
        Self::new(Rule::FromPlatformFlagConstDisallowed, message, span)
            .with_hint("use $BUILDPLATFORM or an ARG, or name the stage after its architecture")
    }

    /// `instruction` is COPY or ADD, `path` the source.
    pub fn copy_ignored_file(instruction: &str, path: &str, span: Span) -> Self {
        let verb = if instruction.eq_ignore_ascii_case("add") { "Add" } else { "Copy" };
        let message = format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore");
        Self::new(Rule::CopyIgnoredFile, message, span)
    }

    /// `definition` is `build stage` or `ARG`; `name` the stage's or the ARG's.
    pub fn invalid_definition_description(definition: &str, name: &str, span: Span) -> Self {
        let message = format!("Comment for {definition} should follow the format: `# {name} <description>`");
        Self::new(Rule::InvalidDefinitionDescription, message, span)
            .with_hint("put an empty line between the comment and the instruction if it is no description")
    }

    /// `port` as it was expanded.
    pub fn expose_proto_casing(port: &str, span: Span) -> Self {
        let message = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
        Self::new(Rule::ExposeProtoCasing, message, span)
    }

    /// `port` as it was expanded.
    pub fn expose_invalid_format(port: &str, span: Span) -> Self {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
        );
        Self::new(Rule::ExposeInvalidFormat, message, span)
    }
}
