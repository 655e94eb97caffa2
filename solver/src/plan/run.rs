//! RUN: the command, its environment and its mounts.

use std::sync::Arc;

use forge_parser::ast::{Command, Instruction, Mount, MountKind, Network, Run, Security};
use forge_parser::{Span, Spanned, parse_size};

use super::PROXY_ARGS;
use super::error::PlanProblem;
use super::history;
use super::lower::Lowering;
use super::path::{absolute, rooted};
use crate::VertexId;
use crate::op::{DeviceOp, MountOp, Op, RunOp, Selection};

/// What `sethostname` takes.
const HOSTNAME_BYTES_MAX: usize = 64;

impl Lowering<'_, '_> {
    pub(super) fn run(&mut self, run: &Run, instruction: &Instruction) -> Result<(), PlanProblem> {
        let label = self.step_label(instruction)?;
        let (args, script) = self.command(run);
        let mut inputs: Vec<VertexId> = Vec::new();
        let mut agents = 0;
        let mut mounts = Vec::new();
        for mount in &run.mounts {
            mounts.push(self.mount(agents, mount, &mut inputs)?);
            agents += usize::from(mount.value.kind == MountKind::Ssh);
        }
        let network = run.network.as_ref().map_or(self.planner.options.network, |network| network.value);
        let security = run.security.as_ref().map_or(Security::Sandbox, |security| security.value);
        let devices = run.devices.iter().map(|device| self.device(device)).collect::<Result<Vec<_>, _>>()?;
        self.check_entitlements(run, network, security, &devices)?;
        // Each step has the environment, and each line of history its arguments.
        let env: usize = self.state.env.0.iter().map(|(name, value)| name.len() + value.len()).sum();
        let values = self.state.env.0.len() + self.state.build_args.len();
        self.planner.carries(env + values * size_of::<(String, String)>(), self.span)?;
        let created_by = history::run(&self.state.args_for_history(), &args);
        let op = RunOp {
            args,
            env: self.state.env.0.clone(),
            declared_args: self.state.build_args.iter().map(|(name, _)| name.clone()).collect(),
            proxy_env: self.proxy_env(),
            cwd: self.state.workdir().to_owned(),
            user: self.state.image.config.user.clone(),
            network,
            security,
            mounts,
            ulimits: self.planner.options.ulimits.clone(),
            shm_size: self.planner.options.shm_size,
            devices,
            script,
            platform: self.state.platform.clone(),
            hostname: self.hostname()?,
        };
        self.push(Op::Run(Box::new(op)), inputs, label, created_by)
    }

    /// The arguments, and a `#!` script where the only word of the command is a heredoc.
    fn command(&self, run: &Run) -> (Vec<String>, Option<(String, Arc<str>)>) {
        let Command::Shell(line) = &run.command else { return (self.args(&run.command), None) };
        if let [heredoc] = run.heredocs.as_slice()
            && is_heredoc_word(line)
        {
            if heredoc.content.starts_with("#!") {
                let path = format!("/dev/pipes/{}", heredoc.name);
                let script = (heredoc.name.clone(), Arc::from(heredoc.content.as_str()));
                return (self.args(&Command::Shell(path)), Some(script));
            }
            return (self.args(&Command::Shell(heredoc.content.clone())), None);
        }
        let mut text = line.clone();
        for heredoc in &run.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        if !run.heredocs.is_empty() {
            text.push('\n');
        }
        (self.args(&Command::Shell(text)), None)
    }

    /// `--build-arg BUILDKIT_SANDBOX_HOSTNAME`.
    fn hostname(&self) -> Result<Option<String>, PlanProblem> {
        let given = self.planner.options.build_args.get("BUILDKIT_SANDBOX_HOSTNAME");
        let Some(name) = given.filter(|name| !name.is_empty()) else { return Ok(None) };
        let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if name.len() > HOSTNAME_BYTES_MAX || !name.chars().all(fits) {
            let message = format!("BUILDKIT_SANDBOX_HOSTNAME {name:?} is no host name");
            return Err(PlanProblem::input(message, self.span)
                .hint("write at most 64 letters, digits, dots and dashes"));
        }
        Ok(Some(name.clone()))
    }

