//! `forge images`: what the store has names for.

use forge_registry::Reference;
use forge_store::image::ImageConfig;
use forge_store::tags::Tag;
use forge_store::{Manifest, Store, media_type};

use super::{Session, print};
use crate::args::Images;
use crate::failure::Failure;
use crate::local::document;

/// Lists images.
pub fn images(session: &Session, args: &Images) -> Result<(), Failure> {
    let store = session.store()?;
    let tags = store.tags().list()?;
    if args.quiet {
        let mut digests: Vec<String> = tags.iter().map(|tag| tag.descriptor.digest.to_string()).collect();
        digests.sort();
        digests.dedup();
        return digests.iter().try_for_each(|digest| print(digest));
    }
    let rows: Vec<Row> = tags.iter().map(|tag| Row::of(&store, tag)).collect();
    if args.json {
        return rows.iter().try_for_each(|row| print(&row.json().to_string()));
    }
    let width = |column: fn(&Row) -> &str, title: &str| {
        rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0).max(title.len())
    };
    let (name, tag) = (width(|row| &row.repository, "REPOSITORY"), width(|row| &row.tag, "TAG"));
    print(&format!("{:name$}   {:tag$}   {:19}   {:20}   SIZE", "REPOSITORY", "TAG", "DIGEST", "CREATED"))?;
    rows.iter().try_for_each(|row| {
        let Row { repository, tag: own_tag, digest, created, size } = row;
        print(&format!(
            "{repository:name$}   {own_tag:tag$}   {:19}   {created:20}   {}",
            &digest[..19],
            megabytes(*size)
        ))
    })
}

struct Row {
    repository: String,
    tag: String,
    digest: String,
    created: String,
    size: u64,
}

impl Row {
    fn of(store: &Store, tag: &Tag) -> Self {
        let (repository, own_tag) = match tag.name.parse::<Reference>() {
            Ok(name) => (name.repository().familiar(), name.tag().unwrap_or("<none>").to_owned()),
            Err(_) => (tag.name.clone(), String::new()),
        };
        let (created, size) = facts(store, tag).unwrap_or(("<incomplete>".into(), 0));
        Self { repository, tag: own_tag, digest: tag.descriptor.digest.to_string(), created, size }
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "Repository": self.repository,
            "Tag": self.tag,
            "Digest": self.digest,
            "CreatedAt": self.created,
            "Size": self.size,
        })
    }
}

/// When the image was made, and the bytes of its packed layers.
fn facts(store: &Store, tag: &Tag) -> Option<(String, u64)> {
    if media_type::is_index(&tag.descriptor.media_type) {
        return Some(("<index>".into(), tag.descriptor.size));
    }
    let manifest: Manifest = document(store, &tag.descriptor).ok()?;
    let config: ImageConfig = document(store, &manifest.config).ok()?;
    let created = config.created.unwrap_or_default();
    let created = created.split('.').next().unwrap_or_default().trim_end_matches('Z');
    Some((format!("{created}Z"), manifest.layers.iter().map(|layer| layer.size).sum()))
}

fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes}B"),
        1_000..1_000_000 => format!("{:.1}kB", bytes as f64 / 1e3),
        _ => format!("{:.1}MB", bytes as f64 / 1e6),
    }
}
