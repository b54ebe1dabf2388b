//! Published vectors for each algorithm, then properties of what is built from them.

pub(crate) mod published;

use bytes::BytesMut;
use hmac::Mac;
use published::{hex, hex_array};

use super::kdf::{self, KeySchedule, SessionKeys};
use super::portable::{Portable, hmac_sha256};
use super::seal::{self, CipherAlgorithm, OpenError};
use super::signing::{SigningAlgorithm, sign_message, verify_in_place, verify_message};
use super::{BadKeyLength, BadTag, PreauthHash, Provider, Secret, SecretBytes};
use crate::header::{CommandCode, Flags, Header, Routing};
use crate::payload::Payload;
use crate::status::NtStatus;
use crate::transform;

const CIPHERS: [CipherAlgorithm; 4] = [
    CipherAlgorithm::Aes128Ccm,
    CipherAlgorithm::Aes128Gcm,
    CipherAlgorithm::Aes256Ccm,
    CipherAlgorithm::Aes256Gcm,
];
const SIGNINGS: [SigningAlgorithm; 3] =
    [SigningAlgorithm::HmacSha256, SigningAlgorithm::AesCmac, SigningAlgorithm::AesGmac];

fn sign(algorithm: SigningAlgorithm, key: &str, nonce: &str, message: &str) -> [u8; 16] {
    let nonce = if nonce.is_empty() { [0; 12] } else { hex_array(nonce) };
    Portable.signer(algorithm, &hex_array(key)).sign(&nonce, &[&hex(message)])
}

/// Seals and opens; `text` and `expected` are plaintext, and ciphertext followed by the tag.
fn check_cipher(algorithm: CipherAlgorithm, key: &str, nonce: &str, aad: &str, text: &str, expected: &str) {
    let cipher = Portable.cipher(algorithm, &hex(key)).unwrap();
    let mut field = [0xA5; 16];
    field[..algorithm.nonce_len()].copy_from_slice(&hex(nonce));
    let mut data = hex(text);
    let tag = cipher.seal(&field, &hex(aad), &mut data);
    let mut whole = data.clone();
    whole.extend_from_slice(&tag);
    assert_eq!(whole, hex(expected), "{algorithm:?}");
    cipher.open(&field, &hex(aad), &mut data, &tag).unwrap();
    assert_eq!(data, hex(text));
}

#[test]
fn cmac_gives_the_answers_of_rfc_4493() {
    let key = "2b7e151628aed2a6abf7158809cf4f3c";
    let message = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51
                   30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
    let message = hex(message);
    let signer = Portable.signer(SigningAlgorithm::AesCmac, &hex_array(key));
    for (length, expected) in [
        (0, "bb1d6929e95937287fa37d129b756746"),
        (16, "070a16b46b4d4144f79bdd9dd04a287c"),
        (40, "dfa66747de9ae63030ca32611497c827"),
        (64, "51f0bebf7e3b9d92fc49741779363cfe"),
    ] {
        assert_eq!(signer.sign(&[0; 12], &[&message[..length]]), hex_array(expected));
    }
}

