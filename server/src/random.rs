//! Random bytes from the kernel, and what is made of them.

use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::Zeroizing;

use crate::failure::{About, Failure, Outcome};

/// Letters and digits that are hard to mistake for one another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// 100 bits.
const PASSWORD_LENGTH: usize = 20;

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> Outcome<[u8; N]> {
    let mut bytes = [0; N];
    // Up to 256 bytes come whole once the kernel has any.
    match getrandom(&mut bytes[..], GetRandomFlags::empty()).about("no random numbers")? {
        length if length == N => Ok(bytes),
        _ => Err(Failure::new("no random numbers: too few from the kernel")),
    }
}

/// A password that nobody can guess and a shell passes on as it is.
pub(crate) fn password() -> Outcome<Zeroizing<String>> {
    let bytes: Zeroizing<[u8; PASSWORD_LENGTH]> = Zeroizing::new(bytes()?);
    Ok(Zeroizing::new(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_plain_and_different() {
        let (one, other) = (password().unwrap(), password().unwrap());
        assert_ne!(*one, *other);
        assert_eq!(one.len(), PASSWORD_LENGTH);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn the_alphabet_has_no_letter_twice() {
        let letters: std::collections::BTreeSet<_> = ALPHABET.iter().collect();
        assert_eq!(letters.len(), 32);
    }
}
