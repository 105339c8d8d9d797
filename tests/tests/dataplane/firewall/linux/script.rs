//! What hosts send to each other, by chance: mostly what hosts do send, lost, doubled, swapped, and with
//! what none would send in between.

use integration_tests::packet::*;

use super::{super::*, Event, Segment};

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;

/// What of TCP is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Flags only.
    Flags,
    /// Windows as well.
    Windows,
}

impl Mode {
    /// Settings of the firewall for it.
    pub(super) fn settings(self) -> &'static str {
        match self {
            Self::Flags => "",
            Self::Windows => "tcpWindowCheck: true, ",
        }
    }

    /// Settings of Linux for it.
    pub(super) fn sysctls(self) -> &'static str {
        match self {
            Self::Flags => {
                "net.netfilter.nf_conntrack_tcp_be_liberal=1 net.netfilter.nf_conntrack_tcp_ignore_invalid_rst=1"
            }
            Self::Windows => {
                "net.netfilter.nf_conntrack_tcp_be_liberal=0 net.netfilter.nf_conntrack_tcp_ignore_invalid_rst=0"
            }
        }
    }
}

/// Numbers that follow from a seed (Steele et al., SplitMix, OOPSLA 2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Far apart, so that no two of them have numbers in common.
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True in so many of a hundred cases.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Two hosts: where they are, and what they talk about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Talk {
    pub(super) v6: bool,
    /// The client is inside.
    pub(super) inside: bool,
    /// Port of the client, or identifier of queries.
    pub(super) port: u16,
}

/// Port of servers.
const SERVER: u16 = 80;

impl Talk {
    /// What a side sends; the client's is the first one.
    pub(super) fn event(self, client: bool, upper: impl Into<Layer>, says: String) -> Event {
        let packet = self.packet(client, upper);
        Event {
            direction: self.direction(client),
            frames: vec![packet.bytes()],
            says: format!(
                "port {} {} {says}",
                self.port,
                if client { ">" } else { "<" }
            ),
            port: self.port,
            segment: None,
        }
    }

    pub(super) fn direction(self, client: bool) -> Direction {
        match client == self.inside {
            true => Direction::Egress,
            false => Direction::Ingress,
        }
    }

    pub(super) fn packet(self, client: bool, upper: impl Into<Layer>) -> Packet {
        match (self.v6, client == self.inside) {
            (false, true) => from_b(upper),
            (false, false) => from_a(upper),
            (true, true) => from_b6(upper),
            (true, false) => from_a6(upper),
        }
    }

    fn ports(self, client: bool) -> (u16, u16) {
        match client {
            true => (self.port, SERVER),
            false => (SERVER, self.port),
        }
    }

    fn datagram(self, client: bool) -> Udp {
        let (source, destination) = self.ports(client);
        udp(source, destination)
    }

    fn query(self, client: bool) -> Icmp {
        match (self.v6, client) {
            (false, true) => echo(self.port, 1),
            (false, false) => echo_reply(self.port, 1),
            (true, true) => echo_v6(self.port, 1),
            (true, false) => echo_reply_v6(self.port, 1),
        }
    }

    /// An error about a packet: goes to the side that sent it, or astray.
    fn error(self, random: &mut Random, about: &Packet, of_client: bool) -> Event {
        let (v4, v6) = (
            [(3, 1), (3, 3), (3, 4), (11, 0), (12, 0)],
            [(1, 0), (1, 4), (2, 0), (3, 0), (4, 0)],
        );
        let (kind, code) = random.pick(if self.v6 { &v6 } else { &v4 });
        let make = if self.v6 { icmpv6 } else { icmp };
        let quoted = random.pick(&[28u64, 48, 64, 100]) as usize;
        let quoted = if self.v6 { quoted.max(48) } else { quoted };
        let packet = self.packet(!of_client, make(kind, code, 1280)) / about.quotation(quoted);
        Event {
            direction: self.direction(!of_client),
            frames: vec![packet.bytes()],
            port: self.port,
            segment: None,
            says: format!(
                "error {kind}/{code} about a packet of the {}",
                if of_client { "client" } else { "server" }
            ),
        }
    }
}

