//! Lists of rules and the tables in which data planes look packets up
//! ([`ebpf_abi::classifier`]). Pure.

pub mod host;
mod lines;
mod numbers;
pub mod oracle;
mod partition;
mod ports;
mod rule;
mod tables;
mod template;

pub use self::{
    lines::in_lines,
    numbers::RuleNumbers,
    ports::Ports,
    rule::{AddressMatch, Addresses, Family, Rule},
    tables::{room, tables},
};
