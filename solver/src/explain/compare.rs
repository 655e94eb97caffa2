//! Two builds of the same thing, step by step.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::facts::IGNORE_FILE;
use super::files::changed_files;
use super::{BuildLog, Listing, NAMED, StepLog};

/// Finds the files of a content id (in hex), where they were kept.
pub type Listings<'a> = &'a (dyn Fn(&str) -> Option<Listing> + Sync);

/// The last build, ready to be compared with.
pub struct Explainer<'a> {
    last: &'a BuildLog,
    platform: String,
    listing: Listings<'a>,
}

impl<'a> Explainer<'a> {
    /// `platform` is what is built for now.
    pub fn new(last: &'a BuildLog, platform: String, listing: Listings<'a>) -> Self {
        Self { last, platform, listing }
    }

    /// What is built for now.
    pub fn platform(&self) -> &str {
        &self.platform
    }

    /// Lets the steps of this build meet those of the last one.
    pub fn compare<'n>(&'n self, now: &'n [StepLog]) -> Comparison<'n> {
        let slots = self.last.steps.iter().map(|step| (step.slot.as_str(), step)).collect();
        let texts = numbered(&self.last.steps).collect();
        let by_slot = |(key, step): (_, &'n StepLog)| (step.slot.as_str(), key);
        let before = numbered(&self.last.steps).map(by_slot).collect();
        let own = numbered(now).map(by_slot).collect();
        let present = numbered(now).map(|(key, _)| key).collect();
        Comparison { explainer: self, slots, texts, before, own, present }
    }
}

/// Stage, text, and how many of that text stand before it.
type TextKey<'a> = (&'a str, &'a str, usize);

/// The steps that stages own, each by its text.
fn numbered(steps: &[StepLog]) -> impl Iterator<Item = (TextKey<'_>, &StepLog)> {
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    steps.iter().filter_map(move |step| {
        let (stage, text) = (step.stage()?, step.text());
        let nth = seen.entry((stage, text)).or_default();
        *nth += 1;
        Some(((stage, text, *nth), step))
    })
}

/// Two builds that meet.
pub struct Comparison<'a> {
    explainer: &'a Explainer<'a>,
    slots: HashMap<&'a str, &'a StepLog>,
    texts: HashMap<TextKey<'a>, &'a StepLog>,
    /// Texts of the last build's steps, by slot.
    before: HashMap<&'a str, TextKey<'a>>,
    /// Texts of this build's steps, by slot.
    own: HashMap<&'a str, TextKey<'a>>,
    present: HashSet<TextKey<'a>>,
}

/// What a comparison says of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There was no last build.
    Unknown,
    /// The last build had no such step.
    New,
    /// This differs.
    Changed(String),
    /// It is made of the same; whether its key is the same, too, depends on its inputs.
    Same {
        /// It is.
        same_key: bool,
    },
}

