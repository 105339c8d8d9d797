//! Packet tables: packet in; verdict, packet out and counters expected. Each row runs on TC and
//! on XDP, each time on a freshly loaded program.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytemuck::{Pod, bytes_of};
use ebpf_abi::counters::{Counters, DropReason};

use crate::{
    cube::{Cube, Globals, Gso, Hook, Kind, Verdict},
    packet::Packet,
    private_net, require,
};

/// Ports (or attachments) whose counters are looked at.
const COUNTED: u32 = 20;

/// Why a row with a packet that ends inside its IP header cannot run on TC.
pub const CUT_OFF: &str = "the kernel's test run refuses such packets on TC";

/// What must become of a packet.
#[derive(Clone, Debug)]
pub struct Outcome {
    verdict: Verdict,
    /// The packet afterwards; `None` when nobody sees it.
    packet: Option<Packet>,
    /// The packet must be what it was.
    unchanged: bool,
    /// It comes in at the port it is sent to, and is counted there.
    received: bool,
    /// Where the packet itself is sent.
    port: Option<u32>,
    /// Where copies of what came in are sent; the length of each, if it is not that of what
    /// came in.
    copies: Vec<u32>,
    dropped: Option<DropReason>,
    /// At which port it enters the next cube.
    next_port: Option<u32>,
}

const NOTHING: Outcome = Outcome {
    verdict: Verdict::Drop,
    packet: None,
    unchanged: false,
    received: true,
    port: None,
    copies: Vec::new(),
    dropped: None,
    next_port: None,
};

/// It leaves through `port`, as `packet`.
pub fn sent(port: u32, packet: &Packet) -> Outcome {
    Outcome { verdict: Verdict::Redirect, packet: Some(packet.clone()), port: Some(port), ..NOTHING }
}

/// It leaves through `port`, which leads to a program, enters the cube behind at `next`, and
/// passes.
pub fn passed(port: u32, next: u32, packet: &Packet) -> Outcome {
    Outcome { verdict: Verdict::Pass, next_port: Some(next), ..sent(port, packet) }
}

/// It is dropped and counted.
pub fn dropped(reason: DropReason) -> Outcome {
    Outcome { dropped: Some(reason), ..NOTHING }
}

/// It is dropped and counted, and in its place `packet` leaves through `port`.
pub fn answered(reason: DropReason, port: u32, packet: &Packet) -> Outcome {
    Outcome { dropped: Some(reason), ..sent(port, packet) }
}

/// It ends here, as it should.
pub fn consumed() -> Outcome {
    NOTHING
}

/// It ends here, and a copy of it leaves through each of `ports`.
pub fn copied(ports: &[u32]) -> Outcome {
    Outcome { copies: ports.to_vec(), ..NOTHING }
}

/// It is brought to TC as it is, and not counted yet.
pub fn handed_over() -> Outcome {
    Outcome { verdict: Verdict::Redirect, unchanged: true, received: false, ..NOTHING }
}

impl Outcome {
    /// Besides, a copy leaves through each of `ports`.
    pub fn and_copies(self, ports: &[u32]) -> Self {
        Self { copies: ports.to_vec(), ..self }
    }
}

/// Something a row does.
enum Step {
    Do(Box<dyn Fn(&Cube) + Send + Sync>),
    Packet { port: u32, packet: Packet, gso: Gso, on_tc: Outcome, on_xdp: Outcome },
}

/// One row.
pub struct Row {
    name: &'static str,
    only: Option<Hook>,
    globals: Globals,
    capacities: BTreeMap<&'static str, u32>,
    steps: Vec<Step>,
}

/// A row; what follows happens in the order in which it is written.
pub fn row(name: &'static str) -> Row {
    Row { name, only: None, globals: Globals::new(), capacities: BTreeMap::new(), steps: Vec::new() }
}

impl Row {
    /// Does not run on the other hook; `_reason` says why.
    pub fn only(self, hook: Hook, _reason: &str) -> Self {
        Self { only: Some(hook), ..self }
    }

