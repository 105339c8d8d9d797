//! A topology in numbers, read from the kernel.

use std::{path::Path, time::SystemTime};

use topology_schema::Name;

use super::{
    Family, Samples, Value,
    catalogue::{
        ATTACHMENT_BYTES, ATTACHMENT_DROPS, ATTACHMENT_PACKETS, DRIFT_OBJECTS, GENERATION,
        LAST_APPLIED, LOCK_HELD, MAP_CAPACITY, MAP_ENTRIES, MAP_FILL_RATIO, PENDING_OBJECTS,
        PORT_BYTES, PORT_DROPS, PORT_PACKETS, PORT_UP, READABLE, READY, STALLED,
    },
};
use crate::{
    journal::History,
    kernel::linux::{self, LinuxKernel},
    status::{Context, Cube, Status, Traffic, overview},
};

/// Adds all topologies, or only one.
pub(super) fn all(bpffs: &Path, history: &History, only: Option<&Name>, samples: &mut Samples) {
    let mut names = linux::topologies(bpffs).unwrap_or_else(|error| {
        tracing::warn!(%error, "topologies not read");
        Vec::new()
    });
    names.retain(|name| only.is_none_or(|only| only == name));
    for name in names {
        let context = Context::read(history, bpffs, &name);
        let status = LinuxKernel::new(name.clone(), bpffs)
            .and_then(|mut kernel| overview(&mut kernel))
            .inspect_err(|error| tracing::warn!(%error, topology = %name, "not read"));
        let status = status.ok().flatten();
        let readable = Value::truth(status.is_some());
        samples.add(&READABLE, &[name.as_str()], readable);
        samples.add(
            &LOCK_HELD,
            &[name.as_str()],
            Value::truth(context.holder.is_some()),
        );
        if let Some(mut status) = status {
            status.add_context(&context);
            topology(&status, &context, samples);
        }
    }
}

fn topology(status: &Status, context: &Context, samples: &mut Samples) {
    let name = status.name.as_str();
    let is = |kind: &str| {
        let mut conditions = status.conditions.iter();
        conditions.any(|condition| condition.kind == kind && condition.status == "True")
    };
    let mut gauge = |family: &Family, value: Value| samples.add(family, &[name], value);
    gauge(&READY, Value::truth(is("Ready")));
    gauge(&STALLED, Value::truth(is("Stalled")));
    gauge(&DRIFT_OBJECTS, Value::count(status.drift_objects()));
    gauge(&PENDING_OBJECTS, Value::count(status.pending.len()));
    if let Some(number) = status.observed_generation {
        gauge(&GENERATION, Value::Gauge(number as f64));
    }
    let applied = context.applied.as_ref().and_then(|applied| {
        let time = applied.ended_at()?;
        time.duration_since(SystemTime::UNIX_EPOCH).ok()
    });
    if let Some(time) = applied {
        gauge(&LAST_APPLIED, Value::Gauge(time.as_secs_f64()));
    }
    for (cube_name, item) in &status.cubes {
        cube(&[name, cube_name.as_str()], item, samples);
    }
}

fn cube(labels: &[&str; 2], cube: &Cube, samples: &mut Samples) {
    let [topology, name] = *labels;
    for (port, item) in &cube.ports {
        let labels = [topology, name, port.as_str()];
        samples.add(&PORT_UP, &labels, Value::truth(item.state.state == "up"));
        let families = [&PORT_PACKETS, &PORT_BYTES, &PORT_DROPS];
        traffic(&labels, families, &item.traffic, samples);
    }
    for (endpoint, item) in &cube.attachments {
        for (path, counted) in [("ingress", &item.ingress), ("egress", &item.egress)] {
            let labels = [topology, name, endpoint.as_str(), path];
            let families = [&ATTACHMENT_PACKETS, &ATTACHMENT_BYTES, &ATTACHMENT_DROPS];
            traffic(&labels, families, counted, samples);
        }
    }
    for (table, fill) in &cube.tables {
        let labels = [topology, name, table.as_str()];
        let capacity = f64::from(fill.capacity);
        samples.add(&MAP_CAPACITY, &labels, Value::Gauge(capacity));
        if let Some(entries) = fill.entries {
            let entries = entries as f64;
            samples.add(&MAP_ENTRIES, &labels, Value::Gauge(entries));
            let ratio = Value::Gauge(entries / capacity.max(1.0));
            samples.add(&MAP_FILL_RATIO, &labels, ratio);
        }
    }
}

/// Packets, bytes and drops of one place.
fn traffic(place: &[&str], families: [&Family; 3], traffic: &Traffic, samples: &mut Samples) {
    let [packets, bytes, drops] = families;
    let with = |last| place.iter().copied().chain([last]).collect::<Vec<&str>>();
    for (direction, volume) in [("rx", traffic.rx), ("tx", traffic.tx)] {
        let labels = with(direction);
        samples.add(packets, &labels, Value::Counter(volume.packets));
        samples.add(bytes, &labels, Value::Counter(volume.bytes));
    }
    for (reason, count) in &traffic.drops {
        samples.add(drops, &with(reason), Value::Counter(*count));
    }
}

impl Value {
    fn truth(value: bool) -> Self {
        Self::Gauge(f64::from(u8::from(value)))
    }

    fn count(value: usize) -> Self {
        Self::Gauge(value as f64)
    }
}
