//! What segments are to the windows.

use proptest::prelude::*;

use super::*;
use crate::tcp::{self, PSH, SYN_SENT2, name};

/// A connection, with numbers that count from each side's first.
struct Connection {
    windows: Windows,
    state: u8,
    replied: bool,
    first: [u32; 2],
}

const NOTHING: Segment = Segment {
    sequence: 0,
    acknowledgment: 0,
    length: 0,
    selective: 0,
    window: 1000,
    flags: ACK,
    scale: 0,
    offers: 0,
    padding: [0; 3],
};

fn segment(flags: u8, sequence: u32, acknowledgment: u32, length: u32) -> Segment {
    Segment {
        sequence,
        acknowledgment,
        selective: acknowledgment,
        length,
        flags,
        ..NOTHING
    }
}

impl Connection {
    /// Begun by a SYN, with these first numbers.
    fn new(first: [u32; 2], syn: Segment) -> Self {
        let sequence = first[0];
        let syn = Segment { sequence, ..syn };
        Self {
            windows: Windows::begin(&syn),
            state: SYN_SENT,
            replied: false,
            first,
        }
    }

    /// After a handshake with windows of 1000 bytes, without scaling.
    fn established() -> Self {
        let mut connection = Self::new([u32::MAX - 5, 7], segment(SYN, 0, 0, 0));
        assert_eq!(connection.step(1, segment(SYN | ACK, 0, 1, 0)), "SYN_RECV");
        assert_eq!(connection.step(0, segment(ACK, 1, 1, 0)), "ESTABLISHED");
        connection
    }

    fn step(&mut self, side: usize, segment: Segment) -> &'static str {
        let of = |number: u32, side: usize| number.wrapping_add(self.first[side]);
        let segment = Segment {
            sequence: of(segment.sequence, side),
            acknowledgment: of(segment.acknowledgment, side ^ 1),
            selective: of(segment.selective, side ^ 1),
            ..segment
        };
        let step = tcp::step(self.state, side != 0, segment.flags);
        let step = match side {
            _ if !step.valid => step,
            0 => (self.windows).step::<0>(step, self.state, self.replied, &segment),
            _ => (self.windows).step::<1>(step, self.state, self.replied, &segment),
        };
        self.state = step.state;
        self.replied |= side == 1 && step.valid;
        match step {
            Step { valid: false, .. } => "invalid",
            Step { counts: false, .. } => "ignored",
            _ => name(self.state),
        }
    }
}

#[test]
fn data_must_be_in_the_window() {
    let mut connection = Connection::established();
    let data = |sequence, length| segment(PSH | ACK, sequence, 1, length);
    assert_eq!(connection.step(0, data(1, 1000)), "ESTABLISHED");
    // It begins after the window, near it and far from it.
    assert_eq!(connection.step(0, data(1002, 10)), "ignored");
    assert_eq!(connection.step(0, data(5000, 10)), "invalid");
    // Sent again; and from long ago.
    assert_eq!(connection.step(0, data(1, 1000)), "ESTABLISHED");
    assert_eq!(
        connection.step(0, data(0u32.wrapping_sub(2000), 10)),
        "ignored"
    );
    // The other side makes room.
    assert_eq!(connection.step(1, segment(ACK, 1, 1001, 0)), "ESTABLISHED");
    assert_eq!(connection.step(0, data(1001, 1000)), "ESTABLISHED");
}

#[test]
fn what_was_not_sent_cannot_be_acknowledged() {
    let mut connection = Connection::established();
    assert_eq!(connection.step(1, segment(ACK, 1, 2, 0)), "invalid");
    assert_eq!(
        connection.step(0, segment(PSH | ACK, 1, 1, 500)),
        "ESTABLISHED"
    );
    assert_eq!(connection.step(1, segment(ACK, 1, 501, 0)), "ESTABLISHED");
    let selective = Segment {
        selective: 601,
        ..segment(ACK, 1, 501, 0)
    };
    assert_eq!(connection.step(1, selective), "invalid");
    let late = segment(ACK, 1, 501u32.wrapping_sub(70_000), 0);
    assert_eq!(connection.step(1, late), "ignored");
}

