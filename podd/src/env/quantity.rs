//! Quantities such as `250m` or `1Gi`, as far as `resourceFieldRef` needs them (P-073).

/// One unit in nanos, the finest the API has.
const NANOS: i128 = 1_000_000_000;

/// `value` in units of `divisor`, rounded up; `None` when either cannot be read or the divisor is zero.
pub(crate) fn divide(value: &str, divisor: &str) -> Option<i128> {
    let (value, divisor) = (nanos(value)?, nanos(divisor)?);
    if divisor <= 0 {
        return None;
    }
    let whole = value.div_euclid(divisor);
    Some(if value.rem_euclid(divisor) == 0 { whole } else { whole + 1 })
}

fn nanos(text: &str) -> Option<i128> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let factor: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => NANOS,
        "k" => NANOS * 1_000,
        "M" => NANOS * 1_000_000,
        "G" => NANOS * 1_000_000_000,
        "T" => NANOS * 1_000_000_000_000,
        "P" => NANOS * 1_000_000_000_000_000,
        "Ki" => NANOS << 10,
        "Mi" => NANOS << 20,
        "Gi" => NANOS << 30,
        "Ti" => NANOS << 40,
        "Pi" => NANOS << 50,
        _ => NANOS.checked_mul(10_i128.checked_pow(suffix.strip_prefix(['e', 'E'])?.parse().ok()?)?)?,
    };
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i128>().ok() };
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole = digits(whole)?.checked_mul(factor)?;
    let part = digits(fraction)?.checked_mul(factor)?.checked_div(scale)?;
    let sum = whole.checked_add(part)?;
    Some(if negative { -sum } else { sum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_divide_and_round_up() {
        let table = [
            ("P-073", "250m", "1", Some(1)),
            ("P-073", "250m", "1m", Some(250)),
            ("P-073", "1Gi", "1Mi", Some(1024)),
            ("P-073", "64Mi", "1", Some(67_108_864)),
            ("P-073", "1.5", "1", Some(2)),
            ("P-073", "1e3", "1", Some(1000)),
            ("P-073", "2k", "1", Some(2000)),
            ("P-073", "x", "1", None),
            ("P-073", "1", "0", None),
        ];
        for (statement, value, divisor, expected) in table {
            assert_eq!(divide(value, divisor), expected, "{statement} {value}/{divisor}");
        }
    }
}
