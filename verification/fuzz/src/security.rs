//! Security descriptors.

/// SIDs, ACLs, descriptors, and what is decided by them.
pub mod security_descriptor {
    use bytes::Bytes;
    use smb_proto::AccessMask;
    use smb_proto::security::access_check::{Token, access_check};
    use smb_proto::security::acl::{Ace, AceFlags, Acl};
    use smb_proto::security::descriptor::{SecurityDescriptor, SecurityInformation};
    use smb_proto::security::inherit::NewObject;
    use smb_proto::security::sid::Sid;

    use crate::shape::{choice, chosen, emitted, round_trip};

    /// The first byte chooses the structure.
    pub fn check(input: &[u8]) {
        let (which, body) = choice(input);
        match which % 3 {
            0 => {
                if let Ok(parsed) = SecurityDescriptor::parse(&body) {
                    decide(&parsed, &body);
                    let emitted = emitted(|out| parsed.emit(out));
                    assert_eq!(emitted.len(), parsed.wire_len());
                    // Presence of lists is a control bit that emitting sets, so that only the second trip is exact.
                    let again = SecurityDescriptor::parse(&emitted.into()).expect("what was emitted");
                    round_trip(&again, SecurityDescriptor::emit, SecurityDescriptor::parse);
                    assert_eq!((again.owner, again.group), (parsed.owner, parsed.group));
                    assert_eq!((again.sacl, again.dacl), (parsed.sacl, parsed.dacl));
                }
            }
            1 => {
                if let Ok(parsed) = Acl::parse(&body) {
                    round_trip(&parsed, Acl::emit, Acl::parse);
                }
            }
            _ => {
                if let Ok(parsed) = Sid::parse(&body) {
                    round_trip(&parsed, Sid::emit, |bytes| Sid::parse(bytes));
                    let text = parsed.to_string();
                    assert_eq!(text.parse::<Sid>().ok().as_ref(), Some(&parsed), "{text}");
                    if let Some((parent, last)) = parsed.split() {
                        assert_eq!(parent.child(last), Some(parsed));
                    }
                }
            }
        }
    }

    fn decide(descriptor: &SecurityDescriptor, bytes: &Bytes) {
        let user = Sid::new(5, &[21, 1, 2, 3, 1000]).expect("a SID");
        let token = Token::new(user, vec![Sid::EVERYONE]);
        let maximum = access_check(descriptor, &token, AccessMask::MAXIMUM_ALLOWED);
        // Bits that no file has are granted as asked where there is no list, and are not part of the maximum.
        for bit in (0..9).chain(16..21) {
            let asked = AccessMask(1 << bit);
            if let (Ok(granted), Ok(maximum)) = (access_check(descriptor, &token, asked), maximum) {
                assert!(
                    maximum.contains(granted),
                    "{granted:?} is granted but not within the maximum {maximum:?}"
                );
            }
        }
        let information = SecurityInformation(u32::from(bytes.last().copied().unwrap_or(0)));
        let _ = descriptor.select(information);
        let _ = descriptor.apply(information, descriptor);
        for container in [false, true] {
            let new = NewObject {
                parent: descriptor,
                creator: None,
                owner: user,
                group: user,
                is_directory: container,
                default_dacl: &Acl::new(Vec::new()),
            };
            let child = new.descriptor();
            let _ = emitted(|out| child.emit(out));
        }
    }

    /// A descriptor with a few entries, its list, its owner.
    pub fn seeds() -> Vec<Vec<u8>> {
        let user = Sid::new(5, &[21, 1, 2, 3, 1000]).expect("a SID");
        let acl = Acl::new(vec![
            Ace::allow(user, AccessMask(0x001F_01FF), AceFlags(3)),
            Ace::deny(Sid::EVERYONE, AccessMask(2), AceFlags(0)),
        ]);
        let descriptor = SecurityDescriptor::new(user, user, acl.clone());
        vec![
            chosen(0, &emitted(|out| descriptor.emit(out))),
            chosen(1, &emitted(|out| acl.emit(out))),
            chosen(2, &emitted(|out| user.emit(out))),
        ]
    }
}
