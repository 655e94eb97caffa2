//! `--filter` of du and prune: `FIELD`, `FIELD=VALUE`, `FIELD~=VALUE` or `FIELD!=VALUE`; all must fit.

use std::str::FromStr;

use crate::usage::{Item, Kind};

/// One filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    field: Field,
    test: Test,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Type,
    Description,
    Until,
    InUse,
    Shared,
    Private,
    Reclaimable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Is(String),
    Contains(String),
    IsNot(String),
    Holds(bool),
    UnusedFor(i64),
}

/// A filter that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// There is no such field.
    #[error(
        "invalid filter {0:?}: there is no field of that name; there are id, type, description, until, inuse, shared, private and reclaimable"
    )]
    Field(String),
    /// The field takes no such value.
    #[error("invalid filter {0:?}: {1}")]
    Value(String, &'static str),
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let wrong = |why| Err(FilterError::Value(text.to_owned(), why));
        let (name, operator, value) = split(text);
        let field = match name {
            "id" => Field::Id,
            "type" | "kind" => Field::Type,
            "description" => Field::Description,
            "until" => Field::Until,
            "inuse" => Field::InUse,
            "shared" => Field::Shared,
            "private" => Field::Private,
            "reclaimable" => Field::Reclaimable,
            _ => return Err(FilterError::Field(text.to_owned())),
        };
        let test = match (field, operator, value) {
            (Field::Until, "=", value) => match seconds(value) {
                Some(seconds) => Test::UnusedFor(seconds),
                None => return wrong("write a duration: 24h, 90m, 7d"),
            },
            (Field::Until, ..) => return wrong("write until=24h"),
            (Field::InUse | Field::Shared | Field::Private | Field::Reclaimable, operator, value) => {
                match (operator, value) {
                    ("", _) | ("=", "true" | "1") | ("!=", "false" | "0") => Test::Holds(true),
                    ("=", "false" | "0") | ("!=", "true" | "1") => Test::Holds(false),
                    _ => return wrong("it is true or false"),
                }
            }
            (Field::Type, "=" | "!=", value) if kinds(value).is_empty() => {
                return wrong(
                    "types are blob, layer, record, cache-mount, context, log, ingest, temporary, index, other",
                );
            }
            (_, "=", value) => Test::Is(value.to_owned()),
            (_, "~=", value) => Test::Contains(value.to_owned()),
            (_, "!=", value) => Test::IsNot(value.to_owned()),
            _ => return wrong("write a value behind `=`, `~=` or `!=`"),
        };
        Ok(Self { field, test })
    }
}

impl Filter {
    /// True if the thing fits.
    pub fn fits(&self, item: &Item) -> bool {
        let text = match self.field {
            Field::Id => item.id.as_str(),
            Field::Type => item.kind.name(),
            Field::Description => item.note.as_str(),
            _ => "",
        };
        let holds = match self.field {
            Field::InUse => item.in_use,
            Field::Shared => item.shared,
            Field::Private => !item.shared,
            Field::Reclaimable => item.is_reclaimable(),
            _ => false,
        };
        match &self.test {
            Test::Is(value) if self.field == Field::Type => kinds(value).contains(&item.kind),
            Test::IsNot(value) if self.field == Field::Type => !kinds(value).contains(&item.kind),
            // Ids are long: their beginning does, as everywhere.
            Test::Is(value) if self.field == Field::Id => is_id(text, value),
            Test::IsNot(value) if self.field == Field::Id => !is_id(text, value),
            Test::Is(value) => text == value,
            Test::IsNot(value) => text != value,
            Test::Contains(value) => text.contains(value.as_str()),
            Test::Holds(wanted) => holds == *wanted,
            Test::UnusedFor(seconds) => item.unused_for() >= *seconds,
        }
    }

    /// True if the filter says how long a thing must have been unused.
    pub fn is_about_age(&self) -> bool {
        self.field == Field::Until
    }
}

fn is_id(id: &str, wanted: &str) -> bool {
    let wanted = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    id == wanted || (wanted.len() >= 6 && id.starts_with(wanted))
}

/// The kinds of this name: ours, or BuildKit's.
fn kinds(name: &str) -> Vec<Kind> {
    match name {
        "regular" => vec![Kind::Layer, Kind::Record],
        "exec.cachemount" => vec![Kind::CacheMount],
        "source.local" => vec![Kind::Context],
        "internal" => vec![Kind::Log, Kind::Temporary],
        _ => Kind::ALL.into_iter().filter(|kind| kind.name() == name).collect(),
    }
}

/// Field, operator and value; the operator is empty if the field stands alone.
fn split(text: &str) -> (&str, &str, &str) {
    let Some(at) = text.find('=') else { return (text, "", "") };
    let (name, value) = (&text[..at], &text[at + 1..]);
    match name.as_bytes().last() {
        Some(b'~') => (&name[..at - 1], "~=", value),
        Some(b'!') => (&name[..at - 1], "!=", value),
        _ => (name, "=", value),
    }
}

/// A duration as Go writes it, `1h30m`, also with days; in seconds.
pub fn seconds(text: &str) -> Option<i64> {
    let mut total = 0_f64;
    let mut rest = text;
    if rest == "0" {
        return Some(0);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let factor = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * factor;
        rest = behind;
    }
    (!text.is_empty() && total.is_finite() && total < 1e12).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Item {
        Item {
            kind: Kind::Layer,
            id: "abcdef0123".into(),
            size: 1,
            used_ms: crate::index::now_ms() - 7_200_000,
            in_image: false,
            shared: true,
            in_use: false,
            records: 1,
            note: "docker.io/library/app:1".into(),
        }
    }

    #[test]
    fn filters_select() {
        for (text, fits) in [
            ("id=abcdef0123", true),
            ("id=abcdef", true),
            ("id=sha256:abcdef", true),
            ("id=abc", false),
            ("id~=f01", true),
            ("id!=abcdef0123", false),
            ("type=layer", true),
            ("type=regular", true),
            ("type=exec.cachemount", false),
            ("type!=blob", true),
            ("type~=ay", true),
            ("description~=app", true),
            ("description=app", false),
            ("until=1h", true),
            ("until=2h30m", false),
            ("until=0", true),
            ("inuse", false),
            ("inuse=false", true),
            ("inuse!=true", true),
            ("shared", true),
            ("private", false),
            ("reclaimable=1", true),
        ] {
            assert_eq!(text.parse::<Filter>().unwrap().fits(&item()), fits, "{text}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "",
            "x",
            "nothing=1",
            "until",
            "until=soon",
            "until!=1h",
            "type=lair",
            "id",
            "shared=maybe",
            "until=5",
        ] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_go_s_and_days() {
        for (text, found) in
            [("24h", 86400), ("1h30m", 5400), ("7d", 604_800), ("0", 0), ("1500ms", 1), ("0.5h", 1800)]
        {
            assert_eq!(seconds(text), Some(found), "{text}");
        }
        for text in ["", "h", "1", "1w", "-1h", "1e999h", "1 h"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
