//! Kubernetes quantities (`250m`, `64Mi`, `1e3`) as integers.

/// A quantity in thousandths, rounded up; `None` if it is not a quantity.
pub fn millis(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits_end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let (factor, divisor): (i128, i128) = match suffix {
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
        "" => (1000, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000_000, 1),
        "Ki" => (1000 << 10, 1),
        "Mi" => (1000 << 20, 1),
        "Gi" => (1000 << 30, 1),
        "Ti" => (1000 << 40, 1),
        "Pi" => (1000 << 50, 1),
        "Ei" => (1000 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let scale = 10i128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1000, scale) } else { (1000 * scale, 1) }
        }
    };
    let (mantissa, scale) = decimal(number)?;
    let (value, divisor) = (mantissa.checked_mul(factor)?, divisor.checked_mul(scale)?);
    Some(value.div_euclid(divisor) + i128::from(value.rem_euclid(divisor) != 0))
}

/// A quantity in whole units, rounded up.
pub fn units(text: &str) -> Option<i128> {
    let millis = millis(text)?;
    Some(millis.div_euclid(1000) + i128::from(millis.rem_euclid(1000) != 0))
}

/// `12.5` as `(125, 10)`.
fn decimal(number: &str) -> Option<(i128, i128)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 18 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    Some((digits.parse().ok()?, 10i128.pow(fraction.len() as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_become_integers_rounded_up() {
        let cases = [
            ("1", Some(1000)),
            ("250m", Some(250)),
            ("0.1", Some(100)),
            ("1.5Ki", Some(1536 * 1000)),
            ("64Mi", Some((64 << 20) * 1000)),
            ("1e3", Some(1_000_000)),
            ("2E", Some(2_000_000_000_000_000_000_000)),
            ("100n", Some(1)),
            ("1500u", Some(2)),
            ("-1", Some(-1000)),
            ("", None),
            ("ten", None),
            ("1Xi", None),
            ("1.2.3", None),
        ];
        for (text, want) in cases {
            assert_eq!(millis(text), want, "{text}");
        }
        assert_eq!(units("250m"), Some(1));
        assert_eq!(units("2Gi"), Some(2 << 30));
    }
}
