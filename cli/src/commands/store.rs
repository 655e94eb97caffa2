//! `forge store`: looking after the store itself.

use forge_store::recover::Recovered;
use forge_store::verify::Verified;

use super::{Session, print};
use crate::disk_flags::{StoreArgs, StoreCommand};
use crate::failure::{Failure, Kind};
use crate::progress::say;

/// Carries out a subcommand.
pub fn store(session: &Session, args: &StoreArgs) -> Result<(), Failure> {
    match args.command {
        StoreCommand::Verify { repair } => verify(session, repair),
    }
}

/// Says what is damaged; an error if anything is and stays so.
fn verify(session: &Session, repair: bool) -> Result<(), Failure> {
    let found = session.store_as_it_is()?.verify(repair)?;
    let Verified { blobs, layers, unknown_layers, records, damage, incomplete } = &found;
    for damage in damage {
        let what = if repair { "dropped" } else { "damaged" };
        print(&format!("{what}: {} {}: {}", damage.kind, damage.id, damage.detail))?;
    }
    for (name, digest) in incomplete {
        print(&format!("incomplete: image {name}: it lacks blob {digest}; pull or build it again"))?;
    }
    print(&format!("verified {blobs} blobs, {layers} layers, {records} records: {} damaged", damage.len()))?;
    if *unknown_layers > 0 {
        print(&format!(
            "{unknown_layers} layers could not be compared with anything: their blobs are not here"
        ))?;
    }
    let is_well = incomplete.is_empty() && (repair || damage.is_empty());
    match is_well {
        true => Ok(()),
        false if repair => Err(Failure::silent(Kind::Corrupt)),
        false => Err(Failure::new(
            Kind::Corrupt,
            "the store is damaged",
            Some(
                "`forge store verify --repair` drops what is damaged, so that it is made or fetched anew"
                    .into(),
            ),
        )),
    }
}

/// Says that the index was made anew, and of what.
pub fn say_recovered(recovered: &Recovered) {
    let Recovered { tags, blobs, damaged_blobs, layers, records } = recovered;
    say(&format!(
        "warning: the store's index was damaged and was made anew from what is on disk: \
         {tags} names of images, {blobs} blobs, {layers} layers, {records} cache records; {damaged_blobs} blobs were \
         damaged themselves and are gone; what was not found again is built or fetched when it is needed"
    ));
}