    /// A cache's name; `--build-arg BUILDKIT_CACHE_MOUNT_NS` keeps those of different projects apart.
    fn cache_id(&self, id: String) -> String {
        match self.planner.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS").filter(|ns| !ns.is_empty()) {
            Some(namespace) => format!("{namespace}/{id}"),
            None => id,
        }
    }

    /// Proxy arguments that were given and that the Dockerfile did not take over itself.
    fn proxy_env(&self) -> Vec<(String, String)> {
        let given = &self.planner.options.build_args;
        let declared = |name: &str| self.state.env.value(name).is_some();
        let names = PROXY_ARGS.iter().filter(|name| !declared(name));
        names.filter_map(|name| Some(((*name).to_owned(), given.get(*name)?.clone()))).collect()
    }

    fn check_entitlements(
        &self,
        run: &Run,
        network: Network,
        security: Security,
        devices: &[DeviceOp],
    ) -> Result<(), PlanProblem> {
        let allowed = &self.planner.options.allowed;
        let mut wanted = Vec::new();
        if network == Network::Host && run.network.is_some() {
            wanted.push("network.host");
        }
        if security == Security::Insecure {
            wanted.push("security.insecure");
        }
        // `device` stands for all, `device=NAME` for one.
        let is_granted = |device: &&DeviceOp| {
            allowed.contains("device") || allowed.contains(&format!("device={}", device.name))
        };
        if let Some(device) = devices.iter().find(|device| !is_granted(device)) {
            let message = format!("entitlement device for {} is not allowed", device.name);
            return Err(PlanProblem::input(message, self.span).hint(format!(
                "grant it with --allow device, or --allow device={}, if you trust this Dockerfile",
                device.name
            )));
        }
        match wanted.into_iter().find(|name| !allowed.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(PlanProblem::input(format!("entitlement {name} is not allowed"), self.span)
                .hint(format!("grant it with --allow {name} if you trust this Dockerfile"))),
        }
    }

    /// `NAME[,required]`, or `name=NAME[,required=BOOL]`.
    fn device(&self, written: &Spanned<String>) -> Result<DeviceOp, PlanProblem> {
        let fail = |message: String| {
            PlanProblem::input(message, written.span).hint("write --device=VENDOR/CLASS=NAME[,required]")
        };
        let expanded = self.expander().word(&written.value, &self.state.env);
        let text = expanded.map_err(|e| fail(e.to_string()))?.text;
        let mut device = DeviceOp { name: String::new(), required: false };
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("name", name)) => name.clone_into(&mut device.name),
                Some(("required", value)) => {
                    device.required =
                        value.parse().map_err(|_| fail(format!("invalid value for required: {value}")))?;
                }
                None if field == "required" => device.required = true,
                _ if device.name.is_empty() => field.clone_into(&mut device.name),
                _ => return Err(fail(format!("unexpected `{field}` in --device={text}"))),
            }
        }
        if device.name.is_empty() { Err(fail("--device names no device".into())) } else { Ok(device) }
    }

    fn mount(
        &mut self,
        agents: usize,
        written: &Spanned<Mount>,
        inputs: &mut Vec<VertexId>,
    ) -> Result<MountOp, PlanProblem> {
        let span = written.span;
        let mount = self.expanded(written)?;
        let target = self.mount_target(agents, &mount, span)?;
        self.check_bind(&mount, span)?;
        let input = self.mount_input(&mount, span)?.map(|vertex| {
            inputs.push(vertex);
            // Place 0 is the rootfs.
            inputs.len()
        });
        let source = mount.source.clone().unwrap_or_default();
        let id = match (mount.id, mount.kind) {
            (Some(id), _) => id,
            (None, MountKind::Cache) => target.clone(),
            (None, MountKind::Secret) if !source.is_empty() => source.clone(),
            (None, MountKind::Secret) => target.rsplit('/').next().unwrap_or_default().to_owned(),
            (None, MountKind::Ssh) => "default".into(),
            (None, _) => String::new(),
        };
        let id = if mount.kind == MountKind::Cache { self.cache_id(id) } else { id };
        let env = mount.env.map(|env| if env.is_empty() { id.clone() } else { env });
        let target = match (mount.kind, &mount.target, &env) {
            (MountKind::Secret, None, Some(_)) => String::new(),
            (MountKind::Secret, None, None) => {
                format!("/run/secrets/{}", id.rsplit('/').next().unwrap_or(&id))
            }
            _ => target,
        };
        Ok(MountOp {
            kind: mount.kind,
            input,
            selection: Selection { required: true, ..Selection::path(rooted(&source)) },
            readonly: mount.readonly.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs)),
            id,
            sharing: mount.sharing.unwrap_or_default(),
            size: number(&mount.size, |text| parse_size(text).ok()).unwrap_or(0),
            mode: number(&mount.mode, |text| u32::from_str_radix(text, 8).ok()),
            uid: number(&mount.uid, |text| text.parse().ok()).unwrap_or(0),
            gid: number(&mount.gid, |text| text.parse().ok()).unwrap_or(0),
            required: mount.required,
            env,
            target,
        })
    }

    /// The mount with the stage's variables in it, and everything about it checked.
    fn expanded(&mut self, mount: &Spanned<Mount>) -> Result<Mount, PlanProblem> {
        let (expander, env) = (self.expander(), &self.state.env);
        let mut undefined = Vec::new();
        let expanded = mount.expand(&mut |value| {
            let word = expander.word(value, env)?;
            undefined.extend(word.undefined);
            Ok(word.text)
        });
        self.note_undefined(&undefined);
        expanded.map_err(|error| PlanProblem {
            hint: error.hint(),
            ..PlanProblem::input(error.to_string(), mount.span)
        })
    }

    /// Where a mount goes; `agents` stand before it, which numbers this one.
    fn mount_target(&self, agents: usize, mount: &Mount, span: Span) -> Result<String, PlanProblem> {
        let Some(target) = &mount.target else {
            return Ok(match mount.kind {
                MountKind::Ssh => format!("/run/buildkit/ssh_agent.{agents}"),
                _ => String::new(),
            });
        };
        let target = absolute(self.state.workdir(), target);
        if target == "/" {
            return Err(PlanProblem::input("invalid mount target \"/\"", span));
        }
        Ok(target)
    }

    /// A file of a directory that must be there and is not is reported before anything runs.
    fn check_bind(&self, mount: &Mount, span: Span) -> Result<(), PlanProblem> {
        let base = match &mount.from {
            Some(from) => self.planner.find_source(self.index, from).ok(),
            None => Some(super::base::Base::Context("context".into())),
        };
        let is_bind = mount.kind == MountKind::Bind && !self.planner.options.check_only;
        let Some(super::base::Base::Context(context)) = base.filter(|_| is_bind) else { return Ok(()) };
        let pattern = rooted(mount.source.as_deref().unwrap_or_default());
        let selection = Selection { required: true, ..Selection::path(pattern) };
        let found = self.planner.world.find(&context, &selection);
        found.map_err(|error| PlanProblem::world(error, Some(span)))
    }

    /// The vertex whose files a mount shows.
    fn mount_input(&mut self, mount: &Mount, span: Span) -> Result<Option<VertexId>, PlanProblem> {
        match (&mount.from, mount.kind) {
            (Some(from), _) => {
                let base = self.planner.find_source(self.index, from);
                let target = mount.target.as_deref().unwrap_or_default();
                let base = base.map_err(|error| PlanProblem::input(error.of_mount(target), span))?;
                self.planner.source_vertex(&base, span).map(Some)
            }
            (None, MountKind::Bind) => {
                let context = super::base::Base::Context("context".into());
                self.planner.source_vertex(&context, span).map(Some)
            }
            (None, _) => Ok(None),
        }
    }
}

/// A number that [`Mount::expand`] has checked already.
fn number<T>(text: &Option<String>, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    text.as_deref().and_then(parse)
}

/// True for `<<EOF`, `3<<-"EOF"` and their like, alone on the line.
fn is_heredoc_word(line: &str) -> bool {
    let line = line.trim();
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.starts_with("<<") && rest[2..].split_whitespace().count() == 1
}