#[test]
fn windows_are_scaled_if_both_sides_say_so() {
    for (second, third) in [(SIDE_SCALES, "ESTABLISHED"), (0, "invalid")] {
        let syn = Segment {
            scale: 7,
            offers: SIDE_SCALES,
            ..segment(SYN, 0, 0, 0)
        };
        let mut connection = Connection::new([1, 2], syn);
        let answer = Segment {
            scale: 3,
            offers: second,
            ..segment(SYN | ACK, 0, 1, 0)
        };
        assert_eq!(connection.step(1, answer), "SYN_RECV");
        // 1000 << 7 bytes for the other side, or 1000.
        assert_eq!(connection.step(0, segment(ACK, 1, 1, 0)), "ESTABLISHED");
        assert_eq!(connection.step(1, segment(ACK, 100_000, 1, 100)), third);
    }
}

#[test]
fn a_window_of_nothing_may_be_probed() {
    let mut connection = Connection::established();
    assert_eq!(connection.step(0, segment(ACK, 1, 1, 1000)), "ESTABLISHED");
    let full = Segment {
        window: 0,
        ..segment(ACK, 1, 1001, 0)
    };
    assert_eq!(connection.step(1, full), "ESTABLISHED");
    assert_eq!(connection.step(0, segment(ACK, 1001, 1, 1)), "ESTABLISHED");
    assert_eq!(connection.step(1, full), "ESTABLISHED");
}

#[test]
fn resets_need_the_number_that_is_expected() {
    let reset = |sequence| segment(RST, sequence, 0, 0);
    let mut connection = Connection::established();
    assert_eq!(connection.step(0, segment(ACK, 1, 1, 100)), "ESTABLISHED");
    assert_eq!(connection.step(1, segment(ACK, 1, 101, 0)), "ESTABLISHED");
    // Old; in the window, so that it is for the receiver to ask; far away; the right one.
    assert_eq!(connection.step(0, reset(100)), "invalid");
    assert_eq!(connection.step(0, reset(150)), "ESTABLISHED");
    assert_eq!(connection.step(0, reset(50_000)), "invalid");
    assert_eq!(connection.step(0, reset(101)), "CLOSE");
    // Behind data that was not acknowledged yet.
    let mut connection = Connection::established();
    assert_eq!(connection.step(0, segment(ACK, 1, 1, 100)), "ESTABLISHED");
    assert_eq!(connection.step(0, reset(101)), "CLOSE");
    // In answer to a SYN.
    let mut connection = Connection::new([8, 9], segment(SYN, 0, 0, 0));
    assert_eq!(connection.step(1, segment(RST | ACK, 0, 9, 0)), "invalid");
    let answer = segment(RST | ACK, 0u32.wrapping_sub(9), 1, 0);
    assert_eq!(connection.step(1, answer), "CLOSE");
}

#[test]
fn both_ends_may_have_begun_anew() {
    let mut connection = Connection::established();
    let syn = segment(SYN, 500_000, 0, 0);
    assert_eq!(connection.step(0, syn), "ignored");
    // A challenge (RFC 5961, 4.2), and the reset that follows it.
    assert_eq!(connection.step(1, segment(ACK, 1, 1, 0)), "ESTABLISHED");
    assert_eq!(connection.step(0, segment(RST, 1, 0, 0)), "CLOSE");
    // Or the server knows nothing of the old one.
    let mut connection = Connection::established();
    assert_eq!(connection.step(0, syn), "ignored");
    let answer = segment(SYN | ACK, 900_000, 500_001, 0);
    assert_eq!(connection.step(1, answer), "SYN_RECV");
    let third = segment(ACK, 500_001, 900_001, 0);
    assert_eq!(connection.step(0, third), "ESTABLISHED");
    // What is left of the old one.
    assert_eq!(connection.step(0, segment(ACK, 1, 1, 0)), "ignored");
    assert_eq!(connection.step(1, segment(ACK, 1, 1, 0)), "ignored");
}