/// A TCP connection as its ends see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) talk: Talk,
    /// Numbers and options are those that honest hosts use.
    pub(super) is_exact: bool,
    /// The next sequence number of the client and of the server.
    next: [u32; 2],
    /// What the other side has acknowledged of it.
    acked: [u32; 2],
    /// The number of the last SYN of each.
    first: [u32; 2],
}

impl Ends {
    pub(super) fn new(talk: Talk, mode: Mode, random: &mut Random) -> Self {
        let numbers = [random.next() as u32, random.next() as u32];
        Self {
            talk,
            is_exact: mode == Mode::Flags,
            next: numbers,
            acked: numbers,
            first: numbers,
        }
    }

    /// The next segment of a side, as it would send it.
    pub(super) fn send(
        &mut self,
        client: bool,
        flags: u8,
        length: u32,
        random: &mut Random,
    ) -> Event {
        let (side, other) = if client { (0, 1) } else { (1, 0) };
        if flags & (SYN | ACK) == SYN {
            // A new beginning: with numbers of its own.
            self.next[side] = self.next[side].wrapping_add(70_000 + random.below(1 << 30) as u32);
        }
        let is_again = self.first[side].wrapping_add(1) == self.next[side];
        let sequence = match flags & (RST | SYN | ACK) {
            // The SYN once more, now with an answer.
            kind if kind == SYN | ACK && is_again => self.first[side],
            kind if kind & RST == 0 => self.next[side],
            _ => self.acked[side],
        };
        if flags & SYN != 0 {
            self.first[side] = sequence;
        }
        let acknowledgment = if flags & ACK == 0 {
            0
        } else {
            self.next[other]
        };
        if flags & RST == 0 {
            let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
            self.next[side] = sequence.wrapping_add(length + controls);
            if flags & ACK != 0 {
                self.acked[other] = acknowledgment;
            }
        }
        self.segment(client, flags, (sequence, acknowledgment), length, random)
    }

    /// A segment with these numbers. With windows, some are other ones than they should be.
    pub(super) fn segment(
        &self,
        client: bool,
        flags: u8,
        (sequence, acknowledgment): (u32, u32),
        length: u32,
        random: &mut Random,
    ) -> Event {
        let (source, destination) = self.talk.ports(client);
        let mut header = tcp(source, destination).flags(flags);
        let (mut sequence, mut acknowledgment) = (sequence, acknowledgment);
        let mut more = String::new();
        if !self.is_exact {
            sequence = stray(sequence, random);
            acknowledgment = stray(acknowledgment, random);
            let window = random.pick(&[0, 1000, 16384, 65535]);
            let options = options(flags, acknowledgment, random);
            more = format!(", window {window}, options {options:?}");
            header = header.window(window).options(&options);
        }
        let header = header.sequence(sequence).acknowledgment(acknowledgment);
        let says = format!(
            "{} {sequence} of {length}, acknowledges {acknowledgment}{more}",
            names(flags),
        );
        let packet = self.talk.packet(client, header) / payload(length as usize);
        Event {
            frames: vec![packet.bytes()],
            segment: Some(Segment {
                by_client: client,
                flags,
            }),
            ..self.talk.event(client, payload(0), says)
        }
    }
}

/// A sequence number, or one that is near it, or not.
fn stray(number: u32, random: &mut Random) -> u32 {
    let far = random.next() as u32;
    let difference = match random.below(40) {
        0 => 1,
        1 => u32::MAX,
        2 => random.below(3000) as u32,
        3 => 0u32.wrapping_sub(random.below(3000) as u32),
        4 => random.below(200_000) as u32,
        5 => 0u32.wrapping_sub(random.below(200_000) as u32),
        6 => far,
        _ => 0,
    };
    number.wrapping_add(difference)
}

