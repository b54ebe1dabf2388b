//! Faults that the server commits when it is told to, so that the tests that ought to notice can show that they do. Only a
//! build with the feature `seeded-faults` has any of this.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use clap::ValueEnum;
use runtime::Running;
use smb_proto::Payload;
use smb_state::event::Admin;
use smb_state::storage::{Requester, StorageOp, StorageReply, VolumeCaps};
use storage::driver::{Completion, Driver};
use tokio::signal::unix::{SignalKind, signal};

/// What goes wrong, once for each SIGUSR1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// A write is acknowledged and not carried out.
    DropWrite,
    /// A break that ends a lease's read caching is neither told nor waited for; one in each shard.
    ForgetBreak,
}

/// The next write is dropped.
static DROPS_WRITE: AtomicBool = AtomicBool::new(false);

/// Serves, and commits the fault whenever the signal comes.
pub(crate) async fn beside(handle: &dyn Running, fault: Option<Fault>, serving: impl Future<Output = ()>) {
    let Some(fault) = fault else { return serving.await };
    let signalled = async {
        let mut signal = match signal(SignalKind::user_defined1()) {
            Ok(signal) => signal,
            Err(error) => {
                tracing::error!(%error, "no signal will set off the fault");
                return std::future::pending().await;
            }
        };
        while signal.recv().await.is_some() {
            tracing::warn!(?fault, "set off");
            match fault {
                Fault::DropWrite => DROPS_WRITE.store(true, Ordering::Relaxed),
                Fault::ForgetBreak => handle.reload(&Admin::ForgetBreak),
            }
        }
    };
    tokio::select! {
        () = serving => {}
        () = signalled => {}
    }
}

/// A driver that drops a write when it is time for that.
pub(crate) struct Forgetful<D>(D);

impl<D: Driver> Forgetful<D> {
    pub(crate) fn new(driver: D) -> Self {
        Self(driver)
    }
}

impl<D: Driver> Driver for Forgetful<D> {
    fn caps(&self) -> VolumeCaps {
        self.0.caps()
    }

    fn submit(
        &self,
        requester: &Requester,
        op: StorageOp<Bytes>,
        later: &mut dyn FnMut() -> Completion,
    ) -> Poll<StorageReply<Payload>> {
        if let StorageOp::Write { length, .. } = op
            && DROPS_WRITE.swap(false, Ordering::Relaxed)
        {
            tracing::warn!(length, "a write is dropped");
            return Poll::Ready(StorageReply::Written { length });
        }
        self.0.submit(requester, op, later)
    }
}
