use super::*;

fn every_request_context() -> Vec<RequestContext> {
    let file_id = FileId { persistent: 7, volatile: 8 };
    let flags = DurableFlags::PERSISTENT;
    let (key, state) = (LeaseKey([1; 16]), LeaseState::READ_HANDLE);
    vec![
        RequestContext::EaBuffer(Bytes::from_static(b"eas")),
        RequestContext::SdBuffer(Bytes::from_static(b"descriptor")),
        RequestContext::DurableHandleRequest,
        RequestContext::DurableHandleReconnect(file_id),
        RequestContext::DurableHandleRequestV2(DurableRequestV2 {
            timeout_ms: 60_000,
            flags,
            create_guid: [2; 16],
        }),
        RequestContext::DurableHandleReconnectV2(DurableReconnectV2 { file_id, create_guid: [2; 16], flags }),
        RequestContext::AllocationSize(4096),
        RequestContext::QueryMaximalAccess(None),
        RequestContext::QueryMaximalAccess(Some(FileTime(5))),
        RequestContext::TimewarpToken(FileTime(6)),
        RequestContext::QueryOnDiskId,
        RequestContext::Lease(LeaseV1 { key, state, flags: LeaseFlags::EMPTY }),
        RequestContext::LeaseV2(LeaseV2 {
            key,
            state,
            flags: LeaseFlags::PARENT_LEASE_KEY_SET,
            parent_key: LeaseKey([3; 16]),
            epoch: 9,
        }),
        RequestContext::AppInstanceId([4; 16]),
        RequestContext::AppInstanceVersion(AppInstanceVersion { high: 1, low: 2 }),
        RequestContext::SvhdxOpenDevice(Bytes::from_static(&[1; 168])),
        RequestContext::Unknown { name: Bytes::from_static(b"AAPL"), data: Bytes::from_static(&[1, 2, 3]) },
    ]
}

fn every_response_context() -> Vec<ResponseContext> {
    let (key, state) = (LeaseKey([1; 16]), LeaseState::READ_HANDLE_WRITE);
    vec![
        ResponseContext::DurableHandle,
        ResponseContext::DurableHandleV2(DurableResponseV2 {
            timeout_ms: 180_000,
            flags: DurableFlags::EMPTY,
        }),
        ResponseContext::MaximalAccess(MaximalAccess {
            query_status: NtStatus::SUCCESS,
            maximal_access: AccessMask::FILE_ALL_ACCESS,
        }),
        ResponseContext::OnDiskId(OnDiskId { disk_file_id: 11, volume_id: 12 }),
        ResponseContext::Lease(LeaseV1 { key, state, flags: LeaseFlags::BREAK_IN_PROGRESS }),
        ResponseContext::LeaseV2(LeaseV2 {
            key,
            state,
            flags: LeaseFlags::EMPTY,
            parent_key: LeaseKey::default(),
            epoch: u16::MAX,
        }),
        ResponseContext::SvhdxOpenDevice(Bytes::from_static(&[1; 192])),
        ResponseContext::Unknown { name: Bytes::from_static(b"AAPL"), data: Bytes::new() },
    ]
}

fn request_chain(contexts: &[RequestContext]) -> Vec<u8> {
    let mut out = Vec::new();
    RequestContext::emit_chain(contexts, &mut out);
    out
}

#[test]
fn chains_make_the_round_trip() {
    let requests = every_request_context();
    assert_eq!(RequestContext::parse_chain(&request_chain(&requests).into()), Ok(requests));
    let responses = every_response_context();
    let mut out = Vec::new();
    ResponseContext::emit_chain(&responses, &mut out);
    assert_eq!(ResponseContext::parse_chain(&out.into()), Ok(responses));
    assert_eq!(RequestContext::parse_chain(&Bytes::new()), Ok(Vec::new()));
}

#[test]
fn truncated_chains_are_refused() {
    let mut responses = Vec::new();
    ResponseContext::emit_chain(&every_response_context(), &mut responses);
    let requests = Bytes::from(request_chain(&every_request_context()));
    let responses = Bytes::from(responses);
    for length in 1..requests.len() {
        assert!(RequestContext::parse_chain(&requests.slice(..length)).is_err(), "{length}");
    }
    // The last context has no data, so that only the padding behind its name is spared.
    for length in 1..responses.len() - 4 {
        assert!(ResponseContext::parse_chain(&responses.slice(..length)).is_err(), "{length}");
    }
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let contexts = [
        RequestContext::QueryMaximalAccess(None),
        RequestContext::Lease(LeaseV1 {
            key: LeaseKey(*b"0123456789abcdef"),
            state: LeaseState::READ_HANDLE_WRITE,
            flags: LeaseFlags::EMPTY,
        }),
    ];
    let mut expected = Vec::new();
    expected.extend_from_slice(&[24, 0, 0, 0, 16, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(b"MxAc\0\0\0\0");
    expected.extend_from_slice(&[0, 0, 0, 0, 16, 0, 4, 0, 0, 0, 24, 0, 32, 0, 0, 0]);
    expected.extend_from_slice(b"RqLs\0\0\0\x000123456789abcdef\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(request_chain(&contexts), expected);
}

#[test]
fn next_has_to_lead_forward() {
    let chain = request_chain(&[RequestContext::QueryOnDiskId, RequestContext::QueryOnDiskId]);
    for next in [1_u32, 8, 15, 20, 28, 48, 56, 0x8000_0000, u32::MAX] {
        let mut hostile = chain.clone();
        hostile[..4].copy_from_slice(&next.to_le_bytes());
        assert!(RequestContext::parse_chain(&hostile.into()).is_err(), "{next}");
    }
}

#[test]
fn parts_outside_their_context_are_refused() {
    let chain = request_chain(&[RequestContext::AllocationSize(1), RequestContext::QueryOnDiskId]);
    // The second context's bytes are inside the chain, but not the first one's to use.
    for (position, value) in [(4, 30_u8), (6, 3), (6, 0), (6, 200), (10, 32), (12, 9), (15, 0xFF)] {
        let mut hostile = chain.clone();
        hostile[position] = value;
        assert!(RequestContext::parse_chain(&hostile.into()).is_err(), "{position}: {value}");
    }
}

#[test]
fn known_contexts_have_one_size() {
    for context in every_request_context() {
        let any_size = matches!(
            context,
            RequestContext::EaBuffer(_)
                | RequestContext::SdBuffer(_)
                | RequestContext::SvhdxOpenDevice(_)
                | RequestContext::Unknown { .. }
        );
        for length in [1, 7, 9, 15, 17, 31, 33, 35, 51, 53] {
            let data = Bytes::from(vec![0; length]);
            let resized = RequestContext::Unknown { name: Bytes::copy_from_slice(context.name()), data };
            let parsed = RequestContext::parse_chain(&request_chain(&[resized]).into());
            assert_eq!(parsed.is_ok(), any_size, "{context:?}: {length}");
        }
    }
}

#[test]
fn the_number_of_contexts_is_bounded() {
    let at_most = vec![RequestContext::QueryOnDiskId; CONTEXTS_MAX];
    assert!(RequestContext::parse_chain(&request_chain(&at_most).into()).is_ok());
    let too_many = vec![RequestContext::QueryOnDiskId; CONTEXTS_MAX + 1];
    assert!(RequestContext::parse_chain(&request_chain(&too_many).into()).is_err());
}

#[test]
fn versions_compare_as_numbers() {
    let version = |high, low| AppInstanceVersion { high, low };
    assert!(version(1, 0) > version(0, u64::MAX) && version(1, 1) > version(1, 0));
}
