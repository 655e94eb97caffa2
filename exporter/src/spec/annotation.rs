//! Annotations: `--annotation [TYPE[,TYPE…][[PLATFORM]]:]KEY=VALUE` and `-o …,annotation[-TYPE][[PLATFORM]].KEY=VALUE`.

use forge_store::Platform;

use super::words::meant;

/// One annotation, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// On what.
    pub target: AnnotationTarget,
    /// Of this platform's image only.
    pub platform: Option<Platform>,
    /// Its name.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// What an annotation is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationTarget {
    /// Images' manifests.
    Manifest,
    /// The descriptors that name them: in an index, or in a layout's `index.json`.
    ManifestDescriptor,
    /// The index of several platforms.
    Index,
    /// The descriptor that names the index, in a layout's `index.json`.
    IndexDescriptor,
}

const TARGETS: [(&str, AnnotationTarget); 4] = [
    ("manifest", AnnotationTarget::Manifest),
    ("manifest-descriptor", AnnotationTarget::ManifestDescriptor),
    ("index", AnnotationTarget::Index),
    ("index-descriptor", AnnotationTarget::IndexDescriptor),
];

impl Annotation {
    /// Reads a `--annotation` argument: one annotation for each type that it names.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let (left, value) =
            text.split_once('=').ok_or_else(|| format!("invalid annotation {text:?}, expected key=value"))?;
        let (types, key) = left.split_once(':').unwrap_or(("manifest", left));
        if key.is_empty() {
            return Err(format!("invalid annotation {text:?}: its key is empty"));
        }
        let of_type = |word: &str| {
            let (target, platform) = target(word)?;
            Ok(Self { target, platform, key: key.to_owned(), value: value.to_owned() })
        };
        types.split(',').map(|word| of_type(word.trim())).collect()
    }

    /// Reads an option of an output: `annotation[-TYPE][[PLATFORM]].KEY`.
    pub(super) fn of_option(option: &str, value: String) -> Result<Self, String> {
        let fail = || format!("`{option}` is not annotation[-TYPE][[PLATFORM]].KEY");
        let rest = option.strip_prefix("annotation").ok_or_else(fail)?;
        // A platform has no dot, a key has many.
        let (word, key) = rest.split_once('.').filter(|(_, key)| !key.is_empty()).ok_or_else(fail)?;
        let word = match word.strip_prefix('-') {
            Some(word) => word.to_owned(),
            None if word.is_empty() || word.starts_with('[') => format!("manifest{word}"),
            None => return Err(fail()),
        };
        let (target, platform) = target(&word).map_err(|why| format!("`{option}`: {why}"))?;
        Ok(Self { target, platform, key: key.to_owned(), value })
    }

    /// Whether it speaks of this platform's image.
    pub fn applies_to(&self, platform: &Platform) -> bool {
        self.platform.as_ref().is_none_or(|wanted| platform.satisfies(wanted))
    }
}

/// `TYPE` or `TYPE[PLATFORM]`.
fn target(word: &str) -> Result<(AnnotationTarget, Option<Platform>), String> {
    let (name, platform) = match word.split_once('[') {
        Some((name, rest)) => {
            let platform = rest.strip_suffix(']').ok_or_else(|| {
                format!(
                    "invalid annotation type {word:?}, expected type and optional platform in square brackets"
                )
            })?;
            (name, Some(platform.parse().map_err(|e| format!("invalid annotation type {word:?}: {e}"))?))
        }
        None => (word, None),
    };
    let target = TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target);
    let target = target.ok_or_else(|| {
        let names = TARGETS.map(|(name, _)| name);
        format!("unknown annotation type {name:?}{}; there are {}", meant(name, names), names.join(", "))
    })?;
    let of_index = matches!(target, AnnotationTarget::Index | AnnotationTarget::IndexDescriptor);
    // As BuildKit: there is one index for all platforms.
    Ok((target, platform.filter(|_| !of_index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_buildxs() {
        let read = |text: &str| -> Vec<(AnnotationTarget, Option<String>, String)> {
            let annotations = Annotation::parse(text).unwrap();
            annotations.into_iter().map(|a| (a.target, a.platform.map(|p| p.to_string()), a.key)).collect()
        };
        use AnnotationTarget::*;
        assert_eq!(read("k=v=w"), [(Manifest, None, "k".into())]);
        assert_eq!(
            read("index,manifest[linux/amd64]:k=v"),
            [(Index, None, "k".into()), (Manifest, Some("linux/amd64".into()), "k".into())]
        );
        assert_eq!(
            read("manifest-descriptor,index-descriptor:a.b/c=v").iter().map(|a| a.0).collect::<Vec<_>>(),
            [ManifestDescriptor, IndexDescriptor]
        );
        for bad in ["k", "manifests:k=v", "manifest[linux/amd64:k=v", "manifest[l/a/b/c]:k=v", ":k=v", "a:=v"]
        {
            assert!(Annotation::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_name_the_same_things() {
        let read = |option: &str| Annotation::of_option(option, "v".into());
        let one = read("annotation-manifest[linux/arm/v7].org.example.k").unwrap();
        assert_eq!(
            (one.key.as_str(), one.platform.unwrap().to_string().as_str()),
            ("org.example.k", "linux/arm/v7")
        );
        assert_eq!(read("annotation[linux/amd64].k").unwrap().target, AnnotationTarget::Manifest);
        assert_eq!(read("annotation-index-descriptor.k").unwrap().target, AnnotationTarget::IndexDescriptor);
        for bad in
            ["annotation", "annotation.", "annotations.k", "annotation-x.k", "annotation-index[linux.k"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
