//! The three messages (MS-NLMP 2.2.1) and the structures in them (2.2.2).

use binrw::binrw;

use crate::error::Malformed;
use crate::name::Name;
use crate::time::FileTime;
use crate::wire;

/// NegotiateFlags (MS-NLMP 2.2.2.5); undefined bits are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u32);

impl Flags {
    /// Strings are UTF-16.
    pub const UNICODE: Self = Self(0x0000_0001);
    /// Strings are in the machine's code page.
    pub const OEM: Self = Self(0x0000_0002);
    /// TargetName is asked for, or present.
    pub const REQUEST_TARGET: Self = Self(0x0000_0004);
    /// Session keys for signing.
    pub const SIGN: Self = Self(0x0000_0010);
    /// Session keys for encryption.
    pub const SEAL: Self = Self(0x0000_0020);
    /// LM session keys.
    pub const LM_KEY: Self = Self(0x0000_0080);
    /// NTLM is in use.
    pub const NTLM: Self = Self(0x0000_0200);
    /// The client is anonymous.
    pub const ANONYMOUS: Self = Self(0x0000_0800);
    /// DomainName is present in NEGOTIATE.
    pub const OEM_DOMAIN_SUPPLIED: Self = Self(0x0000_1000);
    /// Workstation is present in NEGOTIATE.
    pub const OEM_WORKSTATION_SUPPLIED: Self = Self(0x0000_2000);
    /// Session keys whatever SIGN and SEAL say.
    pub const ALWAYS_SIGN: Self = Self(0x0000_8000);
    /// TargetName is a domain.
    pub const TARGET_TYPE_DOMAIN: Self = Self(0x0001_0000);
    /// TargetName is a server.
    pub const TARGET_TYPE_SERVER: Self = Self(0x0002_0000);
    /// Extended session security: separate keys for each direction.
    pub const EXTENDED_SESSION_SECURITY: Self = Self(0x0008_0000);
    /// TargetInfo is present.
    pub const TARGET_INFO: Self = Self(0x0080_0000);
    /// Version is present.
    pub const VERSION: Self = Self(0x0200_0000);
    /// 128-bit keys.
    pub const KEY_128: Self = Self(0x2000_0000);
    /// The client chooses the session key.
    pub const KEY_EXCHANGE: Self = Self(0x4000_0000);
    /// 56-bit keys.
    pub const KEY_56: Self = Self(0x8000_0000);

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether some bit of `other` is set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits that both have.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// VERSION (MS-NLMP 2.2.2.10): for debugging only.
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Version {
    /// Major version of Windows.
    pub major: u8,
    /// Minor version of Windows.
    pub minor: u8,
    /// Build of Windows.
    pub build: u16,
    reserved: [u8; 3],
    /// Revision of NTLM; 15 for every one since 2003.
    pub revision: u8,
}

impl Version {
    /// A version with the current revision of NTLM.
    #[must_use]
    pub const fn new(major: u8, minor: u8, build: u16) -> Self {
        Self { major, minor, build, reserved: [0; 3], revision: 15 }
    }
}

/// Length and position of a part of the payload.
#[binrw]
#[brw(little)]
#[derive(Clone, Copy, Debug, Default)]
struct Field {
    length: u16,
    length_max: u16,
    offset: u32,
}

impl Field {
    fn of(self, message: &[u8]) -> Result<&[u8], Malformed> {
        if self.length == 0 {
            return Ok(&[]);
        }
        let outside = Malformed("NTLM: field outside its message");
        let start = usize::try_from(self.offset).map_err(|_| outside)?;
        let end = start.checked_add(usize::from(self.length)).ok_or(outside)?;
        message.get(start..end).ok_or(outside)
    }

    fn name(self, message: &[u8]) -> Result<Name, Malformed> {
        Name::from_wire(self.of(message)?)
    }

    /// Describes `bytes` at `offset`, which moves behind them. Parts longer than a field can say are cut.
    fn place(bytes: &[u8], offset: &mut usize) -> Self {
        let length = wire::length_u16(bytes.len());
        let field = Self { length, length_max: length, offset: wire::length_u32(*offset) };
        *offset = offset.saturating_add(usize::from(length));
        field
    }
}

fn put_parts(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part.get(..usize::from(u16::MAX)).unwrap_or(part));
    }
}

fn name_bytes(name: &Name) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_utf16(&mut out, name.units());
    out
}

#[binrw]
#[brw(little, magic = b"NTLMSSP\0")]
struct NegotiateFixed {
    #[br(assert(message_type == 1))]
    message_type: u32,
    flags: u32,
}

#[binrw]
#[brw(little)]
#[derive(Default)]
struct NegotiateFields {
    domain: Field,
    workstation: Field,
}