#[test]
fn hmac_gives_the_answers_of_rfc_4231() {
    // HMAC fills keys up with zeros, so test case 2's short key can be given as 16 bytes.
    let text = "7768617420646f2079612077616e7420666f72206e6f7468696e673f";
    let expected = "5bdcc146bf60754e6a042426089575c7";
    let key = "4a656665000000000000000000000000";
    assert_eq!(sign(SigningAlgorithm::HmacSha256, key, "", text), hex_array(expected));

    let full = |key: &[u8], message: &[u8]| -> Vec<u8> {
        hmac_sha256(key).chain_update(message).finalize().into_bytes().to_vec()
    };
    assert_eq!(
        full(&[0x0b; 20], b"Hi There"),
        hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
    );
    assert_eq!(
        full(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First"),
        hex("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
    );
}

#[test]
fn gmac_gives_nists_answers() {
    // gcmEncryptExtIV128.rsp, nothing encrypted.
    let tag = sign(
        SigningAlgorithm::AesGmac,
        "77be63708971c4e240d1cb79e8d77feb",
        "e0e00f19fed7ba0136a797f3",
        "7a43ec1d9c0a5a78a0b16533a6213cab",
    );
    assert_eq!(tag, hex_array("209fcc8d3675ed938e9c7166709dd946"));
    // Test case 1 of the GCM specification: nothing at all.
    let zero = "00000000000000000000000000000000";
    let tag = sign(SigningAlgorithm::AesGmac, zero, "000000000000000000000000", "");
    assert_eq!(tag, hex_array("58e2fccefa7e3061367f1d57a4e7455a"));
}

#[test]
fn gmac_is_gcm_that_encrypts_nothing() {
    let key = [0x42; 16];
    let gcm = Portable.cipher(CipherAlgorithm::Aes128Gcm, &key).unwrap();
    let signer = Portable.signer(SigningAlgorithm::AesGmac, &key);
    let message: Vec<u8> = (0..=255).collect();
    for length in 0..message.len() {
        let mut field = [0; 16];
        field[..12].copy_from_slice(&[length as u8; 12]);
        let expected = gcm.seal(&field, &message[..length], &mut []);
        assert_eq!(signer.sign(&[length as u8; 12], &[&message[..length]]), expected);
    }
}

#[test]
fn a_signature_does_not_depend_on_how_the_message_is_cut() {
    let message: Vec<u8> = (0..100).collect();
    for algorithm in SIGNINGS {
        let signer = Portable.signer(algorithm, &[9; 16]);
        let whole = signer.sign(&[3; 12], &[&message]);
        for first in 0..message.len() {
            for second in first..message.len().min(first + 40) {
                let parts = [&message[..first], &message[first..second], &[], &message[second..]];
                assert_eq!(signer.sign(&[3; 12], &parts), whole, "{algorithm:?} {first} {second}");
            }
        }
    }
}

#[test]
fn gcm_gives_the_answers_of_its_specification() {
    let nonce = "cafebabefacedbaddecaf888";
    let aad = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
    let text = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
                1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
    let key = "feffe9928665731c6d6a8f9467308308";
    // Test cases 4 and 16.
    let expected = "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
                    21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091
                    5bc94fbc3221a5db94fae95ae7121a47";
    check_cipher(CipherAlgorithm::Aes128Gcm, key, nonce, aad, text, expected);
    let expected = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
                    8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662
                    76fc6ece0f4e1768cddf8853bb2d551b";
    check_cipher(CipherAlgorithm::Aes256Gcm, &key.repeat(2), nonce, aad, text, expected);
}

#[test]
fn ccm_256_gives_the_answer_of_openssl() {
    // NIST's examples use other sizes of nonce and tag; this one was computed with OpenSSL 3.0.
    check_cipher(
        CipherAlgorithm::Aes256Ccm,
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "101112131415161718191a",
        "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f",
        "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c",
        "671faddb0b835b4d273038eeae339bd373829d2228c2fb74f90bd64a079fcdebc776ff4bee7b44071497b361aef950ac1e8598593cfca80a5bee95f38d",
    );
}

/// "Encryption in SMB 3.0: a protocol perspective", Open Specifications blog, 2012.
#[test]
fn a_message_is_sealed_as_windows_seals_it() {
    let keys = SessionKeys::derive(
        KeySchedule::Smb30,
        &hex("B4546771B515F766A86735532DD6C4F0"),
        Some(CipherAlgorithm::Aes128Ccm),
    );
    assert_eq!(keys.signing.expose()[..], hex("F773CD23C18FD1E08EE510CADA7CF852"));
    assert_eq!(keys.client_to_server.expose(), hex("261B72350558F2E9DCF613070383EDBF"));
    assert_eq!(keys.server_to_client.expose(), hex("8FE2B57EC34D2DB5B1A9727F526BBDB5"));
    assert_eq!(keys.application.expose()[..], hex("77432F808CE99156B5BC6A3676D730D1"));

    let request = hex("FE534D4240000100000000000900400008000000000000000400000000000000
                       FFFE0000010000001100001400E4080000000000000000000000000000000000
                       3100700017000000000000000000000015010000390000020100000039020000
                       00000000000000007000000000000000536D623320656E6372797074696F6E20
                       74657374696E67");
    let sealed = hex("FD534D4281A286535415445DAE393921E44FA42E66E69A111892584FB5ED524A
                      744DA3EE87000000000001001100001400E4080025C8FEE16605A437832D1CD5
                      2DA9F4645333482A175FE5384563F45FCDAFAEF38BC62BA4D5C62897996625A4
                      4C29BE5658DE2E6117585779E7B59FFD971278D08580D7FA899E410E910EABF5
                      AA1DB43050B33B49182637759AC15D84BFCDF5B6B238993C0F4CF4D6012023F6
                      C627297075D84B7803912D0A9639634453595EF3E33FFE4E7AC2AB");
    let cipher = Portable.cipher(CipherAlgorithm::Aes128Ccm, keys.client_to_server.expose()).unwrap();
    let nonce = hex_array("66E69A111892584FB5ED524A744DA3EE");
    let ours = seal::seal(&*cipher, 0x0008_E400_1400_0011, &nonce, Payload::copy_from(&request));
    assert_eq!(ours.data(), sealed);
    assert_eq!(seal::open_buffer(&*cipher, BytesMut::from(&sealed[..])).unwrap(), request);

    let mut response = hex("FD534D42A6015530A18F6D9AFFE22AFAE8E66484860000000000000011000014
                            00E4080050000000000001001100001400E40800DBF46435C5F14169293CE079
                            E344479BF670227E49873F458672C3098DAC467DD5809F369D67409166515787
                            1483E01F7BECD02064EAC3E235F913668BBC2F097980D4B378F1993EFF6E60D1
                            77309E5B");
    let cipher = Portable.cipher(CipherAlgorithm::Aes128Ccm, keys.server_to_client.expose()).unwrap();
    let opened = seal::open(&*cipher, &mut response).unwrap();
    assert_eq!(
        opened,
        hex("FE534D4240000100000000000900210009000000000000000400000000000000
             FFFE0000010000001100001400E4080000000000000000000000000000000000
             11000000170000000000000000000000")
    );
}

#[test]
fn counter_mode_gives_nists_answers() {
    // CAVS 14.4, KDFCTR_gen: HMAC_SHA256, BEFORE_FIXED, 32 bits; counts 0, 10 and 30.
    for (key, fixed, expected) in [
        (
            "dd1d91b7d90b2bd3138533ce92b272fbf8a369316aefe242e659cc0ae238afe0",
            "01322b96b30acd197979444e468e1c5c6859bf1b1cf951b7e725303e237e46b8
             64a145fab25e517b08f8683d0315bb2911d80a0e8aba17f3b413faac",
            "10621342bfb0fd40046c0e29f2cfdbf0",
        ),
        (
            "e204d6d466aad507ffaf6d6dab0a5b26152c9e21e764370464e360c8fbc765c6",
            "7b03b98d9f94b899e591f3ef264b71b193fba7043c7e953cde23bc5384bc1a62
             93580115fae3495fd845dadbd02bd6455cf48d0f62b33e62364a3a80",
            "770dfab6a6a4a4bee0257ff335213f78d8287b4fd537d5c1fffa956910e7c779",
        ),
        (
            "c4bedbddb66493e7c7259a3bbbc25f8c7e0ca7fe284d92d431d9cd99a0d214ac",
            "1c69c54766791e315c2cc5c47ecd3ffab87d0d273dd920e70955814c220eacac
             e6a5946542da3dfe24ff626b4897898cafb7db83bdff3c14fa46fd4b",
            "1da47638d6c9c4d04d74d4640bbd42ab814d9e8cc22f4326695239f96b0693f1
             2d0dd1152cf44430",
        ),
    ] {
        let mut out = vec![0; hex(expected).len()];
        kdf::expand(&hex(key), &[&hex(fixed)], &mut out);
        assert_eq!(out, hex(expected));
    }
}

#[test]
fn keys_and_hash_of_a_3_1_1_session_are_windowss() {
    let mut hash = PreauthHash::default();
    hash.update(&hex(published::NEGOTIATE_REQUEST));
    assert_eq!(hash.0, hex_array(published::AFTER_NEGOTIATE_REQUEST));
    let mut hash = PreauthHash(hex_array(published::AFTER_NEGOTIATE_RESPONSE));
    hash.update(&hex(published::SESSION_SETUP_REQUEST_1));
    hash.update(&hex(published::SESSION_SETUP_RESPONSE_1));
    hash.update(&hex(published::SESSION_SETUP_REQUEST_2));
    assert_eq!(hash.0, hex_array(published::AFTER_SESSION_SETUP));

    // The publication names the keys as the client sees them.
    let schedule = KeySchedule::Smb311 { preauth: &hash };
    let keys = SessionKeys::derive(schedule, &hex(published::SESSION_KEY), Some(CipherAlgorithm::Aes128Gcm));
    assert_eq!(keys.signing.expose()[..], hex("73FE7A9A77BEF0BDE49C650D8CCB5F76"));
    assert_eq!(keys.client_to_server.expose(), hex("629BCBC54422A0F572B97F45989B6073"));
    assert_eq!(keys.server_to_client.expose(), hex("E2AF0DCEFAC68DA71A0DFBD0D1350D74"));
    assert_eq!(keys.application.expose()[..], hex("6D7AD7954E9EC61E907B4D473DC178FF"));

    let mut response = hex(published::SESSION_SETUP_RESPONSE_2);
    let signer = Portable.signer(SigningAlgorithm::AesCmac, keys.signing.expose());
    assert!(verify_message(&*signer, &response));
    let signed = response.clone();
    response[48..64].fill(0xEE);
    sign_message(&*signer, &mut response);
    assert_eq!(response, signed);
}

#[test]
fn keys_of_3_0_are_windowss() {
    let key = hex("7CD451825D0450D235424E44BA6E78CC");
    let keys = SessionKeys::derive(KeySchedule::Smb30, &key, Some(CipherAlgorithm::Aes128Ccm));
    assert_eq!(keys.signing.expose()[..], hex("0B7E9C5CAC36C0F6EA9AB275298CEDCE"));
    assert_eq!(keys.client_to_server.expose(), hex("FAD27796665B313EBB578F388632B4F7"));
    assert_eq!(keys.server_to_client.expose(), hex("B0F0427F7CEB416D1D9DCC0CD4F99447"));
    assert_eq!(keys.application.expose()[..], hex("BB23A4575AA26C721AF525AF15A87B4F"));
}

#[test]
fn the_session_key_is_cut_and_filled_up() {
    let keys = SessionKeys::derive(KeySchedule::Smb2, &[7; 32], None);
    assert_eq!(keys.signing, Secret::new([7; 16]));
    assert_eq!(keys.client_to_server, SecretBytes::default());
    let short = SessionKeys::derive(KeySchedule::Smb2, &[7; 8], None);
    assert_eq!(short.signing.expose(), &[7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn wide_ciphers_derive_from_the_whole_key() {
    let hash = PreauthHash([5; 64]);
    let schedule = KeySchedule::Smb311 { preauth: &hash };
    let (mut long, narrow) = ([1; 32], Some(CipherAlgorithm::Aes128Gcm));
    let wide = Some(CipherAlgorithm::Aes256Gcm);
    let before = [SessionKeys::derive(schedule, &long, narrow), SessionKeys::derive(schedule, &long, wide)];
    long[31] = 2;
    let after = [SessionKeys::derive(schedule, &long, narrow), SessionKeys::derive(schedule, &long, wide)];
    assert_eq!(before[0], after[0]);
    assert_eq!(before[1].signing, after[1].signing);
    assert_eq!(before[1].client_to_server.expose().len(), 32);
    assert_ne!(before[1].client_to_server, after[1].client_to_server);
    assert_ne!(before[1].server_to_client, after[1].server_to_client);
    // An independent implementation's answer, for a 256-bit key derived from a 128-bit one.
    let mut key = [0; 32];
    let context: Vec<u8> = (0..64).collect();
    kdf::derive(&hex(published::SESSION_KEY), b"SMBC2SCipherKey\0", &context, &mut key);
    assert_eq!(key, hex_array("c273f0de35671e766ef5106b605054d70385f9237f1327662763de8ac2444317"));
}

fn message(command: CommandCode, flags: Flags) -> Vec<u8> {
    let mut out = Vec::new();
    Header {
        credit_charge: 1,
        status: NtStatus(0),
        command: command.code(),
        credits: 1,
        flags,
        next_command: 0,
        message_id: 0x0102_0304_0506_0708,
        routing: Routing::Sync { process_id: 0, tree_id: 5 },
        session_id: 77,
        signature: [0x5A; 16],
    }
    .emit(&mut out);
    out.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7]);
    out
}

#[test]
fn every_changed_bit_breaks_a_signature() {
    for algorithm in SIGNINGS {
        assert_eq!(SigningAlgorithm::from_code(algorithm.code()), Some(algorithm));
        let signer = Portable.signer(algorithm, &[0x11; 16]);
        let mut signed = message(CommandCode::Write, Flags::SERVER_TO_REDIR);
        sign_message(&*signer, &mut signed);
        assert!(verify_message(&*signer, &signed));
        let unchanged = signed.clone();
        assert!(verify_in_place(&*signer, &mut signed));
        assert_eq!(signed, unchanged);
        assert!(Header::parse(&signed).unwrap().flags.contains(Flags::SIGNED));
        for bit in 0..signed.len() * 8 {
            signed[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify_message(&*signer, &signed), "{algorithm:?} bit {bit}");
            let changed = signed.clone();
            assert!(!verify_in_place(&*signer, &mut signed), "{algorithm:?} bit {bit}");
            assert_eq!(signed, changed, "the message is left as it was");
            signed[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(!verify_message(&*signer, &signed[..signed.len() - 1]));
        for length in 0..64 {
            assert!(!verify_message(&*signer, &signed[..length]));
            assert!(!verify_in_place(&*signer, &mut signed[..length].to_vec()));
        }
        let other = Portable.signer(algorithm, &[0x12; 16]);
        assert!(!verify_message(&*other, &signed));
    }
    assert_eq!(SigningAlgorithm::from_code(3), None);
}

/// Signs nothing: shows the nonce instead.
#[derive(Debug)]
struct ShowNonce;

impl super::Signer for ShowNonce {
    fn sign(&self, nonce: &[u8; 12], _parts: &[&[u8]]) -> [u8; 16] {
        let mut shown = [0; 16];
        shown[..12].copy_from_slice(nonce);
        shown
    }
}

#[test]
fn the_nonce_tells_id_role_and_cancel() {
    let id = [8, 7, 6, 5, 4, 3, 2, 1];
    for (command, flags, role) in [
        (CommandCode::Read, Flags::default(), 0),
        (CommandCode::Read, Flags::SERVER_TO_REDIR, 1),
        (CommandCode::Cancel, Flags::default(), 2),
        (CommandCode::Cancel, Flags::SERVER_TO_REDIR, 1),
    ] {
        let mut bytes = message(command, flags);
        sign_message(&ShowNonce, &mut bytes);
        assert_eq!(bytes[48..56], id);
        assert_eq!(bytes[56..64], [role, 0, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn sealed_messages_open_only_unchanged() {
    for algorithm in CIPHERS {
        assert_eq!(CipherAlgorithm::from_code(algorithm.code()), Some(algorithm));
        let cipher = Portable.cipher(algorithm, &vec![0x33; algorithm.key_len()]).unwrap();
        assert_eq!(cipher.algorithm(), algorithm);
        let text = b"\xFESMB and more than one block of plaintext";
        let nonce = seal::nonce_from_counter(0x1122_3344_5566);
        let payload = Payload::copy_from(text);
        let place = payload.data().as_ptr();
        let sealed = seal::seal(&*cipher, 42, &nonce, payload);
        assert_eq!(sealed.len(), transform::SIZE + text.len());
        assert_eq!(sealed.data()[transform::SIZE..].as_ptr(), place, "the message was moved");
        assert_eq!(sealed.data()[44..52], 42_u64.to_le_bytes());
        assert_eq!(seal::open(&*cipher, &mut sealed.data().to_vec()).unwrap(), text);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.data().to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(seal::open(&*cipher, &mut changed).is_err(), "{algorithm:?} bit {bit}");
        }
        for length in 0..sealed.len() {
            let result = seal::open(&*cipher, &mut sealed.data()[..length].to_vec()).map(|_| ());
            assert!(matches!(result, Err(OpenError::Malformed(_))));
        }
        let mut longer = sealed.data().to_vec();
        longer.push(0);
        assert!(matches!(seal::open(&*cipher, &mut longer), Err(OpenError::Malformed(_))));
        let other = Portable.cipher(algorithm, &vec![0x34; algorithm.key_len()]).unwrap();
        assert_eq!(seal::open(&*other, &mut sealed.data().to_vec()), Err(OpenError::BadTag));
        assert_eq!(other.open(&nonce, &[], &mut [], &[0; 16]), Err(BadTag));
    }
    assert_eq!(CipherAlgorithm::from_code(0), None);
}

#[test]
fn keys_have_the_length_of_their_cipher() {
    for algorithm in CIPHERS {
        for length in [0, 15, 16, 17, 24, 31, 32, 33] {
            let result = Portable.cipher(algorithm, &vec![0; length]);
            assert_eq!(result.is_ok(), length == algorithm.key_len());
            assert!(result.is_ok() || result.unwrap_err() == BadKeyLength);
        }
    }
}

#[test]
fn nothing_prints_a_key() {
    let keys = SessionKeys::derive(KeySchedule::Smb2, &[0xAB; 16], None);
    let signer = Portable.signer(SigningAlgorithm::AesGmac, &[0xAB; 16]);
    let cipher = Portable.cipher(CipherAlgorithm::Aes128Gcm, &[0xAB; 16]).unwrap();
    for shown in [format!("{keys:?}"), format!("{signer:?}"), format!("{cipher:?}")] {
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("ab, ab"), "{shown}");
    }
}
