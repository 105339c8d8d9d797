//! The topology language of `pcn`: types, parsing, validation, diagnostics and JSON Schema.
//!
//! [`parse`] takes YAML to a [`Topology`], which is right in its structure; [`validate`] takes that to a
//! [`ValidTopology`], which holds all the rules; [`load`] is both at once. Problems are [`Diagnostics`]: all of them,
//! each with its place. Nothing here reads files, knows eBPF or talks to a kernel.
//!
//! ```
//! use topology_schema::{CubeKind, Source, load};
//!
//! let text = r#"
//! apiVersion: pcn.dev/v1alpha1
//! kind: Topology
//! metadata: { name: gateway }
//! spec:
//!   namespaces:
//!     h1:
//!       interfaces:
//!         eth0:
//!           addresses: [10.0.1.1/24, "fd00:1::1/64"]
//!           routes: [{ to: default, via: 10.0.1.254 }]
//!   interfaces:
//!     eth1: { hook: xdp, through: [shield] }
//!   cubes:
//!     br1: { bridge: { agingTime: 5m } }
//!     r1:
//!       router:
//!         ports:
//!           lan: { addresses: [10.0.1.254/24, "fd00:1::254/64"] }
//!           wan: { addresses: [203.0.113.2/24] }
//!         routes: [{ to: default, via: 203.0.113.1 }]
//!     shield: { ddosMitigator: { sources: [198.51.100.0/24] } }
//!   links:
//!     - [br1:h1, h1/eth0]
//!     - [br1:up, r1:lan]
//!     - [r1:wan, eth1]
//! "#;
//! let source = Source { name: "gateway.yaml".to_owned(), text: text.to_owned() };
//! let (topology, warnings) = load(&source).map_err(|problems| problems.render(&source)).unwrap();
//! assert!(warnings.is_empty());
//! assert_eq!(topology.spec.cubes["r1"].kind(), CubeKind::Router);
//! assert_eq!(topology.spec.links.len(), 3);
//! ```

#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod addr;
mod address_range;
pub mod check;
pub mod cube;
mod decode;
mod diagnostic;
mod document;
mod endpoint;
mod instance;
mod json_schema;
mod name;
mod parse;
mod path;
mod port;
mod quantity;
mod sketch;
mod suggest;
mod text;
mod topology;
mod validate;
mod vlan;
mod yaml;

pub use addr::{InterfaceAddress, MacAddr, Prefix, RouteTarget};
pub use address_range::AddressRange;
pub use check::{Check, HttpStatus, HttpUrl, MAX_CHECKS, Probe};
pub use cube::{Cube, CubeKind, MAX_PORTS};
pub use diagnostic::{Diagnostic, Diagnostics, Location, Severity, Source};
pub use document::{MAX_ALIASES, MAX_BYTES, MAX_DEPTH, MAX_VALUES};
pub use endpoint::Endpoint;
pub use instance::Instance;
pub use json_schema::json_schema;
pub use name::{InterfaceName, MAX_INTERFACE_NAME_LENGTH, MAX_NAME_LENGTH, Name};
pub use parse::{Locations, parse, parse_located};
pub use path::{Path, Segment};
pub use port::PortRange;
pub use quantity::{Bounded, Mtu, PacketRate, Seconds};
pub use sketch::{Sketch, sketch};
pub use text::{ValueCode, ValueError};
pub use topology::{
    ApiVersion, Drift, Hook, Interface, Kind, Link, Metadata, Namespace, NamespaceInterface,
    NamespaceRoute, Spec, Topology,
};
pub use validate::{ValidTopology, load, validate};
pub use vlan::{VlanId, VlanRange, VlanSet};
pub use yaml::to_yaml;