/// NEGOTIATE_MESSAGE (MS-NLMP 2.2.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Negotiate {
    /// What the client offers.
    pub flags: Flags,
    /// The client's domain, in its code page; empty unless its flag is set.
    pub domain: Vec<u8>,
    /// The client's name, in its code page; empty unless its flag is set.
    pub workstation: Vec<u8>,
    /// The client's version, when its flag is set.
    pub version: Option<Version>,
}

impl Negotiate {
    const SIZE: usize = 40;

    /// Reads a message. What follows the flags may be missing, as old clients leave it out.
    ///
    /// # Errors
    /// [`Malformed`] for another message, or a field outside it.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let fixed: NegotiateFixed = wire::fixed(message, 0, "NTLM NEGOTIATE")?;
        let flags = Flags(fixed.flags);
        let fields: NegotiateFields = wire::fixed(message, 16, "NTLM NEGOTIATE").unwrap_or_default();
        let supplied = |flag, field: Field| {
            if flags.contains(flag) { field.of(message).map(<[u8]>::to_vec) } else { Ok(Vec::new()) }
        };
        let version = match flags.contains(Flags::VERSION) {
            true => wire::fixed(message, 32, "NTLM VERSION").ok(),
            false => None,
        };
        Ok(Self {
            flags,
            domain: supplied(Flags::OEM_DOMAIN_SUPPLIED, fields.domain)?,
            workstation: supplied(Flags::OEM_WORKSTATION_SUPPLIED, fields.workstation)?,
            version,
        })
    }

    /// The message. The flags that tell which parts are present follow from the parts.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut flags = self.flags;
        for (flag, present) in [
            (Flags::OEM_DOMAIN_SUPPLIED, !self.domain.is_empty()),
            (Flags::OEM_WORKSTATION_SUPPLIED, !self.workstation.is_empty()),
            (Flags::VERSION, self.version.is_some()),
        ] {
            flags = Flags(if present { flags.0 | flag.0 } else { flags.0 & !flag.0 });
        }
        let mut offset = Self::SIZE;
        let mut place = |bytes: &[u8]| match bytes {
            [] => Field::default(),
            bytes => Field::place(bytes, &mut offset),
        };
        let fields = NegotiateFields { domain: place(&self.domain), workstation: place(&self.workstation) };
        let mut out = Vec::new();
        wire::put(&mut out, &NegotiateFixed { message_type: 1, flags: flags.0 });
        wire::put(&mut out, &fields);
        wire::put(&mut out, &self.version.unwrap_or_default());
        put_parts(&mut out, &[&self.domain, &self.workstation]);
        out
    }
}

#[binrw]
#[brw(little, magic = b"NTLMSSP\0")]
struct ChallengeFixed {
    #[br(assert(message_type == 2))]
    message_type: u32,
    target_name: Field,
    flags: u32,
    server_challenge: [u8; 8],
    reserved: u64,
    target_info: Field,
}

/// CHALLENGE_MESSAGE (MS-NLMP 2.2.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// What the server chose.
    pub flags: Flags,
    /// The nonce.
    pub server_challenge: [u8; 8],
    /// The server's name or its domain's.
    pub target_name: Name,
    /// What the server says of itself.
    pub target_info: AvPairs,
    /// The server's version, when its flag is set.
    pub version: Option<Version>,
}

impl Challenge {
    const SIZE: usize = 56;

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] for another message, a field outside it, strings that are not UTF-16.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let fixed: ChallengeFixed = wire::fixed(message, 0, "NTLM CHALLENGE")?;
        let flags = Flags(fixed.flags);
        if !flags.contains(Flags::UNICODE) {
            return Err(Malformed("NTLM CHALLENGE: not Unicode"));
        }
        let target_info = match fixed.target_info.of(message)? {
            [] => AvPairs::default(),
            bytes => AvPairs::parse(bytes)?,
        };
        let version = match flags.contains(Flags::VERSION) {
            true => Some(wire::fixed(message, 48, "NTLM VERSION")?),
            false => None,
        };
        let target_name = fixed.target_name.name(message)?;
        Ok(Self { flags, server_challenge: fixed.server_challenge, target_name, target_info, version })
    }

    /// The message.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let target_name = name_bytes(&self.target_name);
        let target_info = if self.target_info.0.is_empty() { Vec::new() } else { self.target_info.emit() };
        let version_flag = if self.version.is_some() { Flags::VERSION.0 } else { 0 };
        let mut offset = Self::SIZE;
        let fixed = ChallengeFixed {
            message_type: 2,
            target_name: Field::place(&target_name, &mut offset),
            flags: self.flags.0 & !Flags::VERSION.0 | version_flag,
            server_challenge: self.server_challenge,
            reserved: 0,
            target_info: Field::place(&target_info, &mut offset),
        };
        let mut out = Vec::new();
        wire::put(&mut out, &fixed);
        wire::put(&mut out, &self.version.unwrap_or_default());
        put_parts(&mut out, &[&target_name, &target_info]);
        out
    }
}

