//! The negotiation tokens of SPNEGO (RFC 4178 4.2, MS-SPNG 2.2.1).

use std::borrow::Cow;
use std::fmt;

use super::der::{self, Reader};
use crate::error::Malformed;

/// An object identifier, in the bytes of its encoding.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Oid(Cow<'static, [u8]>);

impl Oid {
    /// SPNEGO itself, 1.3.6.1.5.5.2.
    pub const SPNEGO: Self = Self(Cow::Borrowed(&[0x2B, 0x06, 0x01, 0x05, 0x05, 0x02]));
    /// NTLM, 1.3.6.1.4.1.311.2.2.10.
    pub const NTLMSSP: Self =
        Self(Cow::Borrowed(&[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0A]));
    /// Kerberos, 1.2.840.113554.1.2.2.
    pub const KERBEROS: Self = Self(Cow::Borrowed(&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x12, 0x01, 0x02, 0x02]));
    /// Kerberos with a digit cut off, 1.2.840.48018.1.2.2: an old mistake of Windows that became a rule (MS-SPNG
    /// 3.1.5.2).
    pub const MS_KERBEROS: Self =
        Self(Cow::Borrowed(&[0x2A, 0x86, 0x48, 0x82, 0xF7, 0x12, 0x01, 0x02, 0x02]));
    /// NEGOEX, 1.3.6.1.4.1.311.2.2.30.
    pub const NEGOEX: Self =
        Self(Cow::Borrowed(&[0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x1E]));

    /// From the content of its encoding.
    #[must_use]
    pub fn from_encoding(content: &[u8]) -> Self {
        Self(Cow::Owned(content.to_vec()))
    }

    /// The content of its encoding.
    #[must_use]
    pub fn encoding(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            known if *known == Self::SPNEGO => f.write_str("SPNEGO"),
            known if *known == Self::NTLMSSP => f.write_str("NTLMSSP"),
            known if *known == Self::KERBEROS => f.write_str("KERBEROS"),
            known if *known == Self::MS_KERBEROS => f.write_str("MS_KERBEROS"),
            known if *known == Self::NEGOEX => f.write_str("NEGOEX"),
            other => write!(f, "Oid({:02X?})", other.encoding()),
        }
    }
}

/// The mechanisms that an initiator offers, with the very bytes that mechListMIC protects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MechTypes {
    oids: Vec<Oid>,
    der: Vec<u8>,
}

impl MechTypes {
    /// Longest list that is read; real ones have up to five entries.
    pub const COUNT_MAX: usize = 64;

    /// A list, most preferred first.
    #[must_use]
    pub fn new(oids: Vec<Oid>) -> Self {
        let mut content = Vec::new();
        for oid in &oids {
            der::put(&mut content, der::OBJECT_IDENTIFIER, oid.encoding());
        }
        Self { oids, der: der::element(der::SEQUENCE, &content) }
    }

    /// The mechanisms, most preferred first.
    #[must_use]
    pub fn oids(&self) -> &[Oid] {
        &self.oids
    }

    /// The list as it was, or will be, sent: what mechListMIC is computed over.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(der::only(bytes, der::SEQUENCE)?);
        let mut oids = Vec::new();
        while !reader.is_empty() {
            if oids.len() == Self::COUNT_MAX {
                return Err(Malformed("SPNEGO: too many mechanisms"));
            }
            oids.push(Oid::from_encoding(reader.expect(der::OBJECT_IDENTIFIER)?));
        }
        Ok(Self { oids, der: bytes.to_vec() })
    }
}

/// NegTokenInit of an initiator, or NegTokenInit2 of a server that speaks first (MS-SPNG 2.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegTokenInit {
    /// What is offered.
    pub mech_types: MechTypes,
    /// reqFlags as the content of their BIT STRING; without meaning (MS-SPNG 3.1.5.3).
    pub req_flags: Option<Vec<u8>>,
    /// First token of the first mechanism, sent in the hope that it is chosen.
    pub mech_token: Option<Vec<u8>>,
    /// hintName of NegTokenInit2; makes this one.
    pub hint_name: Option<Vec<u8>>,
    /// mechListMIC.
    pub mech_list_mic: Option<Vec<u8>>,
}

impl NegTokenInit {
    /// The name that every server puts into its hint (MS-SPNG 3.2.5.2).
    pub const HINT_NAME: &'static [u8] = b"not_defined_in_RFC4178@please_ignore";

    /// The hint in a NEGOTIATE response of a server that accepts these mechanisms.
    #[must_use]
    pub fn server_hint(oids: Vec<Oid>) -> Self {
        Self {
            mech_types: MechTypes::new(oids),
            req_flags: None,
            mech_token: None,
            hint_name: Some(Self::HINT_NAME.to_vec()),
            mech_list_mic: None,
        }
    }