#[test]
fn a_challenge_is_not_the_last_acknowledgement() {
    let mut connection = Connection::established();
    assert_eq!(connection.step(0, segment(FIN | ACK, 1, 1, 0)), "FIN_WAIT");
    assert_eq!(connection.step(1, segment(FIN | ACK, 1, 1, 0)), "LAST_ACK");
    assert_eq!(connection.step(0, segment(SYN, 500_000, 0, 0)), "ignored");
    assert_eq!(connection.step(1, segment(ACK, 2, 2, 0)), "ignored");
    assert_eq!(connection.step(1, segment(ACK, 2, 2, 0)), "TIME_WAIT");
}

#[test]
fn whose_beginning_was_not_seen_is_not_refused() {
    let mut windows = Windows::unknown();
    let goes_on = tcp::step(ESTABLISHED, true, ACK);
    for sequence in [0, 1 << 31, 5] {
        let step = windows.step::<1>(goes_on, ESTABLISHED, true, &segment(ACK, sequence, 77, 9));
        assert!(step.valid && step.counts);
    }
}

#[test]
fn both_sides_open_at_once() {
    let mut connection = Connection::new([3, 4], segment(SYN, 0, 0, 0));
    assert_eq!(connection.step(1, segment(SYN, 0, 0, 0)), name(SYN_SENT2));
    assert_eq!(connection.step(0, segment(SYN | ACK, 0, 1, 0)), "SYN_RECV");
    assert_eq!(connection.step(1, segment(SYN | ACK, 0, 1, 0)), "ignored");
    assert_eq!(connection.step(0, segment(ACK, 1, 1, 10)), "ESTABLISHED");
    assert_eq!(connection.step(1, segment(ACK, 1, 11, 10)), "ESTABLISHED");
}

proptest! {
    /// Two ends that keep to each other's windows, over a network that loses, delays and doubles.
    #[test]
    fn what_honest_ends_send_is_valid(
        first: [u32; 2],
        scales in [0u8..=14, 0u8..=14],
        moves in prop::collection::vec((0usize..2, 0u32..1500, 0u32..100, any::<u16>()), 1..200),
    ) {
        let offers = SIDE_SCALES | SIDE_SACK;
        let syn = Segment { scale: scales[0], offers, ..segment(SYN, 0, 0, 0) };
        let mut connection = Connection::new(first, syn);
        let answer = Segment { scale: scales[1], offers, ..segment(SYN | ACK, 0, 1, 0) };
        prop_assert_eq!(connection.step(1, answer), "SYN_RECV");
        prop_assert_eq!(connection.step(0, segment(ACK, 1, 1, 0)), "ESTABLISHED");
        // What each side has sent; what it has received in order; what it may send at most.
        let (mut sent, mut received, mut limit) = ([1u32; 2], [1u32; 2], [1001u32; 2]);
        for (side, length, luck, window) in moves {
            let other = side ^ 1;
            let again = luck < 20 && sent[side] > received[other];
            let sequence = if again { received[other] } else { sent[side] };
            let length = length.min(limit[side].saturating_sub(sequence));
            let segment = Segment { window, ..segment(ACK, sequence, received[side], length) };
            let result = connection.step(side, segment);
            prop_assert!(result == "ESTABLISHED", "{} {:?}", result, segment);
            sent[side] = sent[side].max(sequence + length);
            // It arrives, or not.
            if luck % 4 != 0 {
                if sequence <= received[other] {
                    received[other] = received[other].max(sequence + length);
                }
                let offered = received[side].saturating_add(u32::from(window) << scales[side]);
                limit[other] = limit[other].max(offered);
            }
        }
    }
}