/// Options of a segment: a SYN has some always.
fn options(flags: u8, acknowledgment: u32, random: &mut Random) -> Vec<u8> {
    let mut options = Vec::new();
    if flags & SYN != 0 {
        options.extend([2, 4, 5, 0xb4]);
        if random.chance(70) {
            options.extend([1, 3, 3, random.below(17) as u8]);
        }
        if random.chance(70) {
            options.extend([4, 2]);
        }
    } else if random.chance(30) {
        options.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    }
    if flags & SYN == 0 && random.chance(20) {
        let blocks = 1 + random.below(2);
        options.extend([1, 1, 5, 2 + 8 * blocks as u8]);
        for _ in 0..blocks {
            let edge = acknowledgment.wrapping_add(random.below(1200) as u32);
            options.extend(edge.wrapping_sub(100).to_be_bytes());
            options.extend(edge.to_be_bytes());
        }
    }
    // What contradicts itself.
    if random.chance(5) {
        options.extend(random.pick(&[[5, 200], [3, 1], [8, 0], [0, 3]]));
    }
    options.resize(options.len().next_multiple_of(4), random.pick(&[0, 1]));
    options
}

fn names(flags: u8) -> String {
    let names = [(SYN, "S"), (FIN, "F"), (RST, "R"), (PSH, "P"), (ACK, "A")];
    let set = names.iter().filter(|(flag, _)| flags & flag != 0);
    set.map(|(_, name)| *name).collect()
}

/// Who sends what: `>` the client, `<` the server; flags as letters, a digit for hundreds of bytes.
const SCRIPTS: [&str; 16] = [
    ">S <SA >A >PA3 <A <PA9 >A >FA <A <FA >A",
    ">S <SA >A >PA3 <PA9 <FA >A >FA <A",
    ">S <SA >A >FA <FA >A <A",
    ">S <SA >A >PA5 <A <RA >S <SA >A",
    ">S <SA >A <PA5 >A >R >S <SA >A >PA1",
    ">S <RA >S <SA >A",
    ">S <S >SA <SA >A <A >PA3 <A <FA >A >FA <A",
    ">S <S <SA >SA >A <A >PA1",
    ">S <SA >A >FA <A <FA >A >S <SA >A >PA1 <A",
    ">S <SA >A <FA >A >FA <A <S >SA <A >PA1",
    ">S >S <SA <SA >A >A >S <A >A",
    ">A <A >PA1 <A >FA <A",
    "<SA >A <A >R",
    ">S <A >R >S <SA >A",
    ">S <SA >RA <A >S",
    ">S <SA >A <R >A <A >PA1",
];

pub(super) fn parse(step: &str) -> (bool, u8, u32) {
    let (side, flags) = step.split_at(1);
    let mut length = 0;
    let flags = flags.chars().map(|flag| match flag {
        'S' => SYN,
        'A' => ACK,
        'F' => FIN,
        'R' => RST,
        'P' => PSH,
        digit => {
            length = digit.to_digit(10).expect("a digit") * 100;
            0
        }
    });
    let flags = flags.sum();
    (side == ">", flags, length)
}

/// Steps of a script, as the network and a mischievous neighbour leave them.
fn steps(random: &mut Random) -> Vec<(bool, u8, u32)> {
    let mut steps: Vec<_> = random.pick(&SCRIPTS).split(' ').map(parse).collect();
    let at = |steps: &[_], random: &mut Random| random.below(steps.len() as u64) as usize;
    for _ in 0..random.below(4) {
        let place = at(&steps, random);
        match random.below(5) {
            0 => drop(steps.remove(place)),
            1 => steps.insert(place, steps[place]),
            2 if place > 0 => steps.swap(place, place - 1),
            _ => {
                let flags = [
                    SYN,
                    SYN | ACK,
                    ACK,
                    FIN | ACK,
                    RST,
                    RST | ACK,
                    PSH | ACK,
                    FIN,
                    0,
                    SYN | FIN,
                ];
                let step = (
                    random.chance(50),
                    random.pick(&flags),
                    random.pick(&[0, 0, 1, 100]),
                );
                steps.insert(place, step);
            }
        }
        if steps.is_empty() {
            break;
        }
    }
    steps
}

