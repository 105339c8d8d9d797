//! Packet tables: packet in; verdict, packet out and counters expected. Each row runs on TC and
//! on XDP, each time on a freshly loaded program.

mod outcome;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytemuck::{Pod, bytes_of};

use crate::{
    cube::{Cube, Globals, Kind},
    packet::Packet,
    private_net, require,
    test_run::{Gso, Hook},
};

use outcome::Exchange;
pub use outcome::{Outcome, answered, consumed, copied, dropped, handed_over, passed, sent};

/// Why a row with a packet that ends inside its IP header cannot run on TC.
pub const CUT_OFF: &str = "the kernel's test run refuses such packets on TC";

/// Something a row does.
enum Step {
    Do(Box<dyn Fn(&Cube) + Send + Sync>),
    Reload(String, Vec<u8>),
    Send(Box<Exchange>),
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
    Row {
        name,
        only: None,
        globals: Globals::new(),
        capacities: BTreeMap::new(),
        steps: Vec::new(),
    }
}

impl Row {
    /// Does not run on the other hook; `_reason` says why.
    pub fn only(self, hook: Hook, _reason: &str) -> Self {
        Self {
            only: Some(hook),
            ..self
        }
    }

    /// Loads the program with a constant.
    pub fn global<T: Pod>(mut self, name: &str, value: T) -> Self {
        self.globals
            .insert(name.to_owned(), bytes_of(&value).to_vec());
        self
    }

    /// Makes a table smaller or larger.
    pub fn capacity(mut self, map: &'static str, entries: u32) -> Self {
        self.capacities.insert(map, entries);
        self
    }

    /// From here on the program has this constant, another one than before. Tables stay as they are.
    pub fn reload<T: Pod>(mut self, name: &str, value: T) -> Self {
        let constant = bytes_of(&value).to_vec();
        self.steps.push(Step::Reload(name.to_owned(), constant));
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
    pub fn send_differs(
        mut self,
        port: u32,
        packet: &Packet,
        on_tc: Outcome,
        on_xdp: Outcome,
    ) -> Self {
        self.steps.push(Step::Send(Box::new(Exchange {
            port,
            packet: packet.clone(),
            gso: Gso::default(),
            on_tc,
            on_xdp,
        })));
        self
    }

    /// Sends a packet that stands for several segments: TC only.
    pub fn send_segments(mut self, port: u32, packet: &Packet, gso: Gso, outcome: Outcome) -> Self {
        self.only = Some(Hook::Tc);
        self.steps.push(Step::Send(Box::new(Exchange {
            port,
            packet: packet.clone(),
            gso,
            on_tc: outcome.clone(),
            on_xdp: outcome,
        })));
        self
    }
}

/// All rows of one kind of cube.
pub struct Table {
    kind: &'static str,
    globals: Globals,
    counter: Option<u32>,
    tags_outside: bool,
    setup: fn(&Cube),
    rows: Vec<Row>,
}

/// A table whose rows all begin with `setup`.
pub fn table(kind: &'static str, setup: fn(&Cube)) -> Table {
    Table {
        kind,
        globals: Globals::new(),
        counter: None,
        tags_outside: false,
        setup,
        rows: Vec::new(),
    }
}

impl Table {
    /// A constant of all rows that do not set it themselves.
    pub fn global<T: Pod>(mut self, name: &str, value: T) -> Self {
        self.globals
            .insert(name.to_owned(), bytes_of(&value).to_vec());
        self
    }

    /// A transparent cube counts here, whatever the port.
    pub fn counts_at(mut self, counter: u32) -> Self {
        self.counter = Some(counter);
        self
    }

    /// On TC: the outermost tag of packets comes outside of them, as from an interface.
    pub fn tags_outside(mut self, outside: bool) -> Self {
        self.tags_outside = outside;
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
                for hook in Hook::ALL
                    .into_iter()
                    .filter(|hook| row.only.is_none_or(|only| only == *hook))
                {
                    // The panic's message is on standard error by now, with the row's name.
                    if catch_unwind(AssertUnwindSafe(|| self.run_row(&kind, row, hook))).is_err() {
                        failed.push(format!("{} ({hook:?})", row.name));
                    }
                }
            }
            failed
        });
        println!("{}: {} rows", self.kind, self.rows.len());
        assert!(
            failed.is_empty(),
            "{} of {}: failed: {failed:#?}",
            failed.len(),
            self.kind
        );
    }

    fn run_row(&self, kind: &Kind, row: &Row, hook: Hook) {
        let mut globals = self.globals.clone();
        globals.extend(row.globals.clone());
        let mut cube = kind.load(hook, &globals, &row.capacities);
        cube.tags_outside = self.tags_outside;
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
                Step::Reload(name, constant) => {
                    globals.insert(name.clone(), constant.clone());
                    cube.reload(kind, &globals);
                }
                Step::Send(exchange) => {
                    let problems = exchange.run(&cube, self.counter);
                    assert!(problems.is_empty(), "{place}:\n{}", problems.join("\n"));
                }
            }
        }
    }
}
