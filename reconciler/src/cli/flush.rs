//! `pcn flush`

use std::collections::{BTreeMap, BTreeSet};

use topology_schema::Name;

use super::{
    CommandResult, ExitCode, Failure,
    host::{HostArgs, LockArgs},
    output,
};
use crate::{
    address::Address,
    cube::{CubeDriver, driver_for},
    kernel::{self, Kernel},
    plan::Op,
    reconcile,
    resource::{Hook, Program, Template},
    wiring,
};

/// Forget what a cube has learned, such as the sessions of a NAT
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Name of the topology
    #[arg(value_name = "NAME")]
    name: Name,
    /// What to forget: a cube and one of its lists, as in nat/sessions
    #[arg(value_name = "CUBE/LIST")]
    what: String,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    host: HostArgs,
}

impl Args {
    pub(super) fn run(&self) -> CommandResult {
        let Some((cube, list)) = self.what.split_once('/') else {
            let message = format!(
                "`{}` is no list: write the cube and the list, as in nat/sessions",
                self.what
            );
            return Err(Failure::new(ExitCode::Usage, message));
        };
        let _lock = self.host.lock(&self.name, &self.lock)?;
        let mut kernel = self.host.open(&self.name)?;
        let Some(record) = kernel.record()? else {
            return Err(self.host.not_applied(&self.name)?);
        };
        reconcile::check_layout(&record)?;
        let cubes = &record.topology.spec.cubes;
        let Some((name, instance)) = cubes.iter().find(|(name, _)| name.as_str() == cube) else {
            let message = format!("topology {} has no cube `{cube}`", self.name);
            return Err(Failure::new(ExitCode::Error, message));
        };
        let kind = instance.kind();
        let driver = driver_for(kind);
        let (table, put, delete) = if let Some(table) = driver.flushed_table(list) {
            let entries = kernel.read(&wiring::table(name, table))?;
            let keys = entries.into_iter().map(|(key, _)| key).collect();
            (table, BTreeMap::new(), keys)
        } else if let Some((table, key, value)) = driver.flush(list, kernel.now()) {
            let put = BTreeMap::from([(key, Template::plain(value))]);
            (table, put, BTreeSet::new())
        } else {
            let message = format!("cube/{name}: a {kind} has no `{list}` that can be flushed");
            return Err(Failure::new(ExitCode::Error, message));
        };
        kernel.apply(&Op::WriteEntries {
            map: wiring::table(name, table),
            put,
            delete,
        })?;
        sweep(&mut kernel, name, driver, list)?;
        output::print(&format!("Flushed {} of {}.\n", self.what, self.name))?;
        Ok(ExitCode::Done)
    }
}

/// The shortest Ethernet frame.
const FRAME: [u8; 60] = [0; 60];

/// Removes what was forgotten, so that no packet has to.
fn sweep(
    kernel: &mut dyn Kernel,
    cube: &Name,
    driver: &dyn CubeDriver,
    list: &str,
) -> kernel::Result<()> {
    let mut first = |table: &str| {
        let entries = kernel.read(&wiring::table(cube, table)).ok()?;
        entries.into_iter().next()?.1.into_iter().next()
    };
    let Some(sweep) = driver.sweep(list, &mut first) else {
        return Ok(());
    };
    let tables = sweep.tables.iter();
    let program = Program {
        owner: Address::cube(cube),
        object: driver.object(),
        hook: Hook::Tc,
        part: sweep.part,
        globals: sweep.globals,
        maps: tables
            .map(|table| (*table, wiring::table(cube, table)))
            .collect(),
    };
    kernel.run(&program, &FRAME, sweep.times)
}
