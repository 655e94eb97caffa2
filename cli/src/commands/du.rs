//! `forge du`: what the store holds, what each thing costs on disk, and what could go.

use forge_store::usage::{Item, Kind, Sum};
use serde_json::{Value, json};

use super::{Session, print};
use crate::disk_flags::{Du, DuFormat, filters};
use crate::failure::Failure;
use crate::progress::for_terminal;
use crate::size::{ago, human};

/// Shows what takes space.
pub fn du(session: &Session, args: &Du) -> Result<(), Failure> {
    let filters = filters(&args.filters)?;
    let mut items = session.store()?.disk_usage()?;
    items.retain(|item| filters.iter().all(|filter| filter.fits(item)));
    items.sort_by(|a, b| (a.kind, b.size, &a.id).cmp(&(b.kind, a.size, &b.id)));
    match args.format {
        DuFormat::Json => print(&format!("{:#}", document(&items))),
        DuFormat::Table => {
            match args.verbose {
                true => items.iter().try_for_each(|item| print(&paragraph(item)))?,
                // Records say nothing that their layers do not, and there are two for each step.
                false => {
                    table(items.iter().filter(|item| item.kind != Kind::Record || !args.filters.is_empty()))?
                }
            }
            totals(&items)
        }
    }
}

/// Things as rows, also for `prune --dry-run`.
pub fn table<'a>(items: impl Iterator<Item = &'a Item>) -> Result<(), Failure> {
    print(&format!(
        "{:14} {:12} {:12} {:>8}  {:7} {:16} DESCRIPTION",
        "ID", "KIND", "RECLAIMABLE", "SIZE", "SHARED", "LAST USED"
    ))?;
    for item in items {
        let (id, note) = (short(&item.id), for_terminal(&item.note));
        let line = format!(
            "{id:14} {:12} {:12} {:>8}  {:7} {:16} {note}",
            item.kind,
            item.is_reclaimable(),
            human(item.size),
            item.shared,
            ago(item.unused_for()),
        );
        print(line.trim_end())?;
    }
    Ok(())
}

/// Long names by their beginning, which filters take.
fn short(id: &str) -> &str {
    match id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => &id[..12],
        false => id,
    }
}

fn paragraph(item: &Item) -> String {
    format!(
        "ID:\t\t{}\nKind:\t\t{}\nReclaimable:\t{}\nShared:\t\t{}\nIn use:\t\t{}\nIn an image:\t{}\nRecords:\t{}\nSize:\t\t{}\nLast used:\t{}\nDescription:\t{}\n",
        item.id,
        item.kind,
        item.is_reclaimable(),
        item.shared,
        item.in_use,
        item.in_image,
        item.records,
        human(item.size),
        ago(item.unused_for()),
        for_terminal(&item.note),
    )
}

fn totals(items: &[Item]) -> Result<(), Failure> {
    print(&format!(
        "\n{:12} {:>7} {:>9} {:>9} {:>12} {:>9}",
        "KIND", "COUNT", "SHARED", "UNIQUE", "RECLAIMABLE", "TOTAL"
    ))?;
    let line = |name: &str, sum: &Sum| {
        print(&format!(
            "{name:12} {:>7} {:>9} {:>9} {:>12} {:>9}",
            sum.count,
            human(sum.shared),
            human(sum.unique),
            human(sum.reclaimable),
            human(sum.total)
        ))
    };
    for kind in Kind::ALL {
        let sum = of_kind(items, kind);
        if sum.count > 0 {
            line(kind.name(), &sum)?;
        }
    }
    line("total", &Sum::of(items))
}

fn of_kind(items: &[Item], kind: Kind) -> Sum {
    Sum::of(items.iter().filter(|item| item.kind == kind))
}

fn document(items: &[Item]) -> Value {
    let item = |item: &Item| {
        json!({
            "id": item.id,
            "kind": item.kind.name(),
            "size": item.size,
            "shared": item.shared,
            "reclaimable": item.is_reclaimable(),
            "inUse": item.in_use,
            "inImage": item.in_image,
            "records": item.records,
            "lastUsed": item.used_ms / 1000,
            "description": item.note,
        })
    };
    let sum = |sum: Sum| {
        json!({
            "count": sum.count,
            "shared": sum.shared,
            "unique": sum.unique,
            "reclaimable": sum.reclaimable,
            "total": sum.total,
        })
    };
    let kinds: serde_json::Map<String, Value> =
        Kind::ALL.iter().map(|kind| (kind.name().to_owned(), sum(of_kind(items, *kind)))).collect();
    json!({
        "items": items.iter().map(item).collect::<Vec<_>>(),
        "kinds": kinds,
        "total": sum(Sum::of(items)),
    })
}
