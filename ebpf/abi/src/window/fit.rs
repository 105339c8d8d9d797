//! Comparing a segment with the windows, and moving them.

use super::{SIDE_ACKNOWLEDGES, SIDE_SCALES, Segment, Side, Windows, before};
use crate::tcp::{ACK, RST, SYN, SYN_RECV, SYN_SENT};

/// How far behind what was sent an acknowledgement may be, in bytes: a window without scaling, and a bit
/// more.
const OLDEST: u32 = 66_000;

/// What a segment is to the windows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// Inside.
    In,
    /// Outside, but its receiver may have reason to answer: it changes nothing.
    Odd,
    /// Outside.
    Out,
}

impl Windows {
    /// Compares a segment with the windows, and moves them.
    #[inline(always)]
    pub(super) fn fit<const SIDE: usize>(&mut self, state: u8, segment: &Segment) -> Fit {
        if self.is_liberal != 0 {
            return Fit::In;
        }
        if self.meets_first::<SIDE>(state, segment) {
            return Fit::In;
        }
        let (sender, receiver) = (self.sides[SIDE], self.sides[1 - SIDE]);
        let (mut sequence, mut end) = (segment.sequence, segment.end());
        let (mut acknowledgment, mut selective) = (segment.acknowledgment, segment.selective);
        if !segment.is(ACK) || (segment.is(RST) && acknowledgment == 0) {
            // It says nothing.
            (acknowledgment, selective) = (receiver.end, receiver.end);
        }
        if segment.is(RST) && sequence == 0 && state == SYN_SENT {
            // It answers a SYN (RFC 9293, 3.10.7.1).
            (sequence, end) = (sender.end, sender.end);
        }
        // Each is asked for where it decides, and not kept: the verifier would follow all combinations.
        let is_near = |end: u32| !before(end, sender.end.wrapping_sub(receiver.window));
        let oldest = receiver.end.wrapping_sub(sender.window.max(OLDEST));
        if before(receiver.end, selective) {
            // It was not sent.
            return Fit::Out;
        }
        if before(sender.limit, sequence) {
            let over = end.wrapping_sub(sender.limit).wrapping_add(1);
            if receiver.window == 0 || !is_near(end) || before(selective, oldest) {
                return Fit::Out;
            }
            if over > receiver.window {
                return Fit::Out;
            }
            // More than was offered: if the receiver takes it nevertheless, what it answers must fit.
            self.sides[SIDE].end = end;
            return Fit::Odd;
        }
        if (receiver.window != 0 && !is_near(end)) || before(selective, oldest) {
            return Fit::Odd;
        }
        self.moves::<SIDE>(segment, end, acknowledgment, selective);
        Fit::In
    }

    /// The first that is seen of a side, or a SYN that is sent again with other numbers. True if there is nothing to
    /// compare.
    #[inline(always)]
    fn meets_first<const SIDE: usize>(&mut self, state: u8, segment: &Segment) -> bool {
        let (sender, receiver) = (self.sides[SIDE], self.sides[1 - SIDE]);
        let is_first = sender.window == 0;
        let begins_anew = segment.is(SYN)
            && before(sender.end, segment.end())
            && matches!(state, SYN_SENT | SYN_RECV);
        if segment.is(SYN) && (is_first || begins_anew) {
            self.sides[SIDE].begin(segment);
            if SIDE == 1 && self.sides[1].flags & receiver.flags & SIDE_SCALES == 0 {
                // Both must want to (RFC 7323, 2.2).
                self.sides[0].scale = 0;
                self.sides[1].scale = 0;
            }
            return !segment.is(ACK) && (is_first || SIDE == 1);
        }
        if is_first {
            let end = segment.end();
            let window = (u32::from(segment.window) << (sender.scale & 15)).max(1);
            self.sides[SIDE].end = end;
            self.sides[SIDE].window = window;
            self.sides[SIDE].limit = end.wrapping_add(window);
            if receiver.window == 0 {
                self.sides[1 - SIDE].end = segment.selective;
                self.sides[1 - SIDE].limit = segment.selective;
            } else if segment.selective == receiver.end.wrapping_add(1) {
                // The answer to a probe that we have not seen.
                self.sides[1 - SIDE].end = segment.selective;
            }
        }
        false
    }

    /// A segment that is inside moves what is expected. Only what changes is written: two CPUs may do this at once, for the
    /// two directions.
    #[inline(always)]
    fn moves<const SIDE: usize>(
        &mut self,
        segment: &Segment,
        end: u32,
        acknowledgment: u32,
        selective: u32,
    ) {
        let (sender, receiver) = (self.sides[SIDE], self.sides[1 - SIDE]);
        let scale = if segment.is(SYN) {
            0
        } else {
            sender.scale & 15
        };
        let window = u32::from(segment.window) << scale;
        let offered = window.wrapping_add(selective.wrapping_sub(acknowledgment));
        if sender.window < offered {
            self.sides[SIDE].window = offered;
        }
        if before(sender.end, end) {
            self.sides[SIDE].end = end;
        }
        let is_first = sender.flags & SIDE_ACKNOWLEDGES == 0;
        if segment.is(ACK) && (is_first || before(sender.acknowledged, acknowledgment)) {
            self.sides[SIDE].acknowledged = acknowledgment;
            self.sides[SIDE].flags = sender.flags | SIDE_ACKNOWLEDGES;
        }
        if receiver.window != 0 && before(sender.limit, end) {
            let more = end.wrapping_sub(sender.limit);
            self.sides[1 - SIDE].window = receiver.window.wrapping_add(more);
        }
        let limit = selective.wrapping_add(window);
        if !before(limit, receiver.limit) {
            // A window of nothing may be probed with one byte (RFC 9293, 3.8.6.1).
            self.sides[1 - SIDE].limit = limit.wrapping_add(u32::from(window == 0));
        }
        if segment.kind() == ACK {
            self.last_end = end;
        }
    }
}

impl Side {
    /// What a SYN says of the side that sends it. Its window is not scaled (RFC 7323, 2.2).
    #[inline(always)]
    pub(super) fn begin(&mut self, segment: &Segment) {
        self.end = segment.end();
        self.limit = self.end;
        self.window = u32::from(segment.window).max(1);
        self.scale = segment.scale;
        self.flags = segment.offers;
    }
}
