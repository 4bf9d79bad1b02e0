//! Quantities such as `500m` and `1Gi`: their canonical spelling, and how much they are.

/// Decimal suffixes with the power of ten they stand for, largest first.
const DECIMAL: &[(&str, u32)] =
    &[("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3), ("", 0), ("m", 3), ("u", 6), ("n", 9)];

/// Binary suffixes with the power of two they stand for, largest first.
const BINARY: &[(&str, u32)] = &[("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];

/// One, in the billionths that values are counted in: nothing smaller is kept.
const ONE: i128 = 1_000_000_000;

/// No value is larger, whatever is written.
const LARGEST: i128 = 9_223_372_036_854_775_807 * ONE;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// The canonical spelling of a quantity, or `None` for what is none: no fraction, and the largest suffix that needs
/// none. What is finer than a billionth is rounded up.
///
/// ```
/// use minisvc_schema::canonical_quantity;
/// assert_eq!(canonical_quantity("0.5").as_deref(), Some("500m"));
/// assert_eq!(canonical_quantity("2048Mi").as_deref(), Some("2Gi"));
/// assert_eq!(canonical_quantity("much"), None);
/// ```
#[must_use]
pub fn canonical_quantity(text: &str) -> Option<String> {
    let (value, format) = parse(text.trim())?;
    Some(render(value, format))
}

/// How much a quantity is: exact to a billionth (what is finer is rounded up), and at most 2⁶³-1 ones in either direction, which
/// anything larger counts as.
///
/// ```
/// use minisvc_schema::Amount;
/// assert_eq!(Amount::parse("1Ki"), Amount::parse("1024"));
/// assert!(Amount::parse("1500m") > Amount::parse("1.4"));
/// assert_eq!(Amount::parse("much"), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(i128);

impl Amount {
    /// Reads a quantity as the API has them; `None` for what is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(parse(text.trim())?.0))
    }

    /// Whether it is less than nothing.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// How many of `unit` it takes, rounded up; `None` when the unit is not more than nothing.
    #[must_use]
    pub fn in_units_of(self, unit: Self) -> Option<i128> {
        (unit.0 > 0).then(|| divide_up(self.0, unit.0))
    }

    /// In ones such as bytes, rounded up.
    #[must_use]
    pub fn ones(self) -> i64 {
        // No amount has more ones than this.
        divide_up(self.0, ONE).try_into().unwrap_or(i64::MAX)
    }

    /// In thousandths such as those of a processor, rounded up; at most 2⁶³-1 of them, and at least as many less than none.
    #[must_use]
    pub fn thousandths(self) -> i64 {
        let limit = if self.0 < 0 { -i64::MAX } else { i64::MAX };
        divide_up(self.0, ONE / 1000).try_into().unwrap_or(limit)
    }
}

impl std::ops::Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self((self.0 + other.0).clamp(-LARGEST, LARGEST))
    }
}

fn divide_up(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

fn parse(text: &str) -> Option<(i128, Format)> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let (twos, tens, format) = scale(suffix)?;
    let magnitude = magnitude(whole, fraction, twos, tens);
    Some((if negative { -magnitude } else { magnitude }, format))
}

/// What a suffix multiplies with: a power of two and a power of ten.
fn scale(suffix: &str) -> Option<(u32, i32, Format)> {
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((*power, 0, Format::Binary));
    }
    if let Some((name, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        let power = i32::try_from(*power).ok()?;
        return Some((0, if matches!(*name, "m" | "u" | "n") { -power } else { power }, Format::Decimal));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // An exponent beyond these makes any number zero or the largest one.
    let exponent = exponent.parse::<i32>().unwrap_or_else(|_| if exponent.starts_with('-') { -1000 } else { 1000 });
    Some((0, exponent.clamp(-1000, 1000), Format::Exponent))
}

/// The value of the digits in billionths, rounded up and at most the largest.
fn magnitude(whole: &str, fraction: &str, twos: u32, tens: i32) -> i128 {
    let fraction = fraction.trim_end_matches('0');
    // As many digits as can be multiplied without overflow, which is more than can count.
    let most = if twos > 0 { 20 } else { 30 };
    let digits = || whole.bytes().chain(fraction.bytes()).skip_while(|b| *b == b'0');
    let significant = digits().count();
    let mut value: i128 = 0;
    for digit in digits().take(most) {
        value = value * 10 + i128::from(digit - b'0');
    }
    let dropped = significant.saturating_sub(most);
    if digits().skip(most).any(|b| b != b'0') {
        value += 1;
    }
    let shift = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let power = shift(dropped).saturating_add(tens).saturating_sub(shift(fraction.len())).saturating_add(9);
    let Some(mut value) = value.checked_mul(1 << twos) else { return LARGEST };
    for _ in 0..power.max(0) {
        if value == 0 || value > LARGEST {
            break;
        }
        value *= 10;
    }
    for _ in power.min(0)..0 {
        if value <= 1 {
            break;
        }
        // Rounding up at each step is rounding up once.
        value = (value + 9) / 10;
    }
    value.min(LARGEST)
}

fn render(value: i128, format: Format) -> String {
    match format {
        Format::Binary if value.abs() >= 1024 * ONE => {
            // A request is never made smaller.
            let ones = divide_up(value, ONE);
            let fits = |power: u32| ones % (1 << power) == 0;
            match BINARY.iter().find(|(_, power)| fits(*power)) {
                Some((suffix, power)) => format!("{}{suffix}", ones >> power),
                None => ones.to_string(),
            }
        }
        Format::Binary | Format::Decimal => decimal(value, |suffix, _| suffix.to_owned()),
        Format::Exponent => decimal(value, |_, power| if power == 0 { String::new() } else { format!("e{power}") }),
    }
}

fn decimal(value: i128, suffix: impl Fn(&str, i32) -> String) -> String {
    if value == 0 {
        return "0".to_owned();
    }
    // In billionths: E is 10^27 of them, n is one.
    let mut power = 18;
    for (name, _) in DECIMAL {
        let unit = 10_i128.pow(u32::try_from(power + 9).unwrap_or_default());
        if value % unit == 0 {
            return format!("{}{}", value / unit, suffix(name, power));
        }
        power -= 3;
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // A-039
    #[test]
    fn spellings_become_canonical() {
        let rows = [
            ("1", "1"),
            ("0", "0"),
            ("0Gi", "0"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1000", "1k"),
            ("1500000", "1500k"),
            ("1024", "1024"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("58.3763130Mi", "61212001"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("1Ki", "1Ki"),
            ("-1", "-1"),
            ("+3", "3"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e2", "1200"),
            ("1e-3", "1e-3"),
            ("1E", "1E"),
            ("100000u", "100m"),
            ("0.1n", "1n"),
            ("0.0000000001", "1n"),
            ("9999999999E", "9223372036854775807"),
            ("1e999999999999", "9223372036854775807"),
            ("1e-99999", "1e-9"),
            ("00012", "12"),
            ("1.0000000000000000000000000000000000Ei", "1Ei"),
            ("123456789012.123456789", "123456789012123456789n"),
        ];
        for (text, wanted) in rows {
            assert_eq!(canonical_quantity(text).as_deref(), Some(wanted), "{text}");
        }
        for text in ["", "-", ".", "1.2.3", "1 Gi", "Gi", "1gi", "1Kb", "1e", "1e+", "e3", "0x10", "1e3m", "--1", "é"]
        {
            assert_eq!(canonical_quantity(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_are_counted_in_units_and_rounded_up() {
        let most = i64::MAX;
        for (text, ones, thousandths) in [
            ("1", 1, 1000),
            ("1500m", 2, 1500),
            ("0.5", 1, 500),
            ("100u", 1, 1),
            ("1n", 1, 1),
            ("0", 0, 0),
            ("64Mi", 64 << 20, (64 << 20) * 1000),
            ("1e3", 1000, 1_000_000),
            ("1k", 1000, 1_000_000),
            ("-1500m", -1, -1500),
            ("8Ei", most, most),
            ("-8Ei", -most, -most),
            ("999999999999999999999999", most, most),
        ] {
            let amount = Amount::parse(text).expect(text);
            assert_eq!((amount.ones(), amount.thousandths()), (ones, thousandths), "{text}");
            assert_eq!(amount.is_negative(), text.starts_with('-'), "{text}");
        }
        for (text, unit, expected) in [
            ("250m", "1", Some(1)),
            ("250m", "1m", Some(250)),
            ("1Gi", "1Mi", Some(1024)),
            ("1.5", "1", Some(2)),
            ("1", "0", None),
            ("1", "-1", None),
        ] {
            let [amount, unit] = [text, unit].map(|text| Amount::parse(text).expect(text));
            assert_eq!(amount.in_units_of(unit), expected, "{text}");
        }
        let sum = |one, other| Amount::parse(one).zip(Amount::parse(other)).map(|(one, other)| one + other);
        assert_eq!(sum("0.5", "1500m"), Amount::parse("2"));
        assert_eq!([sum("8Ei", "1"), sum("-8Ei", "-1")], [Amount::parse("8Ei"), Amount::parse("-8Ei")]);
        assert_eq!([" 1 ", "x", ""].map(Amount::parse), [Amount::parse("1000m"), None, None]);
    }

    proptest! {
        #[test]
        fn canonical_spellings_stay(text in "[+-]?[0-9]{0,20}\\.?[0-9]{0,12}(|n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[0-9]{1,2}|e-[0-9])") {
            if let Some(canonical) = canonical_quantity(&text) {
                // A binary quantity that no binary suffix fits loses its kind with its suffix, as upstream: read again it is
                // a decimal one, and 61212000 becomes 61212k. After that nothing changes any more.
                let again = canonical_quantity(&canonical).expect("it can be read");
                let value = |text: &str| parse(text).expect("it can be read").0;
                prop_assert_eq!(value(&again), value(&canonical));
                prop_assert_eq!(canonical_quantity(&again), Some(again));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,20}") {
            let _ = canonical_quantity(&text);
        }
    }
}
