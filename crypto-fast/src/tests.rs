//! The portable provider is the oracle: both give the same bytes for every algorithm, length and cut, and refuse alike.
//! Published vectors say that the bytes are right.

use smb_proto::crypto::signing::{sign_message, verify_in_place, verify_message};

use super::*;

const CIPHERS: [CipherAlgorithm; 4] = [
    CipherAlgorithm::Aes128Ccm,
    CipherAlgorithm::Aes128Gcm,
    CipherAlgorithm::Aes256Ccm,
    CipherAlgorithm::Aes256Gcm,
];
const SIGNINGS: [SigningAlgorithm; 3] =
    [SigningAlgorithm::HmacSha256, SigningAlgorithm::AesCmac, SigningAlgorithm::AesGmac];
/// Around every block, batch and threshold, and as long as messages get.
const LARGE: [usize; 12] = [
    511,
    512,
    513,
    1023,
    1024,
    1025,
    4096 + 80,
    65_535,
    65_536,
    (1 << 20) + 80,
    (1 << 20) + 81,
    (8 << 20) + 80,
];

/// Bytes that differ from call to call and not from run to run (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 1).unwrap() % bound
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

fn lengths() -> impl Iterator<Item = usize> {
    (0..=300).chain(LARGE)
}

#[test]
fn signatures_are_the_oracles_at_every_length() {
    let mut random = Random(1);
    for algorithm in SIGNINGS {
        for length in lengths() {
            let (key, nonce, message) = (random.array(), random.array(), random.bytes(length));
            let ours = Fast.signer(algorithm, &key).sign(&nonce, &[&message]);
            assert_eq!(
                ours,
                Portable.signer(algorithm, &key).sign(&nonce, &[&message]),
                "{algorithm:?} {length}"
            );
        }
    }
}

#[test]
fn signatures_do_not_depend_on_how_the_message_is_cut() {
    let mut random = Random(2);
    for algorithm in SIGNINGS {
        let key = random.array();
        let (fast, portable) = (Fast.signer(algorithm, &key), Portable.signer(algorithm, &key));
        for length in (0..=300).chain([1023, 1024, 1025, 5000]) {
            let (nonce, message) = (random.array(), random.bytes(length));
            let expected = portable.sign(&nonce, &[&message]);
            for _ in 0..8 {
                let mut cuts = [random.below(length + 1), random.below(length + 1), random.below(length + 1)];
                cuts.sort_unstable();
                let [a, b, c] = cuts;
                let parts = [&message[..a], &message[a..b], &[], &message[b..c], &message[c..]];
                assert_eq!(fast.sign(&nonce, &parts), expected, "{algorithm:?} {length} {cuts:?}");
            }
            let bytes: Vec<&[u8]> = message.chunks(1).collect();
            assert_eq!(fast.sign(&nonce, &bytes), expected, "{algorithm:?} {length} by bytes");
        }
    }
}

#[test]
fn ciphertexts_and_tags_are_the_oracles_at_every_length() {
    let mut random = Random(3);
    for algorithm in CIPHERS {
        for length in lengths() {
            let (key, nonce) = (random.bytes(algorithm.key_len()), random.array());
            let (fast, portable) =
                (Fast.cipher(algorithm, &key).unwrap(), Portable.cipher(algorithm, &key).unwrap());
            assert_eq!(fast.algorithm(), algorithm);
            let aad_length = if length % 3 == 0 { 32 } else { random.below(100) };
            let (aad, text) = (random.bytes(aad_length), random.bytes(length));
            let (mut ours, mut theirs) = (text.clone(), text.clone());
            let tag = fast.seal(&nonce, &aad, &mut ours);
            assert_eq!(tag, portable.seal(&nonce, &aad, &mut theirs), "{algorithm:?} {length}");
            assert!(ours == theirs, "{algorithm:?} {length}: ciphertexts differ");
            portable.open(&nonce, &aad, &mut ours, &tag).unwrap();
            fast.open(&nonce, &aad, &mut theirs, &tag).unwrap();
            assert!(ours == text && theirs == text, "{algorithm:?} {length}: not what was sealed");
        }
    }
}

#[test]
fn what_was_changed_is_refused() {
    let mut random = Random(4);
    for algorithm in CIPHERS {
        let key = random.bytes(algorithm.key_len());
        let cipher = Fast.cipher(algorithm, &key).unwrap();
        for length in [0, 1, 15, 16, 17, 64, 300, 5000] {
            let (nonce, aad, text) = (random.array(), random.bytes(32), random.bytes(length));
            let mut sealed = text.clone();
            let tag = cipher.seal(&nonce, &aad, &mut sealed);
            for bit in 0..128 {
                let mut wrong = tag;
                wrong[bit / 8] ^= 1 << (bit % 8);
                let mut data = sealed.clone();
                assert_eq!(
                    cipher.open(&nonce, &aad, &mut data, &wrong),
                    Err(BadTag),
                    "{algorithm:?} bit {bit}"
                );
                assert!(length < 16 || data != text, "{algorithm:?}: an unproved plaintext came out");
            }
            for _ in 0..length.min(64) {
                let (mut data, at) = (sealed.clone(), random.below(length));
                data[at] ^= 1 << random.below(8);
                assert_eq!(cipher.open(&nonce, &aad, &mut data, &tag), Err(BadTag));
            }
            let mut other = aad.clone();
            other[random.below(32)] ^= 0x10;
            assert_eq!(cipher.open(&nonce, &other, &mut sealed.clone(), &tag), Err(BadTag));
            let mut elsewhere = nonce;
            elsewhere[random.below(algorithm.nonce_len())] ^= 1;
            assert_eq!(cipher.open(&elsewhere, &aad, &mut sealed.clone(), &tag), Err(BadTag));
        }
    }
}

