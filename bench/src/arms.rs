//! Interleaved arms: slices of exchanges in random order, ratios slice by slice, an A/A arm that says
//! whether the machine was quiet enough to believe any of it.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use rand::Rng;
use rand::seq::SliceRandom;

use crate::dialer::{Dialer, Exchange};
use crate::stats::{interval, median, percentile};

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Effort {
    pub slices: usize,
    pub per_slice: usize,
    /// The first of each slice, not counted.
    pub warm_up: usize,
}

/// Who dials what: a dialer by its number, and a target for each slice.
pub struct Arm {
    pub dialer: usize,
    pub target: Box<dyn Fn(usize) -> SocketAddr>,
}

impl Arm {
    pub fn new(dialer: usize, target: impl Fn(usize) -> SocketAddr + 'static) -> Self {
        Self { dialer, target: Box::new(target) }
    }
}

/// Times of one arm, slice by slice, in seconds.
pub struct Times(Vec<Vec<f64>>);

pub fn measure(
    dialers: &mut [&mut Dialer],
    arms: &[Arm],
    exchange: Exchange,
    effort: Effort,
) -> Result<Vec<Times>> {
    let mut rng = rand::rng();
    let mut times: Vec<Times> = arms.iter().map(|_| Times(Vec::new())).collect();
    for slice in 0..effort.slices {
        let mut order: Vec<usize> = (0..arms.len()).collect();
        order.shuffle(&mut rng);
        for at in order {
            let dialer = dialers.get_mut(arms[at].dialer).context("no such dialer")?;
            let all = dialer.time(exchange, (arms[at].target)(slice), effort.per_slice)?;
            times[at].0.push(all[effort.warm_up.min(all.len() - 1)..].to_vec());
        }
    }
    Ok(times)
}

/// A ratio with its bootstrap 95 % interval.
#[derive(Clone, Copy)]
pub struct Ratio {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:.3} [{:.3}, {:.3}]", self.value, self.low, self.high)
    }
}

impl Times {
    /// Median over the slices of the ratios of their medians.
    pub fn p50(&self, base: &Times) -> Ratio {
        let ratios: Vec<f64> = self.0.iter().zip(&base.0).map(|(a, b)| median(a) / median(b)).collect();
        let (low, high) = interval(&ratios, &mut rand::rng());
        Ratio { value: median(&ratios), low, high }
    }

    /// Ratio of the 99th percentiles over all exchanges; slices are drawn for its interval.
    pub fn p99(&self, base: &Times) -> Ratio {
        let mut rng = rand::rng();
        let of = |times: &Times, at: &[usize]| {
            let all: Vec<f64> = at.iter().flat_map(|i| times.0[*i].iter().copied()).collect();
            percentile(&all, 0.99)
        };
        let every: Vec<usize> = (0..self.0.len()).collect();
        let drawn: Vec<f64> = (0..200)
            .map(|_| {
                let at: Vec<usize> = every.iter().map(|_| rng.random_range(0..every.len())).collect();
                of(self, &at) / of(base, &at)
            })
            .collect();
        let value = of(self, &every) / of(base, &every);
        Ratio { value, low: percentile(&drawn, 0.025), high: percentile(&drawn, 0.975) }
    }

    /// How many took long enough to have lost a packet.
    pub fn stalls(&self) -> usize {
        self.0.iter().flatten().filter(|seconds| **seconds > 0.9).count()
    }

    pub fn median_us(&self) -> f64 {
        median(&self.0.concat()) * 1e6
    }
}
