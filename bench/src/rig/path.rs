//! Ways between two namespaces through a third, in which is what is measured.

use std::{cell::Cell, time::Duration};

use integration_tests::{
    command::run_with,
    lab::{Lab, Space},
    packet::{Packet, difference},
    test_run::Hook,
};

use super::{
    frames::{FAR, Frames, NEAR, RECEIVER, SENDER, mac},
    traffic::{Sender, Sink},
};

/// How long one sample takes.
const SAMPLE: Duration = Duration::from_millis(40);
/// Frames by which is found out how many fit into a sample.
const TRIAL: u32 = 4000;
/// Share of the frames that must arrive for a rate to be one of forwarding.
const ARRIVING: f64 = 0.5;

/// A sender's namespace and a receiver's, each with `eth0`, whose other end is in the middle: in the lab itself, where `pcn`
/// is, or in a namespace of its own.
pub struct Path {
    tag: String,
    own: bool,
    /// The sender's.
    pub source: Space,
    /// The receiver's.
    pub target: Space,
    /// The one between them.
    pub middle: Space,
}

impl Path {
    /// A way through the lab: its interfaces are `TAG-in` and `TAG-out`.
    pub fn through_lab(tag: &str) -> Self {
        Self::new(tag, false)
    }

    /// A way through a namespace of its own, for a peer.
    pub fn apart(tag: &str) -> Self {
        Self::new(tag, true)
    }

    fn new(tag: &str, own: bool) -> Self {
        let (source, target) = (format!("{tag}-source"), format!("{tag}-target"));
        let mut lines = format!("netns add {source}\nnetns add {target}\n");
        let middle = if own {
            format!("{tag}-middle")
        } else {
            String::new()
        };
        let mut place = String::new();
        if own {
            lines += &format!("netns add {middle}\n");
            place = format!("netns {middle}");
        }
        for (side, end, near, far) in [
            ("in", &source, NEAR, SENDER),
            ("out", &target, FAR, RECEIVER),
        ] {
            lines += &format!(
                "link add {tag}-{side} {place} address {} type veth peer name eth0 netns {end} address {}\n",
                mac(near),
                mac(far)
            );
        }
        run_with("ip -batch -", &lines).expect(0);
        let path = Self {
            source: Space::open(&source),
            target: Space::open(&target),
            middle: Space::open(&middle),
            tag: tag.to_owned(),
            own,
        };
        for (space, interface) in [
            (&path.source, "eth0".to_owned()),
            (&path.target, "eth0".to_owned()),
            (&path.middle, path.input()),
            (&path.middle, path.output()),
        ] {
            // Nothing but what is sent: no router solicitations, no multicast reports.
            let _absent = space.enter(|| {
                std::fs::write(
                    format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"),
                    "1",
                )
            });
            space.run(&format!("ip link set {interface} up")).expect(0);
        }
        for interface in [path.input(), path.output()] {
            // What arrives as a frame becomes a buffer in the receive ring; without this it is dropped.
            path.middle
                .run(&format!("ethtool -K {interface} gro on"))
                .expect(0);
        }
        path
    }

    /// Where packets come into the middle.
    pub fn input(&self) -> String {
        format!("{}-in", self.tag)
    }

    /// Where they leave it.
    pub fn output(&self) -> String {
        format!("{}-out", self.tag)
    }

    /// Runs lines of `ip -batch` in the middle.
    pub fn ip(&self, lines: &str) {
        self.middle
            .enter(|| run_with("ip -batch -", lines))
            .expect(0);
    }

    /// Lets the kernel in the middle forget the connections that it tracks.
    pub fn forget_connections(&self) {
        self.middle.run("conntrack -F").expect(0);
    }

    /// Writes a setting of the kernel in the middle; one that this kernel has not is left out.
    pub fn set(&self, name: &str, value: &str) {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        let _absent = self.middle.enter(|| std::fs::write(file, value));
    }

    /// Sends the answers to some frames, so that all on the way know both directions.
    pub fn answer(&self, frames: &Frames) {
        let back = frames.back();
        let count = back.flows.len() as u32;
        Sender::new(&self.target, "eth0", &back).send(count);
    }

