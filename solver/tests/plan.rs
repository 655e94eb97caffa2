//! Planning, seen from outside: what a Dockerfile comes to over a world in memory, and what is said about it.

use std::collections::{BTreeMap, BTreeSet};

use forge_parser::ast::Network;
use forge_solver::op::types::GitReference;
use forge_solver::op::{Access, CopySource, HttpSource, ResolvedHttp, ResolvedImage, Selection};
use forge_solver::{Dated, Named, Op, Plan, PlanOptions, TroubleKind, World, WorldError};
use forge_store::{ContentId, Digest, ImageConfig, Platform, Snapshot};

/// Images by name, named contexts; contexts in which everything is there but `missing`, and URLs and repositories
/// likewise.
#[derive(Default)]
struct Fake {
    images: BTreeMap<&'static str, ImageConfig>,
    contexts: BTreeMap<&'static str, Named>,
}

impl World for Fake {
    fn resolve_image(&self, reference: &str, _: &Platform) -> Result<ResolvedImage, WorldError> {
        let config = self.images.get(reference).ok_or_else(|| {
            WorldError::new(TroubleKind::NotFound, format!("there is no image {reference}"))
        })?;
        Ok(ResolvedImage {
            reference: reference.to_owned(),
            digest: Digest::of(reference.as_bytes()),
            config: config.clone(),
            snapshot: Snapshot::default(),
        })
    }
    fn image_at_hand(&self, reference: &str, platform: &Platform) -> Option<ResolvedImage> {
        self.resolve_image(reference, platform).ok()
    }
    fn find(&self, context: &str, selection: &Selection) -> Result<(), WorldError> {
        self.select(context, selection).map(drop)
    }
    fn named(&self, name: &str, _: &Platform) -> Option<Named> {
        self.contexts.get(name).cloned()
    }
    fn resolve_http(&self, source: &HttpSource) -> Result<ResolvedHttp, WorldError> {
        if source.url.ends_with("/missing") {
            return Err(WorldError::new(TroubleKind::NotFound, "it is not there"));
        }
        Ok(ResolvedHttp { digest: Digest::of(source.url.as_bytes()), mtime: 5 })
    }
    fn time_of(&self, dated: Dated<'_>) -> Result<Option<i64>, WorldError> {
        Ok(match dated {
            Dated::Context => None,
            Dated::Http(_) => Some(7),
            Dated::Git(..) => Some(8),
        })
    }
    fn resolve_git(&self, reference: &GitReference, _: Access) -> Result<String, WorldError> {
        if reference.remote.ends_with("/missing.git") {
            return Err(WorldError::new(TroubleKind::NotFound, "there is no such repository"));
        }
        Ok("c".repeat(40))
    }
    fn is_ignored(&self, _: &str, path: &str) -> bool {
        path.starts_with("ignored")
    }
    fn select(&self, _: &str, selection: &Selection) -> Result<ContentId, WorldError> {
        match selection.pattern.as_str() {
            "missing" => Err(WorldError::new(TroubleKind::Input, "\"/missing\": not found")),
            pattern => Ok(ContentId::new(blake3::hash(pattern.as_bytes()))),
        }
    }
}

impl Fake {
    /// With the image `base`, changed by `edit`.
    fn with_base(edit: impl FnOnce(&mut ImageConfig)) -> Self {
        let mut config = ImageConfig::default();
        config.set_platform(&Platform::new("linux", "amd64", None));
        edit(&mut config);
        Self { images: BTreeMap::from([("base", config)]), ..Self::default() }
    }
}

fn options(args: &[(&str, &str)]) -> PlanOptions {
    let platform = Platform::new("linux", "amd64", None);
    PlanOptions {
        target: None,
        build_args: args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        labels: Vec::new(),
        platform: platform.clone(),
        several_platforms: false,
        build_platform: platform,
        no_cache: false,
        no_cache_stages: BTreeSet::new(),
        network: Network::Default,
        allowed: BTreeSet::new(),
        ulimits: Vec::new(),
        shm_size: None,
        check_only: false,
    }
}

fn plan(text: &str, options: &PlanOptions, world: &Fake) -> Result<Plan, Vec<String>> {
    let parsed = forge_parser::parse(text.as_bytes()).expect("the text parses");
    forge_solver::plan(&parsed, options, world)
        .map_err(|problems| problems.into_iter().map(|problem| problem.message).collect())
}

fn warnings(text: &str, args: &[(&str, &str)], world: &Fake) -> Vec<String> {
    let plan = plan(text, &options(args), world).expect("the text plans");
    plan.warnings.iter().map(ToString::to_string).collect()
}

/// The labels of the vertices that the target needs.
fn steps(plan: &Plan) -> Vec<String> {
    let needed = plan.graph.reachable(plan.target);
    let ids = plan.graph.ids().filter(|id| needed[id.index()]);
    ids.map(|id| plan.graph.vertex(id).label.clone()).collect()
}

