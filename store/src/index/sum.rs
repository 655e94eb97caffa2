//! Sums over rows, so that a bit that flipped in the database is seen. SQLite itself checks its structure only.

/// The sum of a row's fields. A row of an earlier format has none and is believed.
pub fn sum(fields: &[&str]) -> i64 {
    let mut hasher = blake3::Hasher::new_derive_key("forge index row v1");
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field.as_bytes());
    }
    let (first, _) =
        hasher.finalize().as_bytes().split_first_chunk().map(|(a, b)| (*a, b.len())).expect("32 bytes");
    i64::from_le_bytes(first)
}

/// Whether the fields are those that the sum was made of.
pub fn agrees(found: Option<i64>, fields: &[&str]) -> bool {
    found.is_none_or(|found| found == sum(fields))
}

#[cfg(test)]
mod tests {
    use super::{agrees, sum};

    #[test]
    fn fields_do_not_run_into_each_other() {
        assert_ne!(sum(&["ab", "c"]), sum(&["a", "bc"]));
        assert_ne!(sum(&["a"]), sum(&["a", ""]));
        assert!(agrees(Some(sum(&["a", "b"])), &["a", "b"]) && agrees(None, &["x"]));
        assert!(!agrees(Some(sum(&["a", "b"])), &["a", "c"]));
    }
}