    /// Ready to send and to count.
    pub fn rate(&self, frames: &Frames, sink: Hook) -> Rate {
        Rate {
            sender: Sender::new(&self.source, "eth0", frames),
            sink: Sink::new(&self.target, "eth0", sink),
            count: Cell::new(0),
        }
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let mut lines = String::new();
        if self.own {
            lines += &format!("netns delete {}\n", self.middle.name());
        } else {
            lines += &format!(
                "link delete {}\nlink delete {}\n",
                self.input(),
                self.output()
            );
        }
        lines += &format!(
            "netns delete {}\nnetns delete {}\n",
            self.source.name(),
            self.target.name()
        );
        // What is missing is gone already.
        let _gone = run_with("ip -force -batch -", &lines);
    }
}

/// Sends over a way and counts at its end.
pub struct Rate {
    sender: Sender,
    sink: Sink,
    count: Cell<u32>,
}

impl Rate {
    /// Insists on the first packet that arrives, before anything is measured.
    pub fn check(&self, expected: &Packet) {
        self.check_by(|frame| {
            if let Some(difference) = difference(&expected.bytes(), frame) {
                panic!("what arrives is another packet: {difference}");
            }
        });
    }

    /// The same by looking at it.
    pub fn check_by(&self, look: impl FnOnce(&[u8])) {
        self.sink.keep_next();
        self.sender.send(64);
        look(&self.sink.kept().expect("frames arrive"));
    }

    /// Sends each flow once, so that whatever is made for its first packet is there.
    pub fn introduce(&self, frames: &Frames) {
        self.sender.send(frames.flows.len() as u32);
    }

    /// Insists that nothing arrives, and says how many million packets a second were sent.
    pub fn dropped(&self) -> f64 {
        let count = self.fitting();
        self.sink.arrived();
        let took = self.sender.send(count);
        assert_eq!(self.sink.arrived(), 0, "what is to be dropped arrives");
        f64::from(count) / took.as_secs_f64() / 1e6
    }

    /// Frames that fit into a sample.
    fn fitting(&self) -> u32 {
        if self.count.get() == 0 {
            let trial = self.sender.send(TRIAL);
            let fits = SAMPLE.as_nanos() * u128::from(TRIAL) / trial.as_nanos().max(1);
            self.count.set(fits.clamp(1000, 10_000_000) as u32);
        }
        self.count.get()
    }

    /// Million packets a second that arrive.
    pub fn sample(&self) -> f64 {
        self.send(self.fitting())
    }

    /// Sends so many, and says how many million a second arrived.
    pub fn send(&self, count: u32) -> f64 {
        self.sink.arrived();
        let took = self.sender.send(count);
        let arrived = self.sink.arrived() as f64;
        assert!(
            arrived > ARRIVING * f64::from(count),
            "of {count} frames only {arrived} arrived"
        );
        arrived / took.as_secs_f64() / 1e6
    }
}

/// A topology of the lab with its text.
pub struct Applied<'a> {
    lab: &'a Lab,
    name: String,
}

/// Applies a topology. `body` is what is in its `spec`.
pub fn apply<'a>(lab: &'a Lab, name: &str, body: &str) -> Applied<'a> {
    lab.apply(&text(name, body));
    Applied {
        lab,
        name: name.to_owned(),
    }
}

/// The text of a topology with this `spec`.
pub fn text(name: &str, body: &str) -> String {
    format!(
        "apiVersion: pcn.dev/v1alpha1\nkind: Topology\nmetadata: {{ name: {name} }}\nspec:\n{body}"
    )
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.lab
                .pcn(&format!("destroy --yes {}", self.name))
                .expect(0);
        }
    }
}

impl Applied<'_> {
    /// The entry program on an interface.
    pub fn entry(&self, interface: &str, hook: Hook) -> std::os::fd::OwnedFd {
        let point = match hook {
            Hook::Tc => "tc-ingress",
            Hook::Xdp => "xdp",
        };
        let path = format!("{}/interfaces/{interface}/program-{point}", self.name);
        reconciler::kernel::linux::bpf::open(&self.lab.pin(&path))
            .unwrap_or_else(|error| panic!("{error}"))
    }
}
