//! The names of a directory by the hash of their folded form: one buffer of names, and a table of places in it. A name
//! takes about thirty bytes besides itself, and no allocation of its own.

use std::collections::HashMap;
use std::ffi::CStr;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use smb_proto::name::fold_unit;

use super::names;

/// Marks the last name of a chain.
const NONE: u32 = u32::MAX;
/// Bytes before a name: the place of the next one with the same hash.
const LINK: usize = 4;
/// What the table spends on a place.
const BUCKET: usize = size_of::<(u64, u32)>() + 1;

/// Names that may differ in case only.
#[derive(Debug, Default)]
pub(super) struct NameTable {
    /// Place of the first name of a hash.
    first: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    /// Link, name, zero byte; one after the other.
    names: Vec<u8>,
    /// Bytes of names that were removed.
    dead: usize,
}

/// What is a hash already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn hash(units: &[u16], hasher: &impl BuildHasher) -> u64 {
    let mut state = hasher.build_hasher();
    units.iter().for_each(|unit| state.write_u16(fold_unit(*unit)));
    state.finish()
}

fn is_same(a: &[u16], b: &[u16]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| fold_unit(*a) == fold_unit(*b))
}

impl NameTable {
    /// Bytes that the names take.
    pub(super) fn bytes(&self) -> usize {
        self.names.capacity() + self.first.capacity() / 7 * 8 * BUCKET
    }

    /// Adds a name, unless it is there, or is none that a client could send. `false` if there is no place for it.
    pub(super) fn add(&mut self, name: &CStr, hasher: &impl BuildHasher) -> bool {
        let Some(units) = names::decode(name.to_bytes()) else { return true };
        let hash = hash(&units, hasher);
        let first = self.first.get(&hash).copied().unwrap_or(NONE);
        if self.chain(first).any(|(_, known)| known == name) {
            return true;
        }
        let Some(place) = u32::try_from(self.names.len()).ok().filter(|place| *place < NONE) else {
            return false;
        };
        self.names.extend_from_slice(&first.to_le_bytes());
        self.names.extend_from_slice(name.to_bytes_with_nul());
        self.first.insert(hash, place);
        true
    }

    /// Removes a name if it is there.
    pub(super) fn remove(&mut self, name: &CStr, hasher: &impl BuildHasher) {
        let Some(units) = names::decode(name.to_bytes()) else { return };
        let hash = hash(&units, hasher);
        let Some(first) = self.first.get(&hash).copied() else { return };
        let (mut before, mut found) = (None, None);
        for (place, known) in self.chain(first) {
            if known == name {
                found = Some(place);
                break;
            }
            before = Some(place);
        }
        let Some(found) = found else { return };
        let next = self.next(found);
        match before {
            Some(before) => self.link(before, next),
            None if next == NONE => drop(self.first.remove(&hash)),
            None => drop(self.first.insert(hash, next)),
        }
        self.dead += LINK + name.to_bytes_with_nul().len();
        if self.dead > self.names.len() / 2 {
            self.compact();
        }
    }