#[test]
fn undefined_variables_are_told_with_what_was_meant() {
    let world = Fake::with_base(|config| config.config.env.push("FROM_BASE=1".into()));
    let text = "ARG GLOBAL=1\nFROM base\nARG DECLARED\nENV SET=$FROM_BASE$DECLARED$HTTP_PROXY\n\
                ENV A=$STE B=$SET C=$GLOBAL D=$PATH\nCOPY <<E /\n$NOPE\nE\n";
    assert_eq!(
        warnings(text, &[], &world),
        [
            "UndefinedVar: Usage of undefined variable '$STE' (did you mean $SET?)",
            "UndefinedVar: Usage of undefined variable '$GLOBAL'",
            "UndefinedVar: Usage of undefined variable '$NOPE'",
        ]
    );
    let skipped = format!("# check=skip=UndefinedVar\n{text}");
    assert!(warnings(&skipped, &[], &world).is_empty());
}

#[test]
fn words_that_variables_make_are_checked_too() {
    let world = Fake::with_base(|_| ());
    let text = "FROM base AS a\nARG D=sub P=\"80/TCP 1.2.3.4:1:2\"\nWORKDIR $D\nWORKDIR $D\nEXPOSE $P\n";
    assert_eq!(
        warnings(text, &[], &world),
        [
            "WorkdirRelativePath: Relative workdir \"sub\" can have unexpected results if the base image changes",
            "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
            "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found \
             '1.2.3.4:1:2'",
        ]
    );
    assert_eq!(warnings(text, &[("D", "/abs"), ("P", "80")], &world), [""; 0]);
}

#[test]
fn a_base_for_another_machine_is_told() {
    let world = Fake::with_base(|config| config.set_platform(&Platform::new("linux", "arm64", None)));
    let want = "InvalidBaseImagePlatform: Base image base was pulled with platform \"linux/arm64\", expected \
                \"linux/amd64\" for current build";
    assert_eq!(warnings("FROM base\n", &[], &world), [want]);
}

#[test]
fn checking_alone_needs_no_sources_and_tells_of_ignored_ones() {
    let (world, text) = (Fake::with_base(|_| ()), "FROM base\nCOPY missing ignored/x /d/\n");
    assert_eq!(plan(text, &options(&[]), &world).unwrap_err(), ["\"/missing\": not found"]);
    let only = PlanOptions { check_only: true, ..options(&[]) };
    let found = plan(text, &only, &world).unwrap().warnings;
    let want = "CopyIgnoredFile: Attempting to Copy file \"ignored/x\" that is excluded by .dockerignore";
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [want]);
}

#[test]
fn all_problems_come_at_once() {
    let options = PlanOptions { target: Some("bulid".into()), ..options(&[]) };
    let text = "ARG EMPTY\nFROM $EMPTY AS build\nFROM --platform=$EMPTY base\n";
    assert_eq!(
        plan(text, &options, &Fake::default()).unwrap_err(),
        [
            "target stage \"bulid\" could not be found (did you mean build?)",
            "base name ($EMPTY) should not be blank",
            "empty platform value from expression $EMPTY",
        ]
    );
    let text = "FROM base\nCOPY missing /\nRUN --mount=type=bind,target=$T true\nCOPY $U /\n";
    let text = text.replace("FROM base", "FROM base\nARG U T");
    assert_eq!(
        plan(&text, &self::options(&[("U", "https://x/y")]), &Fake::with_base(|_| ())).unwrap_err(),
        ["\"/missing\": not found", "invalid mount target \"\"", "source can't be a URL for COPY"]
    );
}

#[test]
fn mounts_are_expanded_in_the_stages_variables() {
    let text = "FROM base\nARG KIND=cache ID=x MODE=0700\nWORKDIR /w\n\
                RUN --mount=type=$KIND,id=$ID,target=c,mode=${MODE},uid=${N:-5} true\n";
    let plan = plan(text, &options(&[]), &Fake::with_base(|_| ())).unwrap();
    let Op::Run(run) = &plan.graph.vertex(plan.target).op else { panic!("no RUN") };
    let mount = &run.mounts[0];
    assert_eq!((mount.target.as_str(), mount.id.as_str()), ("/w/c", "x"));
    assert_eq!((mount.mode, mount.uid, mount.readonly), (Some(0o700), 5, false));
}

#[test]
fn triggers_of_base_images_may_use_stages_that_nothing_else_needs() {
    let world = Fake::with_base(|config| config.config.on_build.push("COPY --from=tools /x /y".into()));
    let text = "FROM scratch AS tools\nCOPY x /x\nFROM base\nRUN true\n";
    let plan = plan(text, &options(&[]), &world).unwrap();
    let steps = steps(&plan).join("\n");
    assert!(steps.contains("COPY --from=tools /x /y") && steps.contains("COPY x /x"), "{steps}");
    assert!(plan.stage.image.config.on_build.is_empty(), "a trigger fires once");
}

