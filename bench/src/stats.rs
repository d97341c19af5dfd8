//! Medians, percentiles and their uncertainty.

use rand::Rng;

/// The value below which the share `p` (0 to 1) of the samples lies.
pub fn percentile(samples: &[f64], p: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let at = (p * last as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

pub fn median(samples: &[f64]) -> f64 {
    percentile(samples, 0.5)
}

/// The bootstrap 95 % interval of the median.
pub fn interval(samples: &[f64], rng: &mut impl Rng) -> (f64, f64) {
    let medians: Vec<f64> = (0..1000)
        .map(|_| {
            let drawn: Vec<f64> =
                (0..samples.len()).map(|_| samples[rng.random_range(0..samples.len())]).collect();
            median(&drawn)
        })
        .collect();
    (percentile(&medians, 0.025), percentile(&medians, 0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_odd_count_is_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_interval_contains_the_median() {
        let samples: Vec<f64> = (0..101).map(f64::from).collect();
        let (low, high) = interval(&samples, &mut rand::rng());
        assert!(low <= 50.0 && high >= 50.0 && high - low < 40.0);
    }
}