    /// Loads the program with a constant.
    pub fn global<T: Pod>(mut self, name: &str, value: T) -> Self {
        self.globals.insert(name.to_owned(), bytes_of(&value).to_vec());
        self
    }

    /// Makes a table smaller or larger.
    pub fn capacity(mut self, map: &'static str, entries: u32) -> Self {
        self.capacities.insert(map, entries);
        self
    }

    /// Prepares tables.
    pub fn with(mut self, prepare: impl Fn(&Cube) + Send + Sync + 'static) -> Self {
        self.steps.push(Step::Do(Box::new(prepare)));
        self
    }

    /// Looks at tables.
    pub fn then(self, check: impl Fn(&Cube) + Send + Sync + 'static) -> Self {
        self.with(check)
    }

    /// Sends a packet into `port`.
    pub fn send(self, port: u32, packet: &Packet, outcome: Outcome) -> Self {
        self.send_differs(port, packet, outcome.clone(), outcome)
    }

    /// Sends a packet that fares differently on TC and on XDP.
    pub fn send_differs(mut self, port: u32, packet: &Packet, on_tc: Outcome, on_xdp: Outcome) -> Self {
        self.steps.push(Step::Packet { port, packet: packet.clone(), gso: Gso::default(), on_tc, on_xdp });
        self
    }

    /// Sends a packet that stands for several segments: TC only.
    pub fn send_segments(mut self, port: u32, packet: &Packet, gso: Gso, outcome: Outcome) -> Self {
        self.only = Some(Hook::Tc);
        self.steps.push(Step::Packet { port, packet: packet.clone(), gso, on_tc: outcome.clone(), on_xdp: outcome });
        self
    }
}

/// All rows of one kind of cube.
pub struct Table {
    kind: &'static str,
    globals: Globals,
    counter: Option<u32>,
    setup: fn(&Cube),
    rows: Vec<Row>,
}

/// A table whose rows all begin with `setup`.
pub fn table(kind: &'static str, setup: fn(&Cube)) -> Table {
    Table { kind, globals: Globals::new(), counter: None, setup, rows: Vec::new() }
}

impl Table {
    /// A constant of all rows that do not set it themselves.
    pub fn global<T: Pod>(mut self, name: &str, value: T) -> Self {
        self.globals.insert(name.to_owned(), bytes_of(&value).to_vec());
        self
    }

    /// A transparent cube counts here, whatever the port.
    pub fn counts_at(mut self, counter: u32) -> Self {
        self.counter = Some(counter);
        self
    }

    /// Adds rows.
    pub fn rows(mut self, rows: impl IntoIterator<Item = Row>) -> Self {
        self.rows.extend(rows);
        self
    }

    /// Runs all rows and fails if one does.
    pub fn run(self) {
        if !require::root() {
            return;
        }
        let failed = private_net::run(|_| {
            let kind = Kind::parse(self.kind);
            let mut failed = Vec::new();
            for row in &self.rows {
                for hook in Hook::ALL.into_iter().filter(|hook| row.only.is_none_or(|only| only == *hook)) {
                    // The panic's message is on standard error by now, with the row's name.
                    if catch_unwind(AssertUnwindSafe(|| self.run_row(&kind, row, hook))).is_err() {
                        failed.push(format!("{} ({hook:?})", row.name));
                    }
                }
            }
            failed
        });
        println!("{}: {} rows", self.kind, self.rows.len());
        assert!(failed.is_empty(), "{} of {}: failed: {failed:#?}", failed.len(), self.kind);
    }