impl Comparison<'_> {
    /// What differs in a step.
    pub fn verdict(&self, now: &StepLog) -> Verdict {
        if self.explainer.last.steps.is_empty() {
            return Verdict::Unknown;
        }
        let Some(before) = self.find(now) else { return Verdict::New };
        let names: BTreeSet<&String> = before.facts.keys().chain(now.facts.keys()).collect();
        let differ = |name: &&String| before.facts.get(*name) != now.facts.get(*name);
        let differing: Vec<&String> = names.into_iter().filter(differ).collect();
        let files_changed = differing.iter().any(|name| name.starts_with("content "));
        let counts = |name: &&&String| files_changed || **name != IGNORE_FILE;
        let changes: Vec<String> =
            differing.iter().filter(counts).map(|name| self.change(name, before, now)).collect();
        match changes.is_empty() {
            true => Verdict::Same { same_key: !now.key.is_empty() && before.key == now.key },
            false => Verdict::Changed(summary(&changes)),
        }
    }

    /// The step of the last build that this one was: by its text, or by its place if that one's text is gone.
    fn find(&self, now: &StepLog) -> Option<&StepLog> {
        let at_its_place = || self.slots.get(now.slot.as_str()).copied();
        let Some(key) = self.own.get(now.slot.as_str()) else { return at_its_place() };
        if let Some(same_text) = self.texts.get(key) {
            return Some(same_text);
        }
        let stands_elsewhere =
            |slot: &str| self.before.get(slot).is_some_and(|key| self.present.contains(key));
        at_its_place().filter(|before| !stands_elsewhere(&before.slot))
    }

    fn change(&self, name: &str, before: &StepLog, now: &StepLog) -> String {
        let (old, new) = (before.facts.get(name), now.facts.get(name));
        match (name, old.map(String::as_str), new.map(String::as_str)) {
            ("digest", Some(old), Some(new)) if now.is_image() => self.image(old, new, now),
            ("digest", Some(old), Some(new)) => format!("content moved {} → {}", short(old), short(new)),
            ("commit", Some(old), Some(new)) => {
                format!("commit moved {} → {}", &old[..12.min(old.len())], &new[..12.min(new.len())])
            }
            ("pinned", ..) => "the Dockerfile pins another digest".into(),
            (IGNORE_FILE, ..) => ".dockerignore changed".into(),
            ("command" | "sources" | "script" | "flags", Some(_), Some(_)) => format!("{name} changed"),
            ("USER", Some(old), Some(new)) => {
                let user = |name: &str| if name.is_empty() { "root".to_owned() } else { shown(name) };
                format!("USER {}→{}", user(old), user(new))
            }
            (mount, Some(old), Some(new)) if mount.starts_with("mount ") => format!("mount {old} → {new}"),
            (mount, None, Some(new)) if mount.starts_with("mount ") => format!("mount {new} is new"),
            (mount, Some(old), None) if mount.starts_with("mount ") => format!("mount {old} is gone"),
            (content, Some(old), Some(new)) if content.starts_with("content ") => self.files(old, new),
            (_, Some(old), Some(new)) => format!("{name} {}→{}", shown(old), shown(new)),
            (_, None, Some(new)) => format!("{name} is new ({})", shown(new)),
            (_, Some(_), None) => format!("{name} is gone"),
            (_, None, None) => String::new(),
        }
    }

    fn image(&self, old: &str, new: &str, now: &StepLog) -> String {
        let (before, after) = (&self.explainer.last.platform, &self.explainer.platform);
        let (old, new) = (short(old), short(new));
        match now.facts.contains_key("pinned") {
            _ if before != after && !before.is_empty() => format!("platform {before}→{after}"),
            true => format!("digest {old} → {new}"),
            false => format!("tag moved {old} → {new}"),
        }
    }

    fn files(&self, old: &str, new: &str) -> String {
        match ((self.explainer.listing)(old), (self.explainer.listing)(new)) {
            (Some(old), Some(new)) => changed_files(&old, &new),
            _ => "files changed".into(),
        }
    }
}

fn summary(changes: &[String]) -> String {
    let named = changes.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    match changes.len().saturating_sub(NAMED) {
        0 => named,
        1 => format!("{named}; and one more change"),
        more => format!("{named}; and {more} more changes"),
    }
}

/// A value, cut to what a line can take.
fn shown(value: &str) -> String {
    match value.char_indices().nth(40) {
        Some((at, _)) => format!("{:?}…", &value[..at]),
        None if value.is_empty() => "\"\"".into(),
        None => value.to_owned(),
    }
}

fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::super::FileFact;
    use super::*;

    fn step(slot: &str, label: &str, facts: &[(&str, &str)]) -> StepLog {
        let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        StepLog {
            slot: slot.into(),
            label: label.into(),
            facts,
            key: format!("{label:?}"),
            ..StepLog::default()
        }
    }

    fn log(steps: Vec<StepLog>) -> BuildLog {
        BuildLog { platform: "linux/amd64".into(), steps }
    }

    fn verdicts(last: &BuildLog, now: &[StepLog]) -> Vec<Verdict> {
        verdicts_for(last, now, "linux/amd64")
    }

    fn verdicts_for(last: &BuildLog, now: &[StepLog], platform: &str) -> Vec<Verdict> {
        let listing = |id: &str| {
            let file = |path: &str| (path.to_owned(), FileFact { mode: 0o644, content: id.to_owned() });
            Some(Listing::from([file("a")]))
        };
        let explainer = Explainer::new(last, platform.into(), &listing);
        let comparison = explainer.compare(now);
        now.iter().map(|step| comparison.verdict(step)).collect()
    }

    /// What one changed fact of a step is said to be.
    fn said(old: (&str, &str), new: (&str, &str)) -> String {
        let step = |fact| step("s#1", "[1/1] RUN x", &[fact]);
        match verdicts(&log(vec![step(old)]), &[step(new)]).remove(0) {
            Verdict::Changed(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_change_is_said_in_the_words_of_a_dockerfile() {
        for (name, old, new, want) in [
            ("build-arg VERSION", "1.0", "1.1", "build-arg VERSION 1.0→1.1"),
            ("ENV A", "", "x", "ENV A \"\"→x"),
            ("USER", "", "app", "USER root→app"),
            ("network", "default", "none", "network default→none"),
            ("platform", "linux/amd64", "linux/arm64", "platform linux/amd64→linux/arm64"),
            ("command", "make", "make all", "command changed"),
            ("commit", "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "commit moved aaaaaaaaaaaa → bbbbbbbbbbbb"),
            (
                "mount 0",
                "type=bind,target=/a",
                "type=bind,target=/b",
                "mount type=bind,target=/a → type=bind,target=/b",
            ),
            ("content 1.0", "1", "2", "1 file changed: a (content)"),
        ] {
            assert_eq!(said((name, old), (name, new)), want);
        }
        assert_eq!(
            said(("mount 0", "type=tmpfs"), ("ENV A", "1")),
            "ENV A is new (1); mount type=tmpfs is gone"
        );
    }

    #[test]
    fn an_image_moves_by_its_tag_its_platform_or_by_hand() {
        let image = |digest: &str, pinned: bool| {
            let facts = [("digest", digest), ("pinned", "yes")];
            step("image x", "[1/2] FROM x", &facts[..1 + usize::from(pinned)])
        };
        let digests = ["sha256:aaaaaaaaaaaaaaaaaaa", "sha256:bbbbbbbbbbbbbbbbbbb"];
        let say = |pinned, platform| {
            verdicts_for(&log(vec![image(digests[0], pinned)]), &[image(digests[1], pinned)], platform)
                .remove(0)
        };
        let changed = |text: &str| Verdict::Changed(text.to_owned());
        assert_eq!(say(false, "linux/amd64"), changed("tag moved sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb"));
        assert_eq!(say(true, "linux/amd64"), changed("digest sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb"));
        assert_eq!(say(false, "linux/arm64"), changed("platform linux/amd64→linux/arm64"));
    }

    #[test]
    fn an_ignore_file_counts_only_with_the_files_it_hides() {
        let step = |content: &str, ignore: &str| {
            step("s#1", "[1/1] COPY . .", &[("content 1.0", content), (IGNORE_FILE, ignore)])
        };
        let last = log(vec![step("1", "x")]);
        assert_eq!(verdicts(&last, &[step("1", "y")]), [Verdict::Same { same_key: true }]);
        let changed = "1 file changed: a (content); .dockerignore changed";
        assert_eq!(verdicts(&last, &[step("2", "y")]), [Verdict::Changed(changed.into())]);
    }

    #[test]
    fn an_instruction_put_in_between_is_new_and_moves_no_other() {
        let run = |place: usize, text: &str| {
            step(&format!("s#{place}"), &format!("[{place}/9] RUN {text}"), &[("command", text)])
        };
        let last = log(vec![run(1, "a"), run(2, "b"), run(3, "b")]);
        let now = [run(1, "a"), run(2, "new"), run(3, "b"), run(4, "b")];
        let [a, new, b, again] = <[Verdict; 4]>::try_from(verdicts(&last, &now)).unwrap();
        assert_eq!(a, Verdict::Same { same_key: true });
        assert_eq!(new, Verdict::New);
        assert!(matches!((b, again), (Verdict::Same { .. }, Verdict::Same { .. })));
        let last = log(vec![run(1, "a"), run(2, "x"), run(3, "b")]);
        let edited = [run(1, "a"), run(2, "edited"), run(3, "b")];
        assert_eq!(verdicts(&last, &edited)[1], Verdict::Changed("command changed".into()));
        assert_eq!(verdicts(&BuildLog::default(), &edited), vec![Verdict::Unknown; 3]);
    }
}
