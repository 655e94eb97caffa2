//! The registry room against registries: Debian's own, and one of ours that misbehaves on demand.

mod support;

mod credentials;
mod docker_registry;
mod downloads;
mod hostile;
mod logins;
mod mirrors;
mod pulls;
mod pushes;
mod rules;
mod rules_of_hosts;
mod segments;
mod stress;
mod tls;
mod tries;
