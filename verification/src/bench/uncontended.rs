//! How long one open takes that nobody hinders, and one for which a lease has to be broken first.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use smb_proto::command::create::{self, CreateDisposition, CreateOptions};
use smb_proto::command::oplock_break::{
    Acknowledgment, LeaseBreak, LeaseBreakFlags, Notification, OplockLevel,
};
use smb_proto::command::{FileId, Request, Response};
use smb_proto::create_context::{LeaseFlags, LeaseKey, LeaseState, LeaseV2, RequestContext, ResponseContext};
use smb_proto::{AccessMask, NtStatus};

use super::bed::Bed;
use super::load::{Count, Gate};
use super::workload::{Case, FILES, file_name};
use crate::client::{Connection, Tree, open};

/// CREATE of an existing file, and CLOSE after the response to it.
pub(super) fn create_close(bed: &Bed, case: Case, worker: usize, gate: &Gate) -> Result<Count> {
    let (mut connection, tree) = bed.connect_tree(case.protection)?;
    let mut count = Count::default();
    let mut number = worker as u64 * FILES / case.connections as u64;
    gate.wait();
    while gate.is_open() {
        number = (number + 1) % FILES;
        let request = open_existing(&file_name("open", number));
        let begun = Instant::now();
        let file_id = connection.create(tree, request)?.file_id;
        connection.close(tree, file_id)?;
        count.add(0, begun);
    }
    Ok(count)
}

/// One client holds a lease of everything on a file, another one opens it: from the second one's CREATE to its response. The
/// first one acknowledges the break at once. Opening for the lease and both CLOSEs are no part of the latency.
pub(super) fn lease_break(bed: &Bed, case: Case, worker: usize, gate: &Gate) -> Result<Count> {
    let (mut holder, holder_tree) = bed.connect_tree(case.protection)?;
    let (mut other, other_tree) = bed.connect_tree(case.protection)?;
    let name = file_name("open", worker as u64);
    let mut count = Count::default();
    gate.wait();
    while gate.is_open() {
        let held = take_lease(&mut holder, holder_tree, &name)?.context("no lease of everything")?;
        let begun = Instant::now();
        let id = other.submit(other_tree, &Request::Create(open_existing(&name)))?;
        other.flush()?;
        acknowledge(&mut holder, holder_tree)?;
        let Response::Create(opened) = other.wait(id)?.success()? else {
            bail!("an answer to another request")
        };
        count.add(0, begun);
        other.close(other_tree, opened.file_id)?;
        holder.close(holder_tree, held)?;
    }
    Ok(count)
}

/// Whether the server grants leases that could be broken.
pub(super) fn grants_leases(bed: &Bed, case: Case) -> Result<bool> {
    let (mut connection, tree) = bed.connect_tree(case.protection)?;
    Ok(take_lease(&mut connection, tree, &file_name("open", 0))?.is_some())
}

fn open_existing(name: &str) -> create::Request {
    let access = AccessMask::FILE_GENERIC_READ.with(AccessMask::FILE_GENERIC_WRITE);
    open(name, access, CreateDisposition::OPEN, CreateOptions::NON_DIRECTORY_FILE)
}

/// Opens a file with a lease of everything. None when the server grants less.
fn take_lease(connection: &mut Connection, tree: Tree, name: &str) -> Result<Option<FileId>> {
    let lease = LeaseV2 {
        key: LeaseKey(*b"the bench's own!"),
        state: LeaseState::READ_HANDLE_WRITE,
        flags: LeaseFlags::EMPTY,
        parent_key: LeaseKey::default(),
        epoch: 0,
    };
    let mut request = open_existing(name);
    request.oplock_level = OplockLevel::LEASE;
    request.contexts.push(RequestContext::LeaseV2(lease));
    let response = connection.create(tree, request)?;
    let granted = response.contexts.iter().any(|context| match context {
        ResponseContext::LeaseV2(granted) => granted.state == LeaseState::READ_HANDLE_WRITE,
        _ => false,
    });
    Ok(granted.then_some(response.file_id))
}

/// Waits for a break and acknowledges it.
fn acknowledge(connection: &mut Connection, tree: Tree) -> Result<()> {
    let broken = loop {
        match connection.take_break() {
            Some(broken) => break broken,
            None => connection.receive_frame()?,
        }
    };
    let Notification::Lease(broken) = broken else { bail!("an oplock broke") };
    if broken.flags.contains(LeaseBreakFlags::ACK_REQUIRED) {
        let answer = LeaseBreak { lease_key: broken.lease_key, lease_state: broken.new_state };
        let request = Request::OplockBreak(Acknowledgment::Lease(answer));
        let reply = connection.submit(tree, &request)?;
        let reply = connection.wait(reply)?;
        anyhow::ensure!(reply.header.status == NtStatus::SUCCESS, "acknowledging: {:?}", reply.header.status);
    }
    Ok(())
}
