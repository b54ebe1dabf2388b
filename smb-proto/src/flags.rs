//! How a field of the wire with an open set of values is declared: a newtype around the integer, a constant for each
//! value that the specification names, and everything else kept as it came.

/// Declares a set of flags with the operations of sets. Undefined bits are kept.
macro_rules! flags {
    (
        $(#[$meta:meta])*
        pub struct $name:ident($raw:ty);
        $($(#[$constant_meta:meta])* $constant:ident = $value:literal;)*
    ) => {
        $(#[$meta])*
        #[binrw::binrw]
        #[brw(little)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $raw);

        impl $name {
            /// No flag.
            pub const EMPTY: Self = Self(0);
            $($(#[$constant_meta])* pub const $constant: Self = Self($value);)*

            /// Whether every flag of `other` is set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any flag of `other` is set.
            #[must_use]
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// The flags of both.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The flags that are not in `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// The flags that are in both.
            #[must_use]
            pub const fn masked(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }

            /// Whether no flag is set.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }
        }
    };
}

/// Declares a field that holds one value of an open set. Undefined values are kept.
macro_rules! values {
    (
        $(#[$meta:meta])*
        pub struct $name:ident($raw:ty);
        $($(#[$constant_meta:meta])* $constant:ident = $value:literal;)*
    ) => {
        $(#[$meta])*
        #[binrw::binrw]
        #[brw(little)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $raw);

        impl $name {
            $($(#[$constant_meta])* pub const $constant: Self = Self($value);)*

            /// Every value that the specification names.
            pub const KNOWN: &[Self] = &[$(Self::$constant,)*];

            /// Whether the specification names this value.
            #[must_use]
            pub fn is_known(self) -> bool {
                Self::KNOWN.contains(&self)
            }
        }
    };
}

pub(crate) use {flags, values};
