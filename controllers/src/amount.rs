//! Numbers that may be percentages. Pure.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The number meant by `value`, a percentage being one of `total`; never negative. What cannot be read is 0: the API
/// server refuses it.
pub(crate) fn of(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    let percent: i64 = match value {
        IntOrString::Int(number) => return (*number).max(0),
        IntOrString::String(text) => text.trim_end_matches('%').parse().unwrap_or(0),
    };
    let hundredths = percent.clamp(0, 1_000_000) * i64::from(total);
    i32::try_from(if round_up { (hundredths + 99) / 100 } else { hundredths / 100 }).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_rounded_as_asked() {
        let percent = |text: &str| IntOrString::String(text.into());
        for (value, total, up, down) in [
            (IntOrString::Int(3), 10, 3, 3),
            (IntOrString::Int(-3), 10, 0, 0),
            (percent("25%"), 10, 3, 2),
            (percent("0%"), 10, 0, 0),
            (percent("100%"), 7, 7, 7),
            (percent("x"), 7, 0, 0),
        ] {
            assert_eq!((of(&value, total, true), of(&value, total, false)), (up, down), "{value:?} of {total}");
        }
    }
}
