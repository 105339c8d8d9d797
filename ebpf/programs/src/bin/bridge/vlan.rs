//! VLANs: to which one a frame belongs, and with which tag it leaves (IEEE 802.1Q-2022, 6.9, 8.6
//! and 8.8).

use aya_ebpf::{macros::map, maps::Array};
use ebpf_abi::{
    address::Be16,
    bridge::{
        FEATURE_SNOOPING, FEATURE_VLANS, PORT_VLAN_TAGGED, PORT_VLAN_UNAWARE, PortVlans,
        TCI_PRIORITY, TCI_VLAN,
    },
    chain::{MIN_PORTS, in_bank},
    counters::DropReason,
};
use ebpf_programs::{
    Packet, Result,
    packet::Tag,
    wire::{ETHERTYPE_VLAN, Ethernet},
};

use crate::has;

/// The VLANs of each port. Once per bank.
#[map(name = "vlans")]
static VLANS: Array<PortVlans> = Array::with_max_entries(in_bank(MIN_PORTS, 0), 0);

/// True if the bridge looks at tags.
#[inline(always)]
pub fn aware() -> bool {
    has(FEATURE_VLANS)
}

/// The frame's VLAN, and its tag as it is now.
#[derive(Clone, Copy)]
pub struct Frame {
    /// 1 to 4094; 0 on a bridge that does not look at tags.
    pub vlan: u16,
    /// The frame has a tag that says so (or that gives a priority alone).
    tagged: bool,
    /// The identifier in that tag.
    tag: u16,
    /// Priority code point and drop eligible indicator that it came with.
    priority: u16,
    /// What it carries is tagged as well.
    carries_tag: bool,
    /// The type of what it carries as it came in, and where that begins.
    pub ethertype: Be16,
    pub offset: u16,
}

/// How a port sends the frames of a VLAN.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Form {
    /// Not at all.
    Never = 0,
    Untagged = 1,
    Tagged = 2,
}

#[inline(always)]
fn port<P: Packet>(packet: &P, index: u32) -> Result<&'static PortVlans> {
    VLANS
        .get(in_bank(index, packet.bank()))
        .ok_or(DropReason::NotLinked)
}

impl Frame {
    /// Finds out to which VLAN a frame belongs that came in at port `input` (6.9, 8.6.2).
    #[inline(always)]
    pub fn classify<P: Packet>(packet: &P, ethernet: &Ethernet, input: u32) -> Result<Self> {
        if !aware() {
            if !has(FEATURE_SNOOPING) {
                return Ok(Self::on(0, Tag::none(ethernet.ethertype)));
            }
            return Ok(Self::on(0, packet.customer_tag(ethernet)?));
        }
        let port = port(packet, input)?;
        let tag = packet.customer_tag(ethernet)?;
        if port.flags & PORT_VLAN_UNAWARE != 0 {
            return Ok(Self::on(port.untagged, tag));
        }
        let id = tag.control & TCI_VLAN;
        let vlan = if id == 0 {
            port.untagged
        } else if port.flags & PORT_VLAN_TAGGED != 0 {
            id
        } else {
            0
        };
        if vlan == 0 || !port.carries(vlan) {
            return Err(DropReason::VlanNotAllowed);
        }
        Ok(Self {
            vlan,
            tagged: tag.present,
            tag: id,
            priority: tag.control & TCI_PRIORITY,
            carries_tag: tag.ethertype == ETHERTYPE_VLAN,
            ethertype: tag.ethertype,
            offset: tag.offset,
        })
    }

    /// A frame on a port that does not look at tags: what it has is part of what it carries.
    #[inline(always)]
    fn on(vlan: u16, tag: Tag) -> Self {
        Self {
            vlan,
            tagged: false,
            tag: 0,
            priority: 0,
            carries_tag: tag.present,
            ethertype: if tag.present {
                ETHERTYPE_VLAN
            } else {
                tag.ethertype
            },
            offset: tag.offset,
        }
    }

    /// How the frame leaves at port `output` (8.6.4, 8.8.2).
    #[inline(always)]
    pub fn form<P: Packet>(&self, packet: &P, output: u32) -> Form {
        let Ok(port) = port(packet, output) else {
            return Form::Never;
        };
        if !port.carries(self.vlan) {
            return Form::Never;
        }
        if port.flags & PORT_VLAN_TAGGED == 0 {
            return Form::Untagged;
        }
        if port.untagged != self.vlan {
            return Form::Tagged;
        }
        // Without our tag, the one that it carries would say that it belongs to another VLAN.
        if self.carries_tag {
            return Form::Never;
        }
        Form::Untagged
    }

    /// Gives the frame the tag with which it leaves at port `output`.
    #[inline(always)]
    pub fn leave<P: Packet>(&mut self, packet: &P, output: u32) -> Result<()> {
        match self.form(packet, output) {
            Form::Never => Err(DropReason::VlanNotAllowed),
            form => self.take(packet, form),
        }
    }

    /// Changes the tag.
    #[inline(always)]
    pub fn take<P: Packet>(&mut self, packet: &P, form: Form) -> Result<()> {
        if form == Form::Tagged && self.tagged && self.tag == self.vlan {
            return Ok(());
        }
        if self.tagged {
            packet.pop_tag()?;
            self.tagged = false;
        }
        if form == Form::Tagged {
            packet.push_tag(self.priority | self.vlan)?;
            self.tagged = true;
            self.tag = self.vlan;
        }
        Ok(())
    }

    /// The form it has now, after a tag that gives a priority alone was taken away.
    #[inline(always)]
    pub fn settle<P: Packet>(&mut self, packet: &P) -> Result<Form> {
        let form = if self.tagged && self.tag != 0 {
            Form::Tagged
        } else {
            Form::Untagged
        };
        self.take(packet, form)?;
        Ok(form)
    }
}
