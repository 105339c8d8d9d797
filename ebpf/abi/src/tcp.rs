//! The life of a TCP connection, as somebody in the middle sees it.
//!
//! Only flags are looked at, not sequence numbers, so windows are not checked. States have the names
//! and the meaning that Linux' connection tracking gives them, so that outputs can be
//! compared; what leads from one to the next follows RFC 9293, 3.3.2 and 3.10.

/// The bit FIN of the flags (RFC 9293, 3.1).
pub const FIN: u8 = 0x01;
/// The bit SYN.
pub const SYN: u8 = 0x02;
/// The bit RST.
pub const RST: u8 = 0x04;
/// The bit PSH.
pub const PSH: u8 = 0x08;
/// The bit ACK.
pub const ACK: u8 = 0x10;
/// The bit URG.
pub const URG: u8 = 0x20;
/// The bit ECE (RFC 3168, 6.1).
pub const ECE: u8 = 0x40;
/// The bit CWR (RFC 3168, 6.1).
pub const CWR: u8 = 0x80;

/// Nothing was seen yet.
pub const NONE: u8 = 0;
/// A SYN was seen.
pub const SYN_SENT: u8 = 1;
/// It was answered with a SYN of the other side.
pub const SYN_RECV: u8 = 2;
/// The handshake is complete.
pub const ESTABLISHED: u8 = 3;
/// One side has sent a FIN.
pub const FIN_WAIT: u8 = 4;
/// It was acknowledged.
pub const CLOSE_WAIT: u8 = 5;
/// The other side has sent a FIN, too.
pub const LAST_ACK: u8 = 6;
/// Both were acknowledged.
pub const TIME_WAIT: u8 = 7;
/// A RST was seen.
pub const CLOSE: u8 = 8;
/// Both sides have sent a SYN before they saw the other's (RFC 9293, 3.5, figure 7).
pub const SYN_SENT2: u8 = 9;
/// How many states there are.
pub const STATES: usize = 10;

/// Name of a state in outputs: that of Linux' `conntrack` command.
pub const fn name(state: u8) -> &'static str {
    match state {
        SYN_SENT => "SYN_SENT",
        SYN_RECV => "SYN_RECV",
        ESTABLISHED => "ESTABLISHED",
        FIN_WAIT => "FIN_WAIT",
        CLOSE_WAIT => "CLOSE_WAIT",
        LAST_ACK => "LAST_ACK",
        TIME_WAIT => "TIME_WAIT",
        CLOSE => "CLOSE",
        SYN_SENT2 => "SYN_SENT2",
        _ => "NONE",
    }
}

/// What a segment does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The state afterwards; the one before, if the segment changes nothing.
    pub state: u8,
    /// False if no TCP sends this here. Such a segment changes nothing.
    pub valid: bool,
    /// False if the segment is valid but proves nothing: a SYN in the middle of a connection, say,
    /// which the receiver answers with an ACK (RFC 9293, 3.10.7.4). It must not keep a
    /// connection alive.
    pub counts: bool,
}

impl Step {
    const INVALID: u8 = 0;
    const VALID: u8 = 0x40;
    const COUNTS: u8 = 0x80;

    const fn from_code(code: u8) -> Self {
        Self {
            state: code & 0xf,
            valid: code & Self::VALID != 0,
            counts: code & Self::COUNTS != 0,
        }
    }

    const fn code(self) -> u8 {
        let valid = if self.valid { Self::VALID } else { 0 };
        let counts = if self.counts { Self::COUNTS } else { 0 };
        self.state | valid | counts
    }
}

/// What a segment with these flags does to a connection in this state. `reply` is true if it
/// comes from the side that did not send the first segment.
///
/// From [`NONE`], a SYN opens a connection; an ACK may belong to one that is older than our memory,
/// and gives [`ESTABLISHED`]: whether to believe that is the caller's choice.
///
/// From [`TIME_WAIT`] and [`CLOSE`], a SYN gives [`SYN_SENT`]: it opens a new connection, of which
/// its sender is the original side.
#[inline(always)]
pub fn step(state: u8, reply: bool, flags: u8) -> Step {
    let index = kind(flags) << 5 | u8::from(reply) << 4 | state & 0xf;
    // A table, because this runs for each segment: one load instead of many branches.
    Step::from_code(STEPS[index as usize])
}