#[test]
fn whole_messages_verify_both_ways() {
    let mut random = Random(5);
    for algorithm in SIGNINGS {
        let key = random.array();
        let (fast, portable) = (Fast.signer(algorithm, &key), Portable.signer(algorithm, &key));
        for length in [64, 65, 80, 116, 4096 + 112, (1 << 20) + 112] {
            let mut message = random.bytes(length);
            sign_message(&*fast, &mut message);
            assert!(verify_message(&*portable, &message) && verify_message(&*fast, &message));
            assert!(verify_in_place(&*portable, &mut message) && verify_in_place(&*fast, &mut message));
            for _ in 0..32 {
                let (at, bit) = (random.below(length), 1 << random.below(8));
                message[at] ^= bit;
                assert!(!verify_in_place(&*fast, &mut message), "{algorithm:?} {length} at {at}");
                assert!(!verify_message(&*fast, &message), "{algorithm:?} {length} at {at}");
                message[at] ^= bit;
            }
        }
    }
}

#[test]
fn keys_have_the_length_of_their_cipher() {
    for algorithm in CIPHERS {
        for length in [0, 15, 16, 17, 24, 31, 32, 33] {
            let result = Fast.cipher(algorithm, &vec![0; length]);
            assert_eq!(result.is_ok(), length == algorithm.key_len());
        }
    }
}

#[test]
fn one_key_serves_many_threads() {
    let (signer, cipher) = (
        Fast.signer(SigningAlgorithm::AesCmac, &[7; 16]),
        Fast.cipher(CipherAlgorithm::Aes256Gcm, &[7; 32]).unwrap(),
    );
    let message = Random(6).bytes(20_000);
    let work = || {
        let mut data = message.clone();
        (signer.sign(&[0; 12], &[&message]), cipher.seal(&[1; 16], &[2; 32], &mut data), data)
    };
    let expected = work();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| assert!(work() == expected)));
        }
    });
}

#[test]
fn nothing_prints_a_key() {
    let mut shown: Vec<String> =
        SIGNINGS.map(|algorithm| format!("{:?}", Fast.signer(algorithm, &[0xAB; 16]))).into();
    shown.extend(
        CIPHERS.map(|algorithm| format!("{:?}", Fast.cipher(algorithm, &vec![0xAB; algorithm.key_len()]))),
    );
    for shown in shown {
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("ab, ab"), "{shown}");
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 4 and 16.
#[test]
fn gcm_gives_the_answers_of_its_specification() {
    let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let text = hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
                    1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
    let key = hex("feffe9928665731c6d6a8f9467308308");
    let mut nonce = [0xA5; 16];
    nonce[..12].copy_from_slice(&hex("cafebabefacedbaddecaf888"));
    for (algorithm, key, sealed, tag) in [
        (
            CipherAlgorithm::Aes128Gcm,
            key.clone(),
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
             21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
            "5bc94fbc3221a5db94fae95ae7121a47",
        ),
        (
            CipherAlgorithm::Aes256Gcm,
            key.repeat(2),
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ] {
        let mut data = text.clone();
        let ours = Fast.cipher(algorithm, &key).unwrap().seal(&nonce, &aad, &mut data);
        assert_eq!((data, ours.to_vec()), (hex(sealed), hex(tag)), "{algorithm:?}");
    }
}

/// NIST's gcmEncryptExtIV128.rsp, nothing encrypted, and test case 1 of the specification, nothing at all.
#[test]
fn gmac_gives_nists_answers() {
    let key: [u8; 16] = hex("77be63708971c4e240d1cb79e8d77feb").try_into().unwrap();
    let nonce: [u8; 12] = hex("e0e00f19fed7ba0136a797f3").try_into().unwrap();
    let message = hex("7a43ec1d9c0a5a78a0b16533a6213cab");
    let tag = Fast.signer(SigningAlgorithm::AesGmac, &key).sign(&nonce, &[&message]);
    assert_eq!(tag.to_vec(), hex("209fcc8d3675ed938e9c7166709dd946"));
    let tag = Fast.signer(SigningAlgorithm::AesGmac, &[0; 16]).sign(&[0; 12], &[&[]]);
    assert_eq!(tag.to_vec(), hex("58e2fccefa7e3061367f1d57a4e7455a"));
}

/// RFC 4493, examples 1 to 4, and the long message that AWS-LC itself takes: NIST's answers are short.
#[test]
fn cmac_gives_the_answers_of_rfc_4493() {
    let key: [u8; 16] = hex("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap();
    let message = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51
                       30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710");
    let key_of_aws_lc = cmac::Key::new(cmac::AES_128, &key).unwrap();
    for (length, expected) in [
        (0, "bb1d6929e95937287fa37d129b756746"),
        (16, "070a16b46b4d4144f79bdd9dd04a287c"),
        (40, "dfa66747de9ae63030ca32611497c827"),
        (64, "51f0bebf7e3b9d92fc49741779363cfe"),
    ] {
        let ours = Fast.signer(SigningAlgorithm::AesCmac, &key).sign(&[0; 12], &[&message[..length]]);
        assert_eq!(ours.to_vec(), hex(expected));
        assert_eq!(cmac::sign(&key_of_aws_lc, &message[..length]).unwrap().as_ref(), hex(expected));
    }
}