    fn run_row(&self, kind: &Kind, row: &Row, hook: Hook) {
        let mut globals = self.globals.clone();
        globals.extend(row.globals.clone());
        let cube = kind.load(hook, &globals, &row.capacities);
        (self.setup)(&cube);
        for (number, step) in row.steps.iter().enumerate() {
            let place = format!("{}: {:?} on {hook:?}, step {number}", self.kind, row.name);
            match step {
                Step::Do(action) => {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| action(&cube))) {
                        eprintln!("{place}: panicked as above");
                        std::panic::resume_unwind(panic);
                    }
                }
                Step::Packet { port, packet, gso, on_tc, on_xdp } => {
                    let outcome = if hook == Hook::Tc { on_tc } else { on_xdp };
                    let problems = exchange(&cube, self.counter.unwrap_or(*port), *port, packet, *gso, outcome);
                    assert!(problems.is_empty(), "{place}:\n{}", problems.join("\n"));
                }
            }
        }
    }
}

/// Sends one packet and lists what is not as expected.
fn exchange(cube: &Cube, counter: u32, port: u32, packet: &Packet, gso: Gso, outcome: &Outcome) -> Vec<String> {
    let bytes = packet.bytes();
    let before = cube.counters(COUNTED);
    let run = cube.run(port, &bytes, gso);
    let after = cube.counters(COUNTED);
    let mut problems = Vec::new();
    if run.verdict != outcome.verdict {
        problems.push(format!("verdict {:?}, expected {:?}", run.verdict, outcome.verdict));
    }
    if let Some(difference) = outcome.packet.as_ref().and_then(|expected| expected.compare(&run.packet)) {
        problems.push(difference);
    }
    if outcome.unchanged && let Some(difference) = packet.compare(&run.packet) {
        problems.push(difference);
    }
    if let Some(next) = outcome.next_port && next != run.port {
        problems.push(format!("enters the next cube at port {}, expected {next}", run.port));
    }
    let segments = u64::from(gso.segments.max(1));
    let expected = counted(outcome, counter, bytes.len() as u64, segments, run.packet.len() as u64);
    for index in 0..COUNTED {
        let (was, is) = (&before[index as usize], &after[index as usize]);
        let expected = expected.get(&index).copied().unwrap_or_default();
        compare_counters(&mut problems, index, was, is, &expected);
    }
    problems
}

/// What the packet must add to the counters.
fn counted(outcome: &Outcome, counter: u32, length: u64, segments: u64, sent_length: u64) -> BTreeMap<u32, Counters> {
    let mut counters = BTreeMap::<u32, Counters>::new();
    let input = counters.entry(counter).or_default();
    if outcome.received {
        (input.rx_packets, input.rx_bytes) = (segments, length);
    }
    if let Some(reason) = outcome.dropped {
        input.drops[reason as usize] = segments;
    }
    // What answers a packet of several segments is one packet.
    let sent = outcome.port.map(|port| (port, if outcome.dropped.is_some() { 1 } else { segments }, sent_length));
    let copies = outcome.copies.iter().map(|port| (*port, segments, length));
    for (port, packets, bytes) in sent.into_iter().chain(copies) {
        let output = counters.entry(port).or_default();
        output.tx_packets += packets;
        output.tx_bytes += bytes;
    }
    counters
}

fn compare_counters(problems: &mut Vec<String>, index: u32, was: &Counters, is: &Counters, expected: &Counters) {
    let mut compare = |what: &str, was: u64, is: u64, expected: u64| {
        let added = is.wrapping_sub(was) as i64;
        if added != expected as i64 {
            problems.push(format!("counters {index}: {what} +{added}, expected +{expected}"));
        }
    };
    compare("rx packets", was.rx_packets, is.rx_packets, expected.rx_packets);
    compare("rx bytes", was.rx_bytes, is.rx_bytes, expected.rx_bytes);
    compare("tx packets", was.tx_packets, is.tx_packets, expected.tx_packets);
    compare("tx bytes", was.tx_bytes, is.tx_bytes, expected.tx_bytes);
    for reason in DropReason::ALL {
        let at = *reason as usize;
        compare(reason.name(), was.drops[at], is.drops[at], expected.drops[at]);
    }
}
