//! Numbers: read as JavaScript's `Number()` reads them, printed with 15 digits as .NET's `G15` does.

/// Reads a number; NaN if the text is none. Empty text is 0.
pub(crate) fn parse(text: &str) -> f64 {
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    if let Some(number) = parse_decimal(text) {
        return number;
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return parse_radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return parse_radix(digits, 8);
    }
    parse_infinity(text)
}

/// The part of [`parse`] that is plain decimal notation.
fn parse_decimal(text: &str) -> Option<f64> {
    // Rust also reads words such as `inf`; only digits, sign, point and exponent may pass.
    let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E');
    if text.bytes().all(plain) { text.parse().ok() } else { None }
}

/// Digits of base 8 or 16. Like the official reader it keeps 32 bits, two's complement.
fn parse_radix(digits: &str, radix: u32) -> f64 {
    let sign_free = digits.bytes().all(|b| char::from(b).is_digit(radix));
    if digits.is_empty() || !sign_free {
        return f64::NAN;
    }
    u32::from_str_radix(digits, radix).map_or(f64::NAN, |bits| f64::from(bits.cast_signed()))
}

fn parse_infinity(text: &str) -> f64 {
    let (negative, word) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    match (word.eq_ignore_ascii_case("infinity"), negative) {
        (true, false) => f64::INFINITY,
        (true, true) => f64::NEG_INFINITY,
        (false, _) => f64::NAN,
    }
}

/// Prints a number with at most 15 significant digits.
pub(crate) fn format(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if number == 0.0 {
        return "0".to_owned();
    }
    // Whole numbers of up to 15 digits print as they are; this is the common case.
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 10^15, so it fits")]
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return (number as i64).to_string();
    }
    format_g15(number)
}

fn format_g15(number: f64) -> String {
    let scientific = format!("{:.14e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    let sign = if number < 0.0 { "-" } else { "" };
    let body = match usize::try_from(exponent) {
        Ok(whole) if exponent < 15 => point_after(digits, whole + 1),
        Err(_) if exponent >= -4 => {
            let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
            format!("0.{}{digits}", "0".repeat(zeros))
        }
        _ => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}E{sign}{:02}", point_after(digits, 1), exponent.abs())
        }
    };
    format!("{sign}{body}")
}

/// Sets the decimal point after `whole` digits.
fn point_after(digits: &str, whole: usize) -> String {
    if digits.len() <= whole {
        return format!("{digits}{}", "0".repeat(whole - digits.len()));
    }
    let (left, right) = digits.split_at(whole);
    format!("{left}.{right}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_fifteen_digits() {
        for (number, text) in [
            (0.1 + 0.2, "0.3"),
            (-0.0, "0"),
            (1e15, "1E+15"),
            (123_456_789_012_345.0, "123456789012345"),
            (1_234_567_890_123_456.0, "1.23456789012346E+15"),
            (0.0001, "0.0001"),
            (0.000_01, "1E-05"),
            (-2.5e-7, "-2.5E-07"),
            (1e300, "1E+300"),
            (99.5, "99.5"),
        ] {
            assert_eq!(format(number), text);
        }
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "the values are exact")]
    fn reads_what_javascript_reads() {
        assert_eq!(parse(" 12 "), 12.0);
        assert_eq!(parse("0x10"), 16.0);
        assert_eq!(parse("0o17"), 15.0);
        assert_eq!(parse("0xFFFFFFFF"), -1.0);
        assert_eq!(parse("-Infinity"), f64::NEG_INFINITY);
        for bad in ["inf", "1_000", "0x", "-0x1", "1e", ".", "0b1", "١"] {
            assert!(parse(bad).is_nan(), "{bad}");
        }
    }
}
