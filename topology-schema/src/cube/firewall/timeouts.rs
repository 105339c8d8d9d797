//! For how long connections are remembered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Seconds;

/// For how long a connection is remembered in which nothing happens, by what it is in. TCP's states are those of RFC
/// 9293, 3.3.2; the defaults are those of Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    deny_unknown_fields,
    expecting = "a mapping of time-outs such as `{ udp: 30s }`"
)]
#[schemars(rename = "FirewallTimeouts")]
pub struct Timeouts {
    /// TCP: opened, not answered yet. Default: 120s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_syn_sent: Option<Seconds>,
    /// TCP: answered, not confirmed yet. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_syn_received: Option<Seconds>,
    /// TCP: open. Default: 432000s, which is five days (RFC 5382, REQ-5 asks for two hours and four minutes at least).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_established: Option<Seconds>,
    /// TCP: closed by one side. Default: 120s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_fin_wait: Option<Seconds>,
    /// TCP: closed by one side, which the other one has confirmed. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_close_wait: Option<Seconds>,
    /// TCP: closed by both sides, not confirmed yet. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_last_ack: Option<Seconds>,
    /// TCP: closed; late segments may still come. Default: 120s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_time_wait: Option<Seconds>,
    /// TCP: reset. Default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_close: Option<Seconds>,
    /// UDP: not answered yet. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<Seconds>,
    /// UDP: answered. Default: 120s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_stream: Option<Seconds>,
    /// ICMP and ICMPv6 requests and their answers. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Seconds>,
    /// All other protocols. Default: 600s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Seconds>,
}

impl Timeouts {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