    /// The names that are the same as this one but for case.
    pub(super) fn find<'a>(
        &'a self,
        units: &'a [u16],
        hasher: &impl BuildHasher,
    ) -> impl Iterator<Item = &'a CStr> {
        let first = self.first.get(&hash(units, hasher)).copied().unwrap_or(NONE);
        let fits = |name: &CStr| names::decode(name.to_bytes()).is_some_and(|known| is_same(&known, units));
        self.chain(first).map(|(_, name)| name).filter(move |name| fits(name))
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = (u32, &CStr)> {
        let mut place = first;
        std::iter::from_fn(move || {
            let here = place;
            let name = self.names.get((here as usize).checked_add(LINK)?..)?;
            place = self.next(here);
            Some((here, CStr::from_bytes_until_nul(name).ok()?))
        })
    }

    fn next(&self, place: u32) -> u32 {
        let link = self.names.get(place as usize..).and_then(|names| names.first_chunk());
        link.map_or(NONE, |link| u32::from_le_bytes(*link))
    }

    fn link(&mut self, place: u32, next: u32) {
        let link = self.names.get_mut(place as usize..).and_then(|names| names.first_chunk_mut());
        if let Some(link) = link {
            *link = next.to_le_bytes();
        }
    }

    /// Leaves removed names out.
    fn compact(&mut self) {
        let mut names = Vec::with_capacity(self.names.len() - self.dead);
        let mut first = std::mem::take(&mut self.first);
        for place in first.values_mut() {
            let mut last = NONE;
            for (_, name) in self.chain(*place) {
                // Shorter than the names that were there, so places are as wide.
                let here = names.len() as u32;
                names.extend_from_slice(&last.to_le_bytes());
                names.extend_from_slice(name.to_bytes_with_nul());
                last = here;
            }
            *place = last;
        }
        if first.len() < first.capacity() / 4 {
            first.shrink_to_fit();
        }
        (self.names, self.first, self.dead) = (names, first, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::CString;
    use std::hash::RandomState;

    use super::*;

    /// Everything has the same hash.
    #[derive(Default)]
    struct Same;

    impl Hasher for Same {
        fn write(&mut self, _: &[u8]) {}

        fn finish(&self) -> u64 {
            7
        }
    }

    fn c(name: &str) -> CString {
        CString::new(name).unwrap()
    }

    fn find(table: &NameTable, name: &str, hasher: &impl BuildHasher) -> BTreeSet<String> {
        let units: Vec<u16> = name.encode_utf16().collect();
        table.find(&units, hasher).map(|name| name.to_str().unwrap().to_owned()).collect()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn names_come_and_go(hasher: &impl BuildHasher) {
        let mut table = NameTable::default();
        for name in ["Alpha", "ALPHA", "beta", "gam\u{E4}", "beta"] {
            assert!(table.add(&c(name), hasher));
        }
        assert_eq!(find(&table, "alpha", hasher), set(&["Alpha", "ALPHA"]));
        assert_eq!(find(&table, "GAM\u{C4}", hasher), set(&["gam\u{E4}"]));
        assert_eq!(find(&table, "delta", hasher), set(&[]));
        table.remove(&c("alpha"), hasher);
        table.remove(&c("Alpha"), hasher);
        assert_eq!(find(&table, "alpha", hasher), set(&["ALPHA"]));
        table.remove(&c("beta"), hasher);
        assert_eq!(find(&table, "beta", hasher), set(&[]), "it was added once");
        assert!(table.add(&c("Beta"), hasher));
        assert_eq!(find(&table, "beta", hasher), set(&["Beta"]));
        assert!(table.add(&CString::new(b"caf\xE9".to_vec()).unwrap(), hasher), "no name for clients");
    }

    #[test]
    fn names_are_found_without_regard_to_case() {
        names_come_and_go(&RandomState::new());
        names_come_and_go(&BuildHasherDefault::<Same>::default());
    }

    #[test]
    fn room_of_removed_names_is_used_again() {
        let hasher = RandomState::new();
        let mut table = NameTable::default();
        let mut most = 0;
        for number in 0..100_000 {
            assert!(table.add(&c(&format!("Name{number}")), &hasher));
            if number >= 1000 {
                table.remove(&c(&format!("Name{}", number - 1000)), &hasher);
            }
            most = most.max(table.bytes());
        }
        assert!(most < 200_000, "{most}");
        for number in 99_000..100_000 {
            assert_eq!(find(&table, &format!("nAME{number}"), &hasher).len(), 1);
        }
        assert_eq!(find(&table, "name98999", &hasher).len(), 0);
    }

    #[test]
    fn a_name_costs_little_besides_itself() {
        let hasher = RandomState::new();
        let mut table = NameTable::default();
        for number in 0..100_000 {
            table.add(&c(&format!("a file {number:07}.txt")), &hasher);
        }
        let names = 100_000 * "a file 0000000.txt".len();
        assert!(table.bytes() < names + 100_000 * 60, "{}", table.bytes());
    }
}
