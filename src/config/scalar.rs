//! Numbers, durations, words and lists with a rule: each a type that cannot hold anything else.
//!
//! A record reads a member `as` one of these and keeps the plain value.

use std::time::Duration;

use serde_json::json;

use super::problem::Problems;
use super::read::{FromConfig, Node, plain};
use super::schema::{Defs, SchemaRef};
use super::syntax::{Kind, Value};
use crate::hash::Canon;
use crate::limits::CONFIG_DURATION_MAX;
use crate::weight::{Priority, Weight};

/// A whole number within bounds.
pub struct Whole<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> From<Whole<MIN, MAX>> for u64 {
    fn from(whole: Whole<MIN, MAX>) -> Self {
        whole.0
    }
}

impl<const MIN: u64, const MAX: u64> FromConfig for Whole<MIN, MAX> {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        let Kind::Number(text) = &node.value.kind else { return node.wrong_type("a whole number", problems) };
        match whole(text).filter(|n| (MIN..=MAX).contains(n)) {
            Some(number) => Some(Self(number)),
            None => node.bad_value(format!("must be a whole number from {MIN} to {MAX}"), problems),
        }
    }

    fn schema(_: &mut Defs) -> SchemaRef {
        json!({"type": "integer", "minimum": MIN, "maximum": MAX})
    }
}

/// `5`, also as `5.0` or `5e0`, which JSON Schema takes for integers too.
fn whole(text: &str) -> Option<u64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number: f64 = text.parse().ok()?;
    // In range and without a fraction: the cast is exact.
    (number.fract() == 0.0 && (0.0..EXACT_MAX).contains(&number)).then_some(number as u64)
}

/// A finite number that is not negative: a price, a limit.
pub struct Amount(f64);

impl From<Amount> for f64 {
    fn from(amount: Amount) -> Self {
        amount.0
    }
}

fn amount(node: Node<'_>, problems: &mut Problems) -> Option<f64> {
    let Kind::Number(text) = &node.value.kind else { return node.wrong_type("a number", problems) };
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Some(number + 0.0),
        _ => node.bad_value("must be a finite number, not below 0", problems),
    }
}

impl FromConfig for Amount {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        amount(node, problems).map(Self)
    }

    fn schema(_: &mut Defs) -> SchemaRef {
        json!({"type": "number", "minimum": 0})
    }
}

impl FromConfig for Weight {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        Self::new(amount(node, problems)?)
    }

    fn schema(defs: &mut Defs) -> SchemaRef {
        Amount::schema(defs)
    }
}

impl FromConfig for Priority {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        let number: u64 = Whole::<0, { Priority::MAX as u64 }>::read(node, problems)?.into();
        Self::new(u16::try_from(number).ok()?)
    }

    fn schema(defs: &mut Defs) -> SchemaRef {
        Whole::<0, { Priority::MAX as u64 }>::schema(defs)
    }
}

/// A duration whose integer form counts units of `UNIT_MS`, from `MIN_MS` to a day.
pub struct DurationIn<const UNIT_MS: u64, const MIN_MS: u64>(Duration);

/// Integer = seconds; the member's name ends in it.
pub type Seconds<const MIN_MS: u64> = DurationIn<1000, MIN_MS>;
/// Integer = milliseconds.
pub type Millis<const MIN_MS: u64> = DurationIn<1, MIN_MS>;

impl<const UNIT_MS: u64, const MIN_MS: u64> From<DurationIn<UNIT_MS, MIN_MS>> for Duration {
    fn from(duration: DurationIn<UNIT_MS, MIN_MS>) -> Self {
        duration.0
    }
}

impl<const UNIT_MS: u64, const MIN_MS: u64> FromConfig for DurationIn<UNIT_MS, MIN_MS> {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        let duration = match &node.value.kind {
            Kind::Number(text) => match whole(text) {
                Some(units) => Duration::from_millis(units.saturating_mul(UNIT_MS)),
                None => return node.bad_value("must be a whole number, or a string such as \"1.5s\"", problems),
            },
            Kind::Text(text) => match parse_duration(text) {
                Some(duration) => duration,
                None => return node.bad_value("no duration; write it as \"500ms\", \"30s\" or \"1m30s\"", problems),
            },
            _ => return node.wrong_type("a whole number or a string such as \"30s\"", problems),
        };
        if duration < Duration::from_millis(MIN_MS) {
            return node.bad_value(format!("must not be shorter than {MIN_MS} ms"), problems);
        }
        if duration > CONFIG_DURATION_MAX {
            return node.bad_value(
                format!("must not be longer than {} hours", CONFIG_DURATION_MAX.as_secs() / 3600),
                problems,
            );
        }
        Some(Self(duration))
    }

    fn schema(_: &mut Defs) -> SchemaRef {
        let max = CONFIG_DURATION_MAX.as_secs().saturating_mul(1000) / UNIT_MS;
        json!({"anyOf": [
            {"type": "integer", "minimum": MIN_MS.div_ceil(UNIT_MS), "maximum": max},
            {"type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"},
        ]})
    }

    /// `30`, `"30s"` and `"0.5m"` are one duration.
    fn canon(value: &Value) -> Canon {
        let duration = match &value.kind {
            Kind::Number(text) => whole(text).map(|n| Duration::from_millis(n.saturating_mul(UNIT_MS))),
            Kind::Text(text) => parse_duration(text),
            _ => None,
        };
        duration.map_or_else(|| plain(value), |d| Canon::Number(d.as_nanos().to_string()))
    }
}

