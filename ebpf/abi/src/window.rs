//! Whether a TCP segment is in the windows that its two ends have told each other.
//!
//! The conditions are those of van Rooij, "Real Stateful TCP Packet Filtering" (SANE 2000), with RFC 9293, 3.4 and
//! 3.10.7.4, for the edges, and with what Linux' connection tracking has learned since: window scaling
//! (RFC 7323, 2), selective acknowledgements (RFC 2018), resets and challenges (RFC 5961, 3 and 4).
//!
//! Somebody in the middle sees what was sent, not what arrived. So the limits here are wider than those
//! of either end: what an end would take must pass.

mod fit;
#[cfg(test)]
mod tests;

use bytemuck::{Pod, Zeroable};

use self::fit::Fit;

use crate::{
    assert_size,
    tcp::{
        ACK, CLOSE, CLOSE_WAIT, ESTABLISHED, FIN, FIN_WAIT, LAST_ACK, RST, SYN, SYN_RECV, SYN_SENT,
        Step, TIME_WAIT,
    },
};

/// What is known of one side.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Side {
    /// After the last byte that it has sent: a sequence number.
    pub end: u32,
    /// After the last byte that it may send: what the other side has acknowledged, and its window.
    pub limit: u32,
    /// Largest window that it has offered, in bytes; 0 while nothing was seen of it.
    pub window: u32,
    /// The most that it has acknowledged of the other side.
    pub acknowledged: u32,
    /// By how many bits the windows that it offers are shifted.
    pub scale: u8,
    /// `SIDE_*`
    pub flags: u8,
    /// 0
    pub padding: [u8; 2],
}
assert_size!(Side, 20);

/// It understands selective acknowledgements.
pub const SIDE_SACK: u8 = 1 << 0;
/// It wants to scale windows.
pub const SIDE_SCALES: u8 = 1 << 1;
/// It has acknowledged something.
pub const SIDE_ACKNOWLEDGES: u8 = 1 << 2;

/// What is known of both.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Windows {
    /// The side that began, and the other one.
    pub sides: [Side; 2],
    /// The end of a segment that was let pass as one of a connection that we may have missed, or of
    /// the last acknowledgement.
    pub last_end: u32,
    /// What such an answer to a SYN acknowledges.
    pub last_acknowledgment: u32,
    /// The window of such a segment.
    pub last_window: u16,
    /// How it scales.
    pub last_scale: u8,
    /// Its `SIDE_*`, and [`EXPECTS_CHALLENGE`].
    pub last_flags: u8,
    /// What the last segment was: its flags SYN, ACK, FIN and RST.
    pub last: u8,
    /// Who sent it.
    pub last_side: u8,
    /// 1 if nothing is refused: the beginning was not seen, so nobody knows how windows are scaled.
    pub is_liberal: u8,
    /// 0
    pub padding: u8,
}
assert_size!(Windows, 56);

/// A SYN was let pass after both sides have closed: the ACK that may answer it is no last one.
const EXPECTS_CHALLENGE: u8 = 1 << 7;

/// A segment, as far as it matters here.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Segment {
    /// Its first sequence number.
    pub sequence: u32,
    /// What it acknowledges.
    pub acknowledgment: u32,
    /// Bytes of payload.
    pub length: u32,
    /// The right edge of what it acknowledges selectively, if it does; else the same as
    /// `acknowledgment`.
    pub selective: u32,
    /// The window that it offers, as it is in the segment.
    pub window: u16,
    /// Its flags.
    pub flags: u8,
    /// The scale that a SYN asks for, at most 14 (RFC 7323, 2.3).
    pub scale: u8,
    /// What a SYN offers: `SIDE_*`.
    pub offers: u8,
    /// 0
    pub padding: [u8; 3],
}
assert_size!(Segment, 24);

impl Segment {
    /// The sequence number after it.
    #[inline(always)]
    fn end(&self) -> u32 {
        let controls = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        self.sequence
            .wrapping_add(self.length)
            .wrapping_add(controls)
    }

