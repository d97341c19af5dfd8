//! `resource.Quantity`: parsing and the canonical form, as in `100m`, `1Gi`, `5e3`.

/// How a quantity was written, which its canonical form keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Decimal,
    Exponent,
    Binary,
}

/// An amount with a resolution of one billionth; finer ones are rounded away from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity {
    /// Billionths.
    nano: i128,
    format: Format,
}

const NANO: i128 = 1_000_000_000;
/// The largest amount that Kubernetes keeps.
const MAX: i128 = i64::MAX as i128 * NANO;
/// More fractional digits than this only matter for rounding.
const MAX_FRACTION: usize = 18;
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    /// `None` if `text` is not a quantity.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let (format, binary, exponent) = parse_suffix(suffix)?;
        let kept = &fraction[..fraction.len().min(MAX_FRACTION)];
        let mut rounded = fraction[kept.len()..].bytes().any(|b| b != b'0');
        let digits = format!("{whole}{kept}");
        let nano = digits
            .trim_start_matches('0')
            .parse::<i128>()
            .or_else(|e| if digits.bytes().all(|b| b == b'0') { Ok(0) } else { Err(e) })
            .ok()
            .and_then(|mantissa| mantissa.checked_mul(1_i128.checked_shl(10 * binary)?))
            .and_then(|scaled| scale(scaled, exponent + 9 - kept.len() as i32, &mut rounded))
            .map_or(MAX, |nano| (nano + i128::from(rounded)).min(MAX));
        Some(Self { nano: if negative { -nano } else { nano }, format })
    }

    pub const ZERO: Self = Self { nano: 0, format: Format::Decimal };

    /// A plain number.
    pub fn whole(amount: usize) -> Self {
        Self { nano: (amount as i128 * NANO).min(MAX), format: Format::Decimal }
    }

    /// The sum, in the form of `self` unless that is zero.
    pub fn plus(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self { nano: (self.nano + other.nano).clamp(-MAX, MAX), format }
    }

    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nano: -other.nano, ..other })
    }

    /// The next whole amount, away from zero.
    pub fn rounded(self) -> Self {
        Self { nano: self.value() * NANO, ..self }
    }

    /// Whether this is more than `other`, whatever the forms.
    pub fn exceeds(&self, other: &Self) -> bool {
        self.nano > other.nano
    }

    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// `self` divided by `other`, which is not zero.
    pub fn ratio(&self, other: &Self) -> f64 {
        self.nano as f64 / other.nano as f64
    }

    /// The amount in thousandths, rounded away from zero.
    pub fn millis(&self) -> i128 {
        div_away(self.nano, NANO / 1000)
    }

    /// The amount, rounded away from zero.
    pub fn value(&self) -> i128 {
        div_away(self.nano, NANO)
    }

    /// The form in which Kubernetes stores the quantity.
    pub fn canonical(&self) -> String {
        if self.nano == 0 {
            return "0".to_owned();
        }
        let whole = self.nano / NANO;
        if self.format == Format::Binary && self.nano % NANO == 0 && whole.abs() >= 1024 {
            let (amount, power) = strip(whole, 1024, BINARY.len() - 1);
            return format!("{amount}{}", BINARY[power]);
        }
        let (amount, power) = strip(self.nano, 1000, DECIMAL.len() - 1);
        match (self.format, power as i32 * 3 - 9) {
            (Format::Exponent, 0) => amount.to_string(),
            (Format::Exponent, exponent) => format!("{amount}e{exponent}"),
            _ => format!("{amount}{}", DECIMAL[power]),
        }
    }
}

/// The format, the power of 1024 and the power of 10 that a suffix stands for.
fn parse_suffix(suffix: &str) -> Option<(Format, u32, i32)> {
    if let Some(power) = BINARY.iter().position(|s| *s == suffix).filter(|p| *p > 0) {
        return Some((Format::Binary, power as u32, 0));
    }
    if let Some(power) = DECIMAL.iter().position(|s| *s == suffix) {
        return Some((Format::Decimal, 0, power as i32 * 3 - 9));
    }
    let digits = suffix.strip_prefix(['e', 'E'])?;
    let exponent: i32 = digits.parse().ok().filter(|e: &i32| e.abs() <= 1000)?;
    Some((Format::Exponent, 0, exponent))
}

/// `value × 10^exponent`; `None` on overflow, and `rounded` if digits were lost.
fn scale(value: i128, exponent: i32, rounded: &mut bool) -> Option<i128> {
    if value == 0 {
        return Some(0);
    }
    if exponent >= 0 {
        return value.checked_mul(10_i128.checked_pow(exponent as u32)?);
    }
    let Some(divisor) = 10_i128.checked_pow(exponent.unsigned_abs()) else {
        *rounded = true;
        return Some(0);
    };
    *rounded |= value % divisor != 0;
    Some(value / divisor)
}

/// Divides by `base` while it divides evenly, at most `limit` times.
fn strip(mut amount: i128, base: i128, limit: usize) -> (i128, usize) {
    let mut power = 0;
    while power < limit && amount % base == 0 {
        amount /= base;
        power += 1;
    }
    (amount, power)
}

fn div_away(value: i128, divisor: i128) -> i128 {
    let rest = value % divisor;
    value / divisor + if rest == 0 { 0 } else { rest.signum() }
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[test]
    fn canonical_forms_are_those_of_kubernetes() {
        let cases = [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1000Mi", "1000Mi"),
            ("0.5Gi", "512Mi"),
            ("512", "512"),
            ("2048", "2048"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("1500", "1500"),
            ("1000", "1k"),
            ("-1.5", "-1500m"),
            ("0.0000000001", "1n"),
            ("100000000000000000000000", "9223372036854775807"),
            ("0", "0"),
            ("0Gi", "0"),
            ("+3", "3"),
            (".5", "500m"),
            ("5.", "5"),
            ("1E", "1E"),
            ("1E2", "100"),
        ];
        for (text, want) in cases {
            let quantity = Quantity::parse(text).unwrap_or_else(|| panic!("{text} is a quantity"));
            assert_eq!(quantity.canonical(), want, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        for text in ["", "-", "Gi", "1gi", "1.2.3", "one", "1 Gi", "0x10", "1e", "1KB", "é"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sums_keep_the_form_of_the_first() {
        let quantity = |text| Quantity::parse(text).expect("a quantity");
        assert_eq!(quantity("1Gi").plus(quantity("512Mi")).canonical(), "1536Mi");
        assert_eq!(Quantity::ZERO.plus(quantity("1Gi")).canonical(), "1Gi");
        assert_eq!(quantity("1500m").minus(quantity("500m")).canonical(), "1");
        assert_eq!(Quantity::whole(3).canonical(), "3");
        assert_eq!(quantity("1.5").rounded().canonical(), "2");
        assert!(quantity("1Ki").exceeds(&quantity("1k")) && !quantity("1").exceeds(&quantity("1000m")));
    }

    #[test]
    fn amounts_round_away_from_zero() {
        let quantity = |text| Quantity::parse(text).expect("a quantity");
        assert_eq!(quantity("0.1m").millis(), 1);
        assert_eq!(quantity("1500m").value(), 2);
        assert_eq!(quantity("-1500m").value(), -2);
    }
}
