//! forge, tried from outside: the program is started as its users start it, and programs of others judge what it made.
//!
//! Every test has a directory and a store of its own, so that tests run side by side in one process or in many. Base
//! images are made on the spot; nothing comes from a registry but what a test put there.

mod support;

mod agreement;
mod ahead;
mod attacks;
mod build_arguments;
mod caching;
mod calls;
mod concurrency;
mod contexts;
mod copying;
mod crashes;
mod damage;
mod disk;
mod doctor;
mod entering;
mod errors;
mod foreign;
mod images;
mod interruption;
mod isolation;
mod judges;
mod limits;
mod loading;
mod locking;
mod matrix;
mod outputs;
mod permissions;
mod progress;
mod reasons;
mod registries;
mod registry_logins;
mod registry_settings;
mod remote_contexts;
mod residue;
mod run_mounts;
mod running;
mod sources;
mod space;
mod steps;
mod store;
mod walkthrough;