    #[inline(always)]
    fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What it is, for the next one.
    #[inline(always)]
    fn kind(&self) -> u8 {
        match self.flags & (SYN | ACK | FIN | RST) {
            // Only these are asked for.
            flags if flags & RST != 0 => RST,
            flags if flags & FIN != 0 => FIN,
            flags => flags,
        }
    }
}

/// Whether `a` is before `b`, on the circle of sequence numbers (RFC 9293, 3.4).
#[inline(always)]
const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl Windows {
    /// Of a connection that this SYN begins.
    #[inline(always)]
    pub fn begin(segment: &Segment) -> Self {
        let mut windows = Self::default();
        windows.sides[0].begin(segment);
        windows.last = SYN;
        windows
    }

    /// Of a connection that was there before.
    #[inline(always)]
    pub fn unknown() -> Self {
        Self {
            is_liberal: 1,
            ..Self::default()
        }
    }

    /// What a segment does to a connection in this state, if by its flags it does `step`, which is valid
    /// ([`step`](crate::tcp::step)). `SIDE` is 1 if it comes from the side that did not begin: a constant, so that less has to be
    /// remembered. `replied` is true if that one has sent something before.
    pub fn step<const SIDE: usize>(
        &mut self,
        step: Step,
        state: u8,
        replied: bool,
        segment: &Segment,
    ) -> Step {
        let judged = self.judge::<SIDE>(step, state, replied, segment);
        match judged.is_open {
            true => self.compare::<SIDE>(judged.step, state, segment),
            false => judged.step,
        }
    }

    /// The first half of [`step`](Self::step): what needs no windows.
    #[inline(always)]
    pub fn judge<const SIDE: usize>(
        &mut self,
        mut step: Step,
        state: u8,
        replied: bool,
        segment: &Segment,
    ) -> Judged {
        if !step.counts {
            if !self.answers_noted::<SIDE>(segment) {
                self.note::<SIDE>(state, segment);
                return Judged::closed(step);
            }
            // Both ends have begun anew, and we have missed it.
            self.begin_anew::<SIDE>();
            step.state = SYN_RECV;
            step.counts = true;
        } else if segment.is(RST) {
            match self.reset::<SIDE>(state, replied, segment) {
                Reset::Refused => return Judged::closed(refused(state)),
                Reset::Believed => return Judged::closed(self.goes_on::<SIDE>(segment, step)),
                Reset::Checked => {}
                Reset::Doubted => step.state = state,
            }
        } else if state == LAST_ACK && step.state == TIME_WAIT && self.is_challenge::<SIDE>(segment)
        {
            self.last_flags &= !EXPECTS_CHALLENGE;
            return Judged::closed(odd(state));
        }
        Judged {
            step,
            is_open: true,
        }
    }

    /// The second half: the windows decide whether the segment does what it says.
    #[inline(always)]
    pub fn compare<const SIDE: usize>(&mut self, step: Step, state: u8, segment: &Segment) -> Step {
        match self.fit::<SIDE>(state, segment) {
            Fit::In => self.goes_on::<SIDE>(segment, step),
            Fit::Odd => odd(state),
            Fit::Out => refused(state),
        }
    }

    #[inline(always)]
    fn goes_on<const SIDE: usize>(&mut self, segment: &Segment, step: Step) -> Step {
        self.last = segment.kind();
        self.last_side = SIDE as u8;
        step
    }

    /// A SYN and an ACK that answer a SYN which seemed to make no sense.
    #[inline(always)]
    fn answers_noted<const SIDE: usize>(&self, segment: &Segment) -> bool {
        segment.kind() == SYN | ACK
            && self.last == SYN
            && usize::from(self.last_side) != SIDE
            && segment.acknowledgment == self.last_end
    }

    /// Takes over what was noted of a SYN of the side other than `side`.
    #[inline(always)]
    fn begin_anew<const SIDE: usize>(&mut self) {
        self.sides[1 - SIDE] = Side {
            end: self.last_end,
            limit: self.last_end,
            window: u32::from(self.last_window).max(1),
            acknowledged: 0,
            scale: self.last_scale,
            flags: self.last_flags & !EXPECTS_CHALLENGE,
            padding: [0; 2],
        };
        self.sides[SIDE] = Side::default();
        self.last_flags = 0;
    }

    /// Notes a segment that is let pass though it seems to make no sense: perhaps we have missed something.
    #[inline(always)]
    fn note<const SIDE: usize>(&mut self, state: u8, segment: &Segment) {
        self.last = segment.kind();
        self.last_side = SIDE as u8;
        self.last_end = segment.end();
        self.last_window = segment.window;
        if segment.kind() == SYN && SIDE == 0 {
            self.last_scale = segment.scale;
            self.last_flags = segment.offers;
            if state == LAST_ACK {
                self.last_flags |= EXPECTS_CHALLENGE;
            }
        }
        if state == SYN_SENT && segment.kind() == ACK && SIDE == 1 {
            self.last_acknowledgment = segment.acknowledgment;
        }
    }

    /// The answer to a SYN that came after both sides have closed (RFC 5961, 4.2), not the last ACK.
    #[inline(always)]
    fn is_challenge<const SIDE: usize>(&self, segment: &Segment) -> bool {
        segment.kind() == ACK
            && self.last == SYN
            && usize::from(self.last_side) != SIDE
            && self.last_flags & EXPECTS_CHALLENGE != 0
    }

    /// A reset is believed if it has exactly the number that is expected (RFC 5961, 3.2). Its receiver challenges
    /// others, and we wait for what comes of that.
    #[inline(always)]
    fn reset<const SIDE: usize>(&self, state: u8, replied: bool, segment: &Segment) -> Reset {
        let is_closing = matches!(state, FIN_WAIT | CLOSE_WAIT | LAST_ACK | TIME_WAIT | CLOSE);
        if is_closing || self.is_liberal != 0 {
            return Reset::Believed;
        }
        let is_established = state == ESTABLISHED;
        let other = &self.sides[1 - SIDE];
        if other.flags & SIDE_ACKNOWLEDGES != 0 && self.last != SYN {
            let expected = other.acknowledged;
            let follows = self.last == ACK
                && usize::from(self.last_side) == SIDE
                && segment.sequence == self.last_end;
            return match segment.sequence {
                // It answers a SYN.
                0 if !is_established => Reset::Checked,
                sequence if before(sequence, expected) => Reset::Refused,
                sequence if is_established && sequence != expected && !follows => Reset::Doubted,
                _ => Reset::Checked,
            };
        }
        // It answers something that was let pass though it made no sense.
        let answers_noted = (replied && self.last == SYN) || (!is_established && self.last == ACK);
        let answers_challenge = state == SYN_SENT
            && self.last == ACK
            && self.last_side == 1
            && segment.sequence == self.last_acknowledgment;
        let acknowledges_noted = segment.is(ACK) && segment.acknowledgment == self.last_end;
        if (answers_noted && acknowledges_noted) || answers_challenge {
            return Reset::Believed;
        }
        Reset::Checked
    }
}

/// What is known of a segment before windows are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What it does.
    pub step: Step,
    /// It does so only if the windows allow it.
    pub is_open: bool,
}

impl Judged {
    const fn closed(step: Step) -> Self {
        Self {
            step,
            is_open: false,
        }
    }
}

/// What a reset is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reset {
    /// It has a number that was acknowledged before.
    Refused,
    /// It ends the connection, wherever the windows are.
    Believed,
    /// It ends the connection if it is inside the windows.
    Checked,
    /// It may end it: its receiver asks.
    Doubted,
}

const fn refused(state: u8) -> Step {
    Step {
        state,
        valid: false,
        counts: false,
    }
}

const fn odd(state: u8) -> Step {
    Step {
        state,
        valid: true,
        counts: false,
    }
}