/// No sender sends these flags (RFC 9293, 3.10.7; also FIN without ACK).
const ABSURD: u8 = 0;
const IS_SYN: u8 = 1;
const IS_SYN_ACK: u8 = 2;
const IS_ACK: u8 = 3;
const IS_FIN: u8 = 4;
const IS_RST: u8 = 5;

/// Sorts segments by their flags; PSH, URG and those of congestion control do not matter.
#[inline(always)]
const fn kind(flags: u8) -> u8 {
    // Twice as long as need be: the linker keeps tables of 32 bytes in a section of their own.
    const KINDS: [u8; 64] = {
        let mut kinds = [ABSURD; 64];
        kinds[SYN as usize] = IS_SYN;
        kinds[(SYN | ACK) as usize] = IS_SYN_ACK;
        kinds[ACK as usize] = IS_ACK;
        kinds[(FIN | ACK) as usize] = IS_FIN;
        kinds[RST as usize] = IS_RST;
        kinds[(RST | ACK) as usize] = IS_RST;
        kinds
    };
    KINDS[(flags & (FIN | SYN | RST | ACK)) as usize]
}

static STEPS: [u8; 256] = {
    let mut steps = [Step::INVALID; 256];
    let mut index = 0;
    while index < 256 {
        let (kind, reply, state) = ((index >> 5) as u8, index & 0x10 != 0, index as u8 & 0xf);
        if (state as usize) < STATES {
            steps[index] = defined(kind, reply, state).code();
        }
        index += 1;
    }
    steps
};

/// The definition, as people read it.
const fn defined(kind: u8, reply: bool, state: u8) -> Step {
    match kind {
        IS_SYN => syn(reply, state),
        IS_SYN_ACK => syn_ack(reply, state),
        IS_ACK => ack(reply, state),
        IS_FIN => fin(state),
        IS_RST => match state {
            NONE => invalid(state),
            _ => moves(CLOSE),
        },
        _ => invalid(state),
    }
}

const fn moves(state: u8) -> Step {
    Step {
        state,
        valid: true,
        counts: true,
    }
}

const fn ignored(state: u8) -> Step {
    Step {
        state,
        valid: true,
        counts: false,
    }
}

const fn invalid(state: u8) -> Step {
    Step {
        state,
        valid: false,
        counts: false,
    }
}

const fn syn(reply: bool, state: u8) -> Step {
    match (reply, state) {
        (false, NONE | SYN_SENT | TIME_WAIT | CLOSE) => moves(SYN_SENT),
        (false, SYN_SENT2) => moves(SYN_SENT2),
        (false, _) => ignored(state),
        (true, SYN_SENT | SYN_SENT2) => moves(SYN_SENT2),
        (true, TIME_WAIT) => moves(SYN_SENT),
        (true, _) => invalid(state),
    }
}

const fn syn_ack(reply: bool, state: u8) -> Step {
    match (reply, state) {
        (_, SYN_SENT2) | (true, SYN_SENT) => moves(SYN_RECV),
        // Sent again: the answer to the other's SYN of a simultaneous opening.
        (false, SYN_RECV) => moves(SYN_RECV),
        (true, NONE) | (false, _) => invalid(state),
        (true, _) => ignored(state),
    }
}

const fn ack(reply: bool, state: u8) -> Step {
    match (reply, state) {
        (false, NONE) => moves(ESTABLISHED),
        (true, NONE) => invalid(state),
        // The answer to a SYN may be a bare ACK, of an older connection; it is met with a RST
        // (RFC 9293, 3.5.1).
        (true, SYN_SENT | SYN_SENT2) => ignored(state),
        (false, SYN_SENT | SYN_SENT2) => invalid(state),
        (false, SYN_RECV) => moves(ESTABLISHED),
        (_, FIN_WAIT) => moves(CLOSE_WAIT),
        (_, LAST_ACK) => moves(TIME_WAIT),
        _ => moves(state),
    }
}