    /// The token, in its GSS wrapping.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        der::put(&mut fields, der::context(0), self.mech_types.der());
        if let Some(flags) = &self.req_flags {
            der::put(&mut fields, der::context(1), &der::element(der::BIT_STRING, flags));
        }
        put_octets(&mut fields, 2, self.mech_token.as_deref());
        if let Some(name) = &self.hint_name {
            let name = der::element(der::context(0), &der::element(der::GENERAL_STRING, name));
            der::put(&mut fields, der::context(3), &der::element(der::SEQUENCE, &name));
        }
        put_octets(&mut fields, if self.hint_name.is_some() { 4 } else { 3 }, self.mech_list_mic.as_deref());
        let mut content = der::element(der::OBJECT_IDENTIFIER, Oid::SPNEGO.encoding());
        der::put(&mut content, der::context(0), &der::element(der::SEQUENCE, &fields));
        der::element(der::APPLICATION_0, &content)
    }

    /// Reads the content of the `[0]` choice.
    fn parse(choice: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(der::only(choice, der::SEQUENCE)?);
        let mut mech_types = None;
        let (mut req_flags, mut mech_token, mut hint_name, mut mech_list_mic) = (None, None, None, None);
        while !reader.is_empty() {
            let (tag, field) = reader.element()?;
            match tag.wrapping_sub(FIELD_0) {
                0 => mech_types = Some(MechTypes::parse(field)?),
                1 => req_flags = Some(der::only(field, der::BIT_STRING)?.to_vec()),
                2 => mech_token = Some(octets(field)?),
                3 if field.first() == Some(&der::SEQUENCE) => hint_name = hint(field)?,
                3 | 4 => mech_list_mic = Some(octets(field)?),
                _ => {}
            }
        }
        let mech_types = mech_types.ok_or(Malformed("SPNEGO: no mechTypes"))?;
        Ok(Self { mech_types, req_flags, mech_token, hint_name, mech_list_mic })
    }
}

/// negState; undefined values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NegState(pub u8);

impl NegState {
    /// Authentication succeeded.
    pub const ACCEPT_COMPLETED: Self = Self(0);
    /// More tokens are needed.
    pub const ACCEPT_INCOMPLETE: Self = Self(1);
    /// Authentication failed.
    pub const REJECT: Self = Self(2);
    /// As incomplete, and mechListMIC will be needed: the chosen mechanism is not the preferred one.
    pub const REQUEST_MIC: Self = Self(3);
}

/// NegTokenResp.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NegTokenResp {
    /// How far the negotiation is.
    pub neg_state: Option<NegState>,
    /// The acceptor's choice, in its first answer.
    pub supported_mech: Option<Oid>,
    /// The mechanism's token.
    pub response_token: Option<Vec<u8>>,
    /// mechListMIC.
    pub mech_list_mic: Option<Vec<u8>>,
}

impl NegTokenResp {
    /// The token; responses have no GSS wrapping.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        if let Some(state) = self.neg_state {
            der::put(&mut fields, der::context(0), &der::element(der::ENUMERATED, &[state.0]));
        }
        if let Some(oid) = &self.supported_mech {
            der::put(&mut fields, der::context(1), &der::element(der::OBJECT_IDENTIFIER, oid.encoding()));
        }
        put_octets(&mut fields, 2, self.response_token.as_deref());
        put_octets(&mut fields, 3, self.mech_list_mic.as_deref());
        der::element(der::context(1), &der::element(der::SEQUENCE, &fields))
    }

    /// Reads the content of the `[1]` choice.
    fn parse(choice: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(der::only(choice, der::SEQUENCE)?);
        let mut token = Self::default();
        while !reader.is_empty() {
            let (tag, field) = reader.element()?;
            match tag.wrapping_sub(FIELD_0) {
                0 => {
                    let [state] = der::only(field, der::ENUMERATED)? else {
                        return Err(Malformed("SPNEGO: negState"));
                    };
                    token.neg_state = Some(NegState(*state));
                }
                1 => {
                    let oid = der::only(field, der::OBJECT_IDENTIFIER)?;
                    token.supported_mech = Some(Oid::from_encoding(oid));
                }
                2 => token.response_token = Some(octets(field)?),
                3 => token.mech_list_mic = Some(octets(field)?),
                _ => {}
            }
        }
        Ok(token)
    }
}

/// What the security buffer of NEGOTIATE and SESSION_SETUP can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// An NTLM message without SPNEGO.
    Ntlmssp(Vec<u8>),
    /// NegTokenInit or NegTokenInit2.
    Init(NegTokenInit),
    /// NegTokenResp.
    Resp(NegTokenResp),
}

impl Token {
    /// Reads a token.
    ///
    /// # Errors
    /// [`Malformed`] for anything else, or when a part is not what it claims to be.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.starts_with(super::ntlm::SIGNATURE) {
            return Ok(Self::Ntlmssp(bytes.to_vec()));
        }
        const INIT: u8 = der::context(0);
        const RESP: u8 = der::context(1);
        match Reader::new(bytes).element()? {
            (der::APPLICATION_0, content) => {
                let mut reader = Reader::new(content);
                if reader.expect(der::OBJECT_IDENTIFIER)? != Oid::SPNEGO.encoding() {
                    return Err(Malformed("GSS token of another mechanism than SPNEGO"));
                }
                Ok(Self::Init(NegTokenInit::parse(reader.expect(INIT)?)?))
            }
            (INIT, content) => Ok(Self::Init(NegTokenInit::parse(content)?)),
            (RESP, content) => Ok(Self::Resp(NegTokenResp::parse(content)?)),
            _ => Err(Malformed("neither SPNEGO nor NTLM")),
        }
    }
}

/// Tag of the first field of a token; the others follow. Fields beyond those known are ignored (RFC 4178 4.2).
const FIELD_0: u8 = der::context(0);

fn put_octets(fields: &mut Vec<u8>, number: u8, octets: Option<&[u8]>) {
    if let Some(octets) = octets {
        der::put(fields, der::context(number), &der::element(der::OCTET_STRING, octets));
    }
}

fn octets(field: &[u8]) -> Result<Vec<u8>, Malformed> {
    Ok(der::only(field, der::OCTET_STRING)?.to_vec())
}

/// hintName of NegHints; hintAddress is never used.
fn hint(field: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let mut reader = Reader::new(der::only(field, der::SEQUENCE)?);
    while !reader.is_empty() {
        let (tag, content) = reader.element()?;
        if tag == der::context(0) {
            return Ok(Some(der::only(content, der::GENERAL_STRING)?.to_vec()));
        }
    }
    Ok(None)
}
