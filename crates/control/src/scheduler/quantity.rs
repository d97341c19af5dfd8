//! Kubernetes quantities as numbers.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths, rounded up: `100m` is 100, `1` is 1000, `1Ki` is 1024000. Nonsense is 0.
pub fn milli(quantity: &Quantity) -> i128 {
    let text = quantity.0.trim();
    let digits =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (numerator, denominator): (i128, i128) = match suffix {
        "" => (1000, 1),
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
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
        exponent => match exponent.strip_prefix(['e', 'E']).and_then(|e| e.parse::<u32>().ok()) {
            Some(e) if e <= 18 => (1000 * 10_i128.pow(e), 1),
            _ => return 0,
        },
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = &fraction[..fraction.len().min(9)];
    let scale = 10_i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let Ok(value) = format!("{whole}{fraction}").parse::<i128>() else { return 0 };
    let divisor = denominator * scale;
    value.checked_mul(numerator).map_or(i128::MAX, |n| (n + divisor - 1).div_euclid(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        let of = |text: &str| milli(&Quantity(text.into()));
        assert_eq!(of("100m"), 100);
        assert_eq!(of("1"), 1000);
        assert_eq!(of("0.5"), 500);
        assert_eq!(of("1.5Gi"), 1_610_612_736_000);
        assert_eq!(of("2M"), 2_000_000_000);
        assert_eq!(of("1e3"), 1_000_000);
        assert_eq!(of("1n"), 1, "rounded up");
        assert_eq!(of("lots"), 0);
    }
}