fn tcp_talk(talk: Talk, random: &mut Random, mode: Mode) -> Vec<Event> {
    let mut ends = Ends::new(talk, mode, random);
    let mut events = Vec::new();
    for (client, flags, length) in steps(random) {
        let event = ends.send(client, flags, length, random);
        events.push(event);
        if random.chance(4) {
            let (source, destination) = talk.ports(client);
            let about = talk.packet(client, tcp(source, destination));
            events.push(talk.error(random, &about, client));
        }
    }
    events
}

/// Datagrams and queries, in both directions, and errors about them and about what was never sent.
fn simple_talk(talk: Talk, random: &mut Random) -> Vec<Event> {
    let is_query = random.chance(40);
    let mut events = Vec::new();
    for _ in 0..2 + random.below(6) {
        let client = random.chance(60);
        let of = |talk: Talk| match is_query {
            true => talk.packet(client, talk.query(client)),
            false => talk.packet(client, talk.datagram(client)) / payload(20),
        };
        let unknown = Talk {
            port: talk.port + 1,
            ..talk
        };
        match random.below(6) {
            0 => events.push(talk.error(random, &of(talk), client)),
            1 => events.push(talk.error(random, &of(unknown), client)),
            2 if !is_query => events.push(fragments(talk, client, random)),
            _ => events.push(Event {
                direction: talk.direction(client),
                frames: vec![of(talk).bytes()],
                port: talk.port,
                segment: None,
                says: format!(
                    "{} {}",
                    if is_query { "query" } else { "datagram" },
                    if client { ">" } else { "<" }
                ),
            }),
        }
    }
    events
}

/// A datagram in two or three pieces, in their order.
fn fragments(talk: Talk, client: bool, random: &mut Random) -> Event {
    let whole = talk.packet(client, talk.datagram(client)) / payload(48);
    let whole = whole.bytes();
    let id = random.next() as u16;
    let header = if talk.v6 { 54 } else { 34 };
    let inside = &whole[header..];
    let cuts: &[usize] = random.pick(&[&[0, 16, 56][..], &[0, 8, 24, 56], &[0, 32, 56]]);
    let frames = cuts.windows(2).map(|cut| {
        let (from, to) = (cut[0], cut[1]);
        let (piece, more) = (raw(&inside[from..to]), to != 56);
        let packet = match (talk.v6, client == talk.inside) {
            (false, is_b) => {
                let (mac, ip) = match is_b {
                    true => (ether(IN, OUT), ipv4(B, A)),
                    false => (ether(OUT, IN), ipv4(A, B)),
                };
                mac / ip.id(id).protocol(17).fragment(from as u16, more) / piece
            }
            (true, is_b) => {
                let (mac, ip) = match is_b {
                    true => (ether(IN, OUT), ipv6(B6, A6)),
                    false => (ether(OUT, IN), ipv6(A6, B6)),
                };
                let [high, low] = (from as u16 | u16::from(more)).to_be_bytes();
                let [a, b] = id.to_be_bytes();
                mac / ip.next_header(44) / raw(&[17, 0, high, low, 0, 0, a, b]) / piece
            }
        };
        packet.bytes()
    });
    Event {
        direction: talk.direction(client),
        frames: frames.collect(),
        port: talk.port,
        segment: None,
        says: format!(
            "datagram {} in {} fragments",
            if client { ">" } else { "<" },
            cuts.len() - 1
        ),
    }
}

/// What one, two or three pairs of hosts say, in each other's way. The number keeps sequences of one
/// namespace apart.
pub(super) fn conversations(random: &mut Random, mode: Mode, number: u64) -> Vec<Event> {
    let mut talks: Vec<_> = (0..1 + random.below(3))
        .map(|talk| {
            let talk = Talk {
                v6: random.chance(40),
                inside: random.chance(65),
                port: 1024 + (number * 8 + talk * 2) as u16,
            };
            let events = match random.chance(70) {
                true => tcp_talk(talk, random, mode),
                false => simple_talk(talk, random),
            };
            events.into_iter()
        })
        .collect();
    let mut events = Vec::new();
    while !talks.is_empty() {
        let at = random.below(talks.len() as u64) as usize;
        match talks[at].next() {
            Some(event) => events.push(event),
            None => drop(talks.remove(at)),
        }
    }
    events
}