#[test]
fn triggers_of_a_stage_fire_in_the_stage_built_on_it() {
    let text = "FROM base AS a\nONBUILD ARG X=1\nONBUILD ENV Y=$X\nFROM scratch AS aside\nFROM a\n";
    let plan = plan(text, &options(&[("X", "2")]), &Fake::with_base(|_| ())).unwrap();
    assert!(plan.stage.image.config.env.contains(&"Y=2".to_owned()));
    assert!(plan.unused_args.is_empty(), "an ARG of a trigger takes its value");
}

#[test]
fn build_args_that_nothing_takes_are_listed() {
    let text = "ARG A\nFROM base AS unneeded\nARG B\nFROM base\nRUN true\n";
    let given = [("A", ""), ("B", ""), ("C", "x"), ("HTTP_PROXY", ""), ("TARGETARCH", ""), ("D", "")];
    let plan = plan(text, &options(&given), &Fake::with_base(|_| ())).unwrap();
    assert_eq!(plan.unused_args, ["C", "D"]);
}

#[test]
fn only_the_builtin_frontend_is_taken() {
    let world = Fake::with_base(|_| ());
    let problem = |text: &str, args: &[(&str, &str)]| plan(text, &options(args), &world).err();
    assert_eq!(problem("# syntax=docker/dockerfile:1.20-labs\nFROM base\n", &[]), None);
    let foreign = "# syntax=evil.example/frontend\nFROM base\n";
    let message = "the frontend \"evil.example/frontend\" is not supported";
    assert_eq!(problem(foreign, &[]).unwrap(), [message]);
    assert_eq!(problem(foreign, &[("BUILDKIT_SYNTAX", "docker/dockerfile:1")]), None);
    let message = "the frontend \"evil/x\" of --build-arg BUILDKIT_SYNTAX is not supported";
    assert_eq!(problem("FROM base\n", &[("BUILDKIT_SYNTAX", "evil/x")]).unwrap(), [message]);
}

#[test]
fn arguments_come_from_where_docker_takes_them() {
    let text = "ARG G=global\nARG P=$TARGETARCH\nFROM base\nARG G\nARG D=default\nARG D2=$D-$G\nARG TARGETOS\n\
                ARG LATER=1\nENV LATER=2 X=$G/$D/$D2/$TARGETOS/$P\nARG LATER=3\nENV Y=$LATER\n";
    let env = |args: &[(&str, &str)]| {
        let plan = plan(text, &options(args), &Fake::with_base(|_| ())).unwrap();
        plan.stage.image.config.env[1..].join(" ")
    };
    assert_eq!(env(&[]), "LATER=2 X=global/default/default-global/linux/ Y=3");
    let given = [("G", "g"), ("D", "d"), ("D2", "e"), ("P", "unseen")];
    assert_eq!(env(&given), "LATER=2 X=g/d/e/linux/ Y=3");
}

fn ops(plan: &Plan) -> Vec<&Op> {
    let needed = plan.graph.reachable(plan.target);
    plan.graph.ids().filter(|id| needed[id.index()]).map(|id| &plan.graph.vertex(id).op).collect()
}

#[test]
fn remote_sources_are_vertices_of_their_own() {
    let text = "FROM base\nARG V=1\nADD https://u:p@h/a-$V.tgz?x https://h/a-$V.tgz local git://h/r#main:sub /d/\n\
                ADD --keep-git-dir --checksum=abc https://h/r.git?ref=main /r\n\
                ADD --unpack --exclude=x https://h/a-1.tgz /u/\n";
    let plan = plan(text, &options(&[]), &Fake::with_base(|_| ())).unwrap();
    let ops = ops(&plan);
    let names: Vec<_> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Http(http) => Some(format!("http {} {}", http.name, http.mtime)),
            Op::Git(git) => Some(format!("git {} {}", git.reference.subdir, git.keep_git_dir)),
            _ => None,
        })
        .collect();
    let want = ["http a-1.tgz 5", "http a-1.tgz 5", "git sub false", "git  true"];
    assert_eq!(names, want, "the same source is there once");
    let Some(Op::Copy(first)) = ops.iter().find(|op| matches!(op, Op::Copy(copy) if copy.dest == "/d/"))
    else {
        panic!("no ADD")
    };
    let inputs: Vec<_> = first
        .sources
        .iter()
        .map(|source| match source {
            CopySource::Files { input, selection, unpack } => (*input, selection.pattern.as_str(), *unpack),
            CopySource::Inline { .. } => panic!("no heredoc there"),
        })
        .collect();
    use forge_solver::op::Unpack::{IfArchive, Never};
    assert_eq!(inputs, [(1, "*", Never), (2, "*", Never), (3, "local", IfArchive), (4, "", Never)]);
    let labels = steps(&plan).join("\n");
    assert!(labels.contains("https://xxxxx@h/a-1.tgz?x") && !labels.contains("u:p"), "{labels}");
    let history = format!("{:?}", plan.stage.history);
    assert!(history.contains("ADD https://xxxxx@h/a-1.tgz?x https://h/a-1.tgz local git://h/r#main:sub /d/"));
}

