//! From a valid topology to running programs.
//!
//! The way of a topology, one stage a module: [`graph`] -> [`desired`] ; [`kernel`] -> observed ;
//! both -> [`plan`] -> [`execute`] -> report. Everything is pure and synchronous but what goes
//! through the [`kernel::Kernel`] trait.

pub mod address;
pub mod allocation;
mod announce;
pub mod change;
pub mod checks;
pub mod classify;
pub mod cli;
pub mod commit;
pub mod cube;
pub mod desired;
mod digest;
pub mod down;
pub mod drift;
pub mod dynamic;
pub mod execute;
pub mod facts;
pub mod graph;
pub mod interrupt;
pub mod journal;
pub mod kernel;
mod lowered;
pub mod metrics;
pub mod objects;
pub mod observed;
mod parallel;
pub mod plan;
pub mod reconcile;
pub mod record;
pub mod reports;
pub mod resource;
mod restore;
pub mod rows;
pub mod saved_plan;
mod sketch;
pub mod status;
pub mod stp;
mod template;
mod topology_text;
pub mod watch;
mod wiring;
mod worker;
