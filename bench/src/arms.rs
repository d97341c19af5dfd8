//! Interleaved arms: slices of connections in random order, ratios slice by slice, an A/A arm that says
//! whether the machine was quiet enough to believe any of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::seq::SliceRandom;
use socket2::{Domain, Protocol, Socket, Type};

use crate::stats::{interval, median, percentile};

const SLICES: usize = 300;
const PER_SLICE: usize = 50;
const WARM_UP: usize = 5;

pub struct Arm {
    pub name: &'static str,
    pub target: SocketAddr,
}

/// How an arm compares with the first one.
pub struct Compared {
    pub name: &'static str,
    /// Median of the per-slice ratios of medians, and its 95 % interval.
    pub ratio: f64,
    pub interval: (f64, f64),
    /// Ratio of the 99th percentiles over all connections.
    pub p99: f64,
    pub median_us: f64,
}

/// Measures connect times; the first arm is what the others are compared with.
pub fn compare(arms: &[Arm]) -> Result<Vec<Compared>> {
    let mut rng = rand::rng();
    let mut slices: Vec<Vec<f64>> = vec![Vec::new(); arms.len()];
    let mut all: Vec<Vec<f64>> = vec![Vec::new(); arms.len()];
    for _ in 0..SLICES {
        let mut order: Vec<usize> = (0..arms.len()).collect();
        order.shuffle(&mut rng);
        for at in order {
            let times = slice(arms[at].target).with_context(|| arms[at].name.to_owned())?;
            slices[at].push(median(&times));
            all[at].extend(times);
        }
    }
    let base_p99 = percentile(&all[0], 0.99);
    let compared = (1..arms.len()).map(|at| {
        let ratios: Vec<f64> = slices[at].iter().zip(&slices[0]).map(|(a, b)| a / b).collect();
        Compared {
            name: arms[at].name,
            ratio: median(&ratios),
            interval: interval(&ratios, &mut rng),
            p99: percentile(&all[at], 0.99) / base_p99,
            median_us: median(&all[at]) * 1e6,
        }
    });
    Ok(compared.collect())
}

fn slice(target: SocketAddr) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(PER_SLICE);
    for i in 0..PER_SLICE {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        // A reset instead of TIME_WAIT, which would run out of ports.
        socket.set_linger(Some(Duration::ZERO))?;
        let began = Instant::now();
        socket.connect(&target.into())?;
        let took = began.elapsed().as_secs_f64();
        if i >= WARM_UP {
            times.push(took);
        }
    }
    Ok(times)
}