const fn fin(state: u8) -> Step {
    match state {
        NONE | SYN_SENT | SYN_SENT2 => invalid(state),
        SYN_RECV | ESTABLISHED => moves(FIN_WAIT),
        FIN_WAIT | CLOSE_WAIT => moves(LAST_ACK),
        _ => moves(state),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs segments, written as who sends (`>` the opener, `<` the other side) and flags.
    fn run(segments: &str) -> Vec<&'static str> {
        let mut state = NONE;
        let segments = segments.split_whitespace();
        let states = segments.map(|segment| {
            let (side, flags) = segment.split_at(1);
            let flags = flags.chars().map(|flag| match flag {
                'S' => SYN,
                'A' => ACK,
                'F' => FIN,
                'R' => RST,
                'P' => PSH,
                'E' => ECE,
                'W' => CWR,
                _ => panic!("{flag}"),
            });
            let step = step(state, side == "<", flags.sum());
            state = step.state;
            match step {
                Step { valid: false, .. } => "invalid",
                Step { counts: false, .. } => "ignored",
                _ => name(state),
            }
        });
        states.collect()
    }

    #[test]
    fn connections() {
        for (segments, states) in [
            // Both close one after the other.
            (
                ">S <SA >A >PA <A <FA >A >FA <A",
                "SYN_SENT SYN_RECV ESTABLISHED ESTABLISHED ESTABLISHED FIN_WAIT CLOSE_WAIT LAST_ACK TIME_WAIT",
            ),
            // Both close at once.
            (
                ">S <SA >A >FA <FA >A",
                "SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT LAST_ACK TIME_WAIT",
            ),
            // Both open at once (RFC 9293, figure 7).
            (
                ">S <S >SA <SA >A",
                "SYN_SENT SYN_SENT2 SYN_RECV ignored ESTABLISHED",
            ),
            // Refused.
            (">S <RA", "SYN_SENT CLOSE"),
            // Explicit congestion notification is asked for (RFC 3168, 6.1.1).
            (">SEW <SAE >A", "SYN_SENT SYN_RECV ESTABLISHED"),
            // The SYN is sent again, the answer too.
            (
                ">S >S <SA <SA >A",
                "SYN_SENT SYN_SENT SYN_RECV ignored ESTABLISHED",
            ),
            // A SYN in the middle does not keep alive; nor does it end anything.
            (
                ">S <SA >A >S >A",
                "SYN_SENT SYN_RECV ESTABLISHED ignored ESTABLISHED",
            ),
            // From the other side it is nonsense.
            (">S <SA >A <S", "SYN_SENT SYN_RECV ESTABLISHED invalid"),
            // The ports are used again.
            (">S <RA >S", "SYN_SENT CLOSE SYN_SENT"),
            // A segment of an older connection, met with a reset.
            (">S <A >R", "SYN_SENT ignored CLOSE"),
            // Out of nothing.
            (">FA", "invalid"),
            ("<A", "invalid"),
            (">R", "invalid"),
            ("<SA", "invalid"),
            // Older than our memory.
            (">A <A", "ESTABLISHED ESTABLISHED"),
            // What no sender sends.
            (">SF", "invalid"),
            (">SR", "invalid"),
            (">F", "invalid"),
            (">P", "invalid"),
            (">S <SA >A >SFRPA", "SYN_SENT SYN_RECV ESTABLISHED invalid"),
        ] {
            assert_eq!(run(segments).join(" "), states, "{segments}");
        }
    }

    proptest! {
        #[test]
        fn every_step_is_sound(state in 0..STATES as u8, reply: bool, flags: u8) {
            let step = step(state, reply, flags);
            prop_assert!((step.state as usize) < STATES);
            // What is invalid or proves nothing changes nothing.
            prop_assert!(step.counts || step.state == state);
            prop_assert!(step.valid || !step.counts);
            // Nothing but a handshake leads into an established connection.
            if step.state == ESTABLISHED && state != ESTABLISHED {
                prop_assert!(matches!(state, NONE | SYN_RECV) && !reply);
            }
            prop_assert_eq!(Step::from_code(step.code()), step);
        }

        #[test]
        fn no_flags_are_out_of_bounds(state: u8, reply: bool, flags: u8) {
            step(state, reply, flags);
        }
    }
}
