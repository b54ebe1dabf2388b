//! The suite that every runtime adapter passes: what a client sees is the same under each of them.
//!
//! `strangers` has what connections may cost and what is left when a server stops; `files` serves files from a memory volume,
//! from a directory, and from a volume that answers late.

mod files;
mod strangers;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::{Bounds, Cores, Running, ServerConfig};
use smb_proto::auth::AcceptorConfig;
use smb_proto::auth::ntlm::compute::nt_hash;
use smb_proto::command::negotiate::Dialect;
use smb_proto::crypto::{CipherAlgorithm, Portable, SigningAlgorithm};
use smb_state::config::{Config, Encryption, Limits, Share};
use smb_state::endpoint::surroundings::{Lookup, Users};
use smb_state::event::{Identity, Peer};
use storage::table::VolumeTable;

const PATIENCE: Duration = Duration::from_secs(20);
const CORES: usize = 2;

/// How an adapter starts a server.
type Start = fn(ServerConfig) -> io::Result<Box<dyn Running>>;

fn tokio_server(config: ServerConfig) -> io::Result<Box<dyn Running>> {
    Ok(Box::new(runtime_tokio::Server::start(config)?))
}

#[cfg(target_os = "linux")]
fn glommio_server(config: ServerConfig) -> io::Result<Box<dyn Running>> {
    Ok(Box::new(runtime_glommio::Server::start(config)?))
}

/// Makes a test of each case under each runtime.
macro_rules! under_each_runtime {
    ($($case:path as $name:ident),+ $(,)?) => {
        mod tokio {
            $(#[test] fn $name() { $case(crate::tokio_server); })+
        }
        #[cfg(target_os = "linux")]
        mod glommio {
            $(#[test] fn $name() { $case(crate::glommio_server); })+
        }
    };
}

under_each_runtime! {
    crate::strangers::requests_are_answered_however_they_are_cut as requests_are_answered_however_they_are_cut,
    crate::strangers::a_client_that_sends_the_length_apart_does_not_wait
        as a_client_that_sends_the_length_apart_does_not_wait,
    crate::strangers::what_is_no_frame_ends_the_connection as what_is_no_frame_ends_the_connection,
    crate::strangers::a_peer_that_does_not_authenticate_is_not_kept as a_peer_that_does_not_authenticate_is_not_kept,
    crate::strangers::strangers_share_a_bound_on_memory as strangers_share_a_bound_on_memory,
    crate::strangers::a_peer_that_takes_nothing_costs_bounded_memory_and_time
        as a_peer_that_takes_nothing_costs_bounded_memory_and_time,
    crate::strangers::connections_are_spread_over_cores_and_stopping_ends_them
        as connections_are_spread_over_cores_and_stopping_ends_them,
    crate::strangers::a_dropped_handle_stops_the_server as a_dropped_handle_stops_the_server,
    crate::strangers::a_flood_leaves_others_their_turn as a_flood_leaves_others_their_turn,
    crate::strangers::a_port_in_use_is_an_error_and_leaves_nothing_behind
        as a_port_in_use_is_an_error_and_leaves_nothing_behind,
    crate::strangers::cores_can_be_bound_to_processors_that_exist as cores_can_be_bound_to_processors_that_exist,
    crate::files::memory_serves_every_protection as memory_serves_every_protection,
    crate::files::posix_serves_every_protection as posix_serves_every_protection,
    crate::files::files_that_always_wait_serve_every_protection as files_that_always_wait_serve_every_protection,
    crate::files::late_answers_serve_every_protection as late_answers_serve_every_protection,
    crate::files::cores_agree_about_names_on_memory as cores_agree_about_names_on_memory,
    crate::files::cores_agree_about_names_on_posix as cores_agree_about_names_on_posix,
    crate::files::what_follows_a_change_builds_on_it as what_follows_a_change_builds_on_it,
    crate::files::clients_that_vanish_leave_nothing as clients_that_vanish_leave_nothing,
    crate::files::clients_that_vanish_from_a_slow_volume_leave_nothing
        as clients_that_vanish_from_a_slow_volume_leave_nothing,
    crate::files::an_order_has_reached_every_shard_when_it_returns
        as an_order_has_reached_every_shard_when_it_returns,
    crate::files::stopping_cuts_off_open_files as stopping_cuts_off_open_files,
}

const USER: &str = "ann";
const PASSWORD: &str = "correct horse";

struct OneUser;

impl Users for OneUser {
    fn look_up(&self, name: &str, _: &str, _: Peer) -> Lookup {
        match name {
            USER => Lookup::Known {
                nt_hash: *nt_hash(PASSWORD).expose(),
                identity: Identity::User { name: USER.into(), number: 1000 },
            },
            _ => Lookup::Unknown,
        }
    }

    fn record(&self, _: &str, _: Peer, _: bool) {}

    fn anonymous(&self) -> Option<Identity> {
        None
    }
}

fn config(limits: Limits, bounds: Bounds) -> ServerConfig {
    ServerConfig {
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        core: Config {
            server_guid: [1; 16],
            incarnation: 1,
            shards: CORES as u16,
            dialects: (Dialect::SMB_2_0_2, Dialect::SMB_3_1_1),
            signers: vec![SigningAlgorithm::AesGmac, SigningAlgorithm::AesCmac, SigningAlgorithm::HmacSha256],
            ciphers: vec![CipherAlgorithm::Aes128Gcm],
            signing_required: true,
            encryption: Encryption::Possible,
            limits,
            shares: Vec::new(),
            interfaces: Vec::new(),
        },
        names: AcceptorConfig {
            netbios_computer: "TEST".into(),
            netbios_domain: "TEST".into(),
            dns_computer: "test".into(),
            dns_domain: "test".into(),
        },
        volumes: Arc::new(VolumeTable::new()),
        users: Arc::new(OneUser),
        provider: Arc::new(Portable),
        cores: Cores::Count(CORES),
        bounds,
        store: None,
    }
}

fn config_with(shares: Vec<Share>, volumes: Arc<VolumeTable>) -> ServerConfig {
    let mut config = config(Limits::default(), Bounds::default());
    config.core.shares = shares;
    config.volumes = volumes;
    config
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}