#[binrw]
#[brw(little, magic = b"NTLMSSP\0")]
struct AuthenticateFixed {
    #[br(assert(message_type == 3))]
    message_type: u32,
    lm_response: Field,
    nt_response: Field,
    domain: Field,
    user: Field,
    workstation: Field,
    session_key: Field,
    flags: u32,
}

/// AUTHENTICATE_MESSAGE (MS-NLMP 2.2.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticate {
    /// LmChallengeResponse.
    pub lm_response: Vec<u8>,
    /// NtChallengeResponse: proof and [`ClientChallenge`].
    pub nt_response: Vec<u8>,
    /// The user's domain.
    pub domain: Name,
    /// The user; empty for an anonymous client.
    pub user: Name,
    /// The client's name.
    pub workstation: Name,
    /// The session key of the client's choice, encrypted.
    pub encrypted_session_key: Vec<u8>,
    /// What was agreed on.
    pub flags: Flags,
    /// The client's version, when its flag is set.
    pub version: Option<Version>,
    /// MIC, when the message has room for one; whether it is meant, the AV pairs tell.
    pub mic: Option<[u8; 16]>,
}

impl Authenticate {
    /// Where MIC stands in the message.
    pub const MIC_RANGE: std::ops::Range<usize> = 72..88;

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] for another message, a field outside it, strings that are not UTF-16.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let fixed: AuthenticateFixed = wire::fixed(message, 0, "NTLM AUTHENTICATE")?;
        let flags = Flags(fixed.flags);
        if !flags.contains(Flags::UNICODE) {
            return Err(Malformed("NTLM AUTHENTICATE: not Unicode"));
        }
        let fields = [
            fixed.lm_response,
            fixed.nt_response,
            fixed.domain,
            fixed.user,
            fixed.workstation,
            fixed.session_key,
        ];
        // Nothing but the payload's position tells how long the fixed part is.
        let payload = fields.iter().filter(|field| field.length > 0).map(|field| field.offset).min();
        let payload = payload.map_or(message.len(), |offset| usize::try_from(offset).unwrap_or(usize::MAX));
        let version = match flags.contains(Flags::VERSION) && payload >= Self::MIC_RANGE.start {
            true => Some(wire::fixed(message, 64, "NTLM VERSION")?),
            false => None,
        };
        let mic = match payload >= Self::MIC_RANGE.end {
            true => message.get(Self::MIC_RANGE).and_then(|mic| mic.try_into().ok()),
            false => None,
        };
        Ok(Self {
            lm_response: fixed.lm_response.of(message)?.to_vec(),
            nt_response: fixed.nt_response.of(message)?.to_vec(),
            domain: fixed.domain.name(message)?,
            user: fixed.user.name(message)?,
            workstation: fixed.workstation.name(message)?,
            encrypted_session_key: fixed.session_key.of(message)?.to_vec(),
            flags,
            version,
            mic,
        })
    }

    /// The message.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let names = [&self.domain, &self.user, &self.workstation].map(name_bytes);
        let [domain, user, workstation] = &names;
        let mut offset = if self.mic.is_some() { Self::MIC_RANGE.end } else { Self::MIC_RANGE.start };
        // The payload's order is Windows's: names first.
        let [domain, user, workstation] =
            [domain, user, workstation].map(|name| Field::place(name, &mut offset));
        let version_flag = if self.version.is_some() { Flags::VERSION.0 } else { 0 };
        let fixed = AuthenticateFixed {
            message_type: 3,
            lm_response: Field::place(&self.lm_response, &mut offset),
            nt_response: Field::place(&self.nt_response, &mut offset),
            domain,
            user,
            workstation,
            session_key: Field::place(&self.encrypted_session_key, &mut offset),
            flags: self.flags.0 & !Flags::VERSION.0 | version_flag,
        };
        let mut out = Vec::new();
        wire::put(&mut out, &fixed);
        wire::put(&mut out, &self.version.unwrap_or_default());
        if let Some(mic) = &self.mic {
            out.extend_from_slice(mic);
        }
        put_parts(&mut out, &names.each_ref().map(Vec::as_slice));
        put_parts(&mut out, &[&self.lm_response, &self.nt_response, &self.encrypted_session_key]);
        out
    }
}

/// Kind of an AV pair (MS-NLMP 2.2.2.1); undefined values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AvId(pub u16);