#[test]
fn what_is_wrong_with_remote_sources_is_said_at_once() {
    let world = Fake::with_base(|_| ());
    let text = "FROM base\nADD https://h/missing /a\nADD https://h/missing.git /b\nADD https://h/x /c\n";
    let problems = plan(text, &options(&[]), &world).unwrap_err();
    assert_eq!(problems, ["it is not there", "there is no such repository"]);
    let only = PlanOptions { check_only: true, ..options(&[]) };
    assert!(plan(text, &only, &world).is_ok(), "checks ask nobody");
    let sum = format!("sha256:{}", "0".repeat(64));
    for (line, want) in [
        ("ADD --checksum=md5:00 https://h/x /", "digest `md5:00` does not use sha256"),
        ("ADD --checksum=zz https://h/x.git /", "expected hex commit hash, got \"zz\""),
        ("ADD --checksum=ab https://h/x.git?commit=cd /", "conflicting checksum in a git URL"),
        ("ADD --keep-git-dir=false git://h/x?keep-git-dir /", "inconsistent keep-git-dir configuration"),
        ("ADD --keep-git-dir https://h/x /", "--keep-git-dir requires a Git source"),
        ("ADD git://h/x#-u /", "invalid git reference \"-u\""),
        ("ARG P=x\nADD --checksum=$S $P /", "checksum requires HTTP(S) or Git sources"),
        ("ARG P=https://h/x\nCOPY $P /", "source can't be a URL for COPY"),
        ("ARG P=git@h:x\nCOPY $P /", "source can't be a git ref for COPY"),
    ] {
        let text = format!("FROM base\n{}\n", line.replace("$S", &sum));
        let problems = plan(&text, &options(&[]), &world).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with(want), "{line}: {problems:?}");
    }
}

#[test]
fn named_contexts_replace_images_and_stages() {
    let mut world = Fake::with_base(|config| config.config.env.push("OF=base".into()));
    let other = ImageConfig { author: "other".into(), ..ImageConfig::default() };
    world.images.insert("other", other);
    world.contexts.insert("base", Named::Image("other".into()));
    world.contexts.insert("files", Named::Directory("files".into()));
    let plan_of = |text: &str| plan(text, &options(&[]), &world);
    assert_eq!(plan_of("FROM base\n").unwrap().stage.image.author, "other");
    let replaced = plan_of("FROM missing-image AS base\nRUN never\nFROM base\nRUN this\n").unwrap();
    let labels = steps(&replaced).join("\n");
    assert!(labels.contains("RUN this") && !labels.contains("RUN never"), "{labels}");
    let from_files = plan_of("FROM files\nCOPY --from=files x /\n").unwrap();
    let ops = ops(&from_files);
    assert_eq!(ops.iter().filter(|op| matches!(op, Op::Context(c) if c.name == "files")).count(), 1);
    assert_eq!(from_files.stage.history.len(), 2, "every layer has its line");
}

#[test]
fn several_platforms_share_what_is_the_same() {
    let text = "FROM --platform=$BUILDPLATFORM scratch AS common\nCOPY a /a\n\
                FROM scratch\nARG TARGETARCH\nCOPY --from=common /a /$TARGETARCH\n";
    let parsed = forge_parser::parse(text.as_bytes()).expect("the text parses");
    let platforms: Vec<Platform> = ["amd64", "arm64"].map(|arch| Platform::new("linux", arch, None)).into();
    let world = Fake::default();
    let plans = forge_solver::plan_platforms(&parsed, &options(&[]), &platforms, &world).unwrap();
    let labels: Vec<&str> = plans[0].graph.ids().map(|id| plans[0].graph.vertex(id).label.as_str()).collect();
    let copies = |text: &str| labels.iter().filter(|label| label.contains(text)).count();
    assert_eq!(copies("COPY a /a"), 1, "{labels:?}");
    assert_eq!((copies("[linux/amd64 stage-1 "), copies("[linux/arm64 stage-1 ")), (1, 1), "{labels:?}");
    for (plan, platform) in plans.iter().zip(&platforms) {
        assert_eq!(plan.stage.image.architecture, platform.architecture);
        let target = plan.graph.vertex(plan.target);
        assert!(target.label.contains(&platform.to_string()), "{}", target.label);
    }
}
