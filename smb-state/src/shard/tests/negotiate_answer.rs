//! What a NEGOTIATE response offers (MS-SMB2 3.3.5.4).

use super::*;

/// The capabilities in the answer to a client that has these, and no newer dialect than this one.
fn offered(client: Capabilities, dialect: Dialect) -> Capabilities {
    let request = negotiate::Request { capabilities: client, dialects: vec![dialect], ..negotiate_request() };
    let actions = World::new().send(Command::Negotiate(Box::new(request)));
    let Body::Negotiate(answer) = &response(&actions).body else { panic!("{actions:?}") };
    answer.response.capabilities
}

#[test]
fn directory_leases_are_offered_to_clients_that_know_them() {
    let knows = Capabilities::DIRECTORY_LEASING;
    for dialect in [Dialect::SMB_3_0, Dialect::SMB_3_0_2, Dialect::SMB_3_1_1] {
        assert!(offered(knows, dialect).contains(knows), "{dialect:?}");
        // impacket's CREATE fails on a file in the share's root when it is told of them.
        assert!(!offered(Capabilities::EMPTY, dialect).contains(knows), "{dialect:?}");
        assert!(offered(Capabilities::EMPTY, dialect).contains(Capabilities::LEASING), "{dialect:?}");
    }
    assert!(!offered(knows, Dialect::SMB_2_1).contains(knows));
    assert!(!offered(knows, Dialect::SMB_2_0_2).contains(Capabilities::LEASING));
}
