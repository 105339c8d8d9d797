//! Networks of many engines, in simulated time.

mod network;

mod edge;
mod legacy;
mod rapid;
mod resume;
mod tree;
