//! The grammar of a JSON number, a byte at a time. Knows no value: big numbers travel as they are.

/// Where in a number we are; the last byte read was of this kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Digits {
    Minus,
    /// A leading zero: no digit may follow.
    Zero,
    Whole,
    Point,
    Fraction,
    PowerMark,
    PowerSign,
    Power,
}

impl Digits {
    /// The byte begins a number, or none.
    pub(super) fn first(byte: u8) -> Option<Self> {
        match byte {
            b'-' => Some(Self::Minus),
            b'0' => Some(Self::Zero),
            b'1'..=b'9' => Some(Self::Whole),
            _ => None,
        }
    }

    /// The byte is the next of this number, or none of it.
    pub(super) fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Whole, b'0'..=b'9') => Self::Whole,
            (Self::Zero | Self::Whole, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::PowerMark,
            (Self::PowerMark, b'+' | b'-') => Self::PowerSign,
            (Self::PowerMark | Self::PowerSign | Self::Power, b'0'..=b'9') => Self::Power,
            _ => return None,
        })
    }

    /// The number may end here.
    pub(super) fn complete(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Power)
    }
}