/// Go's spelling: numbers with units, one after another, no sign.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let mut rest = text;
    let mut nanos = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at_checked(unit_end)?;
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(scaled(number, *scale)?)?;
        rest = next;
    }
    (!text.is_empty()).then(|| Duration::from_nanos(nanos))
}

/// `number` × `scale`, whole and fraction apart so that nothing is lost to floating point.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(scale)?;
    let mut place = scale;
    for digit in fraction.chars() {
        place /= 10;
        total = total.checked_add(u64::from(digit.to_digit(10)?).checked_mul(place)?)?;
    }
    Some(total)
}

/// A list whose order has no meaning.
pub struct Unordered<T>(Vec<T>);

impl<T> From<Unordered<T>> for Vec<T> {
    fn from(list: Unordered<T>) -> Self {
        list.0
    }
}

impl<T: FromConfig> FromConfig for Unordered<T> {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        node.items(problems).map(Self)
    }

    fn schema(defs: &mut Defs) -> SchemaRef {
        Vec::<T>::schema(defs)
    }

    fn canon(value: &Value) -> Canon {
        Vec::<T>::canon(value).sorted()
    }

    fn is_unset(value: &Value) -> bool {
        Vec::<T>::is_unset(value)
    }
}

/// A string that is one of a few words; the record keeps the string.
macro_rules! word {
    ($(#[doc = $doc:literal])* $vis:vis $name:ident: $($word:literal)|+) => {
        $(#[doc = $doc])*
        $vis struct $name(String);

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.0
            }
        }

        impl $crate::config::read::FromConfig for $name {
            fn read(
                node: $crate::config::read::Node<'_>,
                problems: &mut $crate::config::Problems,
            ) -> Option<Self> {
                $crate::config::scalar::one_of(node, &[$($word),+], problems).map(|word| Self(word.to_owned()))
            }

            fn schema(_: &mut $crate::config::schema::Defs) -> $crate::config::schema::SchemaRef {
                serde_json::json!({"enum": [$($word),+]})
            }
        }
    };
}
pub(crate) use word;

/// The word that the node holds, if it is one of `words`.
pub fn one_of(node: Node<'_>, words: &[&'static str], problems: &mut Problems) -> Option<&'static str> {
    let text = node.text(problems)?;
    let found = words.iter().find(|word| **word == text).copied();
    if found.is_none() {
        let list = words.join("`, `");
        return node.bad_value(format!("must be one of `{list}`"), problems);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::syntax::Tree;

    #[test]
    fn go_durations() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("30s", Some(ms(30_000))),
            ("500ms", Some(ms(500))),
            ("1m30s", Some(ms(90_000))),
            ("1.5s", Some(ms(1_500))),
            (".5s", Some(ms(500))),
            ("1h", Some(ms(3_600_000))),
            ("250us", Some(Duration::from_micros(250))),
            ("250µs", Some(Duration::from_micros(250))),
            ("7ns", Some(Duration::from_nanos(7))),
            ("0s", Some(ms(0))),
            ("", None),
            ("30", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("-1s", None),
            ("+1s", None),
            ("1 s", None),
            ("1d", None),
            ("1sm", None),
            ("99999999999999999999h", None),
            ("9999999999h", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    fn read<T: FromConfig>(json: &str) -> Result<T, Code> {
        let tree = Tree::parse(json).unwrap();
        let mut problems = Problems::default();
        T::read(Node::root(tree.root()), &mut problems).ok_or_else(|| problems.0[0].code)
    }

    use crate::config::Code;

    #[test]
    fn bounds() {
        let whole = |json| read::<Whole<1, 10>>(json).map(u64::from);
        for (json, expected) in [
            ("1", Ok(1)),
            ("10", Ok(10)),
            ("10.0", Ok(10)),
            ("1e1", Ok(10)),
            ("0", Err(Code::BadValue)),
            ("11", Err(Code::BadValue)),
            ("-1", Err(Code::BadValue)),
            ("1.5", Err(Code::BadValue)),
            ("1e400", Err(Code::BadValue)),
            ("99999999999999999999999", Err(Code::BadValue)),
            ("\"1\"", Err(Code::WrongType)),
            ("true", Err(Code::WrongType)),
            ("null", Err(Code::WrongType)),
        ] {
            assert_eq!(whole(json), expected, "{json}");
        }
        let seconds = |json| read::<Seconds<1>>(json).map(Duration::from);
        for (json, expected) in [
            ("30", Ok(Duration::from_secs(30))),
            ("\"30s\"", Ok(Duration::from_secs(30))),
            ("\"1ms\"", Ok(Duration::from_millis(1))),
            ("86400", Ok(Duration::from_secs(86_400))),
            ("86401", Err(Code::BadValue)),
            ("0", Err(Code::BadValue)),
            ("-1", Err(Code::BadValue)),
            ("0.5", Err(Code::BadValue)),
            ("18446744073709551615", Err(Code::BadValue)),
            ("\"soon\"", Err(Code::BadValue)),
            ("[]", Err(Code::WrongType)),
        ] {
            assert_eq!(seconds(json), expected, "{json}");
        }
        assert_eq!(read::<Millis<1>>("500").map(Duration::from), Ok(Duration::from_millis(500)));
        for (json, ok) in [("0", true), ("-0", true), ("0.001", true), ("-1", false), ("1e999", false)] {
            assert_eq!(read::<Weight>(json).is_ok(), ok, "{json}");
        }
        for (json, ok) in [("0", true), ("1000", true), ("1001", false), ("-1", false), ("1.5", false)] {
            assert_eq!(read::<Priority>(json).is_ok(), ok, "{json}");
        }
    }
}