impl AvId {
    const END: Self = Self(0);
    /// The server's NetBIOS name.
    pub const NETBIOS_COMPUTER: Self = Self(1);
    /// The server's NetBIOS domain.
    pub const NETBIOS_DOMAIN: Self = Self(2);
    /// The server's DNS name.
    pub const DNS_COMPUTER: Self = Self(3);
    /// The server's DNS domain.
    pub const DNS_DOMAIN: Self = Self(4);
    /// The forest's DNS name.
    pub const DNS_TREE: Self = Self(5);
    /// 32 flags, see [`AvPairs::FLAG_MIC`].
    pub const FLAGS: Self = Self(6);
    /// The server's time.
    pub const TIMESTAMP: Self = Self(7);
    /// Single_Host_Data.
    pub const SINGLE_HOST: Self = Self(8);
    /// The service that the client wants to speak to.
    pub const TARGET_NAME: Self = Self(9);
    /// Hash of the channel's bindings.
    pub const CHANNEL_BINDINGS: Self = Self(10);
}

/// AV pairs in the order of the wire, without the end mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AvPairs(pub Vec<(AvId, Vec<u8>)>);

impl AvPairs {
    /// The client sends MIC.
    pub const FLAG_MIC: u32 = 2;

    /// Reads pairs up to the end mark; what follows it is ignored.
    ///
    /// # Errors
    /// [`Malformed`] without an end mark, or when a value is longer than what is left.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let short = Malformed("NTLM: AV pairs");
        let mut pairs = Vec::new();
        let mut rest = bytes;
        loop {
            let ([a, b, c, d], tail) = rest.split_first_chunk().ok_or(short)?;
            let id = AvId(u16::from_le_bytes([*a, *b]));
            if id == AvId::END {
                return Ok(Self(pairs));
            }
            let length = usize::from(u16::from_le_bytes([*c, *d]));
            let (value, tail) = tail.split_at_checked(length).ok_or(short)?;
            pairs.push((id, value.to_vec()));
            rest = tail;
        }
    }

    /// The pairs and the end mark.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (id, value) in &self.0 {
            let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
            out.extend_from_slice(&id.0.to_le_bytes());
            out.extend_from_slice(&wire::length_u16(value.len()).to_le_bytes());
            out.extend_from_slice(value);
        }
        out.extend_from_slice(&[0; 4]);
        out
    }

    /// The first value of a kind.
    #[must_use]
    pub fn get(&self, id: AvId) -> Option<&[u8]> {
        self.0.iter().find(|(found, _)| *found == id).map(|(_, value)| value.as_slice())
    }

    /// Sets the value of a kind, in its place or at the end.
    pub fn set(&mut self, id: AvId, value: Vec<u8>) {
        match self.0.iter_mut().find(|(found, _)| *found == id) {
            Some((_, old)) => *old = value,
            None => self.0.push((id, value)),
        }
    }

    /// Adds a name.
    pub fn push_name(&mut self, id: AvId, name: &str) {
        self.0.push((id, name_bytes(&Name::from(name))));
    }

    /// The flags, zero when absent.
    #[must_use]
    pub fn flags(&self) -> u32 {
        let value = self.get(AvId::FLAGS).and_then(|value| value.try_into().ok());
        value.map_or(0, u32::from_le_bytes)
    }

    /// The time, when there is one.
    #[must_use]
    pub fn timestamp(&self) -> Option<FileTime> {
        let value = self.get(AvId::TIMESTAMP)?.try_into().ok()?;
        Some(FileTime(u64::from_le_bytes(value)))
    }
}

/// NTLMv2_CLIENT_CHALLENGE (MS-NLMP 2.2.2.7): what follows the proof in NtChallengeResponse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientChallenge {
    /// The client's time, or the server's from its challenge.
    pub time: FileTime,
    /// The client's nonce.
    pub challenge: [u8; 8],
    /// The server's AV pairs and the client's.
    pub target_info: AvPairs,
}

#[binrw]
#[brw(little)]
struct ClientChallengeFixed {
    #[br(assert(response_type == 1))]
    response_type: u8,
    response_type_max: u8,
    reserved_1: u16,
    reserved_2: u32,
    time: u64,
    challenge: [u8; 8],
    reserved_3: u32,
}

impl ClientChallenge {
    /// Reads the structure.
    ///
    /// # Errors
    /// [`Malformed`] when it is short, of another type, or without AV pairs: then it is no NTLMv2 response.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let fixed: ClientChallengeFixed = wire::fixed(bytes, 0, "NTLMv2 response")?;
        let target_info = AvPairs::parse(bytes.get(28..).unwrap_or_default())?;
        Ok(Self { time: FileTime(fixed.time), challenge: fixed.challenge, target_info })
    }

    /// The structure.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let fixed = ClientChallengeFixed {
            response_type: 1,
            response_type_max: 1,
            reserved_1: 0,
            reserved_2: 0,
            time: self.time.0,
            challenge: self.challenge,
            reserved_3: 0,
        };
        let mut out = Vec::new();
        wire::put(&mut out, &fixed);
        out.extend_from_slice(&self.target_info.emit());
        out.extend_from_slice(&[0; 4]);
        out
    }
}
