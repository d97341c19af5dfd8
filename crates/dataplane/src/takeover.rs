//! Where a data plane's maps come from: new ones, those of an earlier process, and larger ones or ones of another
//! layout into which those were copied. Programs of the earlier process work with theirs until their links are given
//! the new programs.

use std::path::PathBuf;

use crate::config::{GROWING, Sizes};
use crate::error::Error;
use crate::map::Map;
use crate::migrate;
use crate::pins::Pins;
use crate::programs::Programs;
use crate::{abi, sys};

/// The programs, loaded with the maps that are pinned now.
pub(crate) struct Takeover {
    pub programs: Programs,
    /// There was an earlier process: its links are to get the new programs.
    pub continued: bool,
    /// How many entries the maps can hold.
    pub sizes: Sizes,
    /// Maps of an earlier layout, which are still written to.
    earlier: Option<PathBuf>,
    /// Nobody noted which kinds of flows there are.
    of_unknown_kinds: bool,
}

impl Takeover {
    /// Maps hold at least as much as `sizes` says.
    pub fn prepare(pins: &Pins, sizes: Sizes) -> Result<Self, Error> {
        let maps = pins.maps();
        if let Some(earlier) = pins.earlier_maps() {
            let sizes = sizes.raised_to(&earlier)?;
            let stage = pins.stage()?;
            let programs = Programs::load(&stage, &sizes)?;
            migrate::carry_over(&earlier, &stage)?;
            pins.finish(&stage)?;
            return Ok(Self {
                programs,
                continued: true,
                sizes,
                earlier: Some(earlier),
                of_unknown_kinds: true,
            });
        }
        let continued = maps.join("frontends").exists();
        let of_unknown_kinds = continued && !maps.join("flow_kinds").exists();
        let outgrown = if continued { sizes.outgrow(&maps)? } else { Vec::new() };
        let sizes = if continued { sizes.raised_to(&maps)? } else { sizes };
        let programs =
            if outgrown.is_empty() { Programs::load(&maps, &sizes)? } else { grow(pins, &sizes, &outgrown)? };
        Ok(Self { programs, continued, sizes, earlier: None, of_unknown_kinds })
    }

    /// Notes what programs must know before they are attached.
    pub fn before_links(&self, pins: &Pins) -> Result<(), Error> {
        if self.of_unknown_kinds {
            let all = abi::FLOWS_AMONG_PODS | abi::FLOWS_TO_THIS_NODE;
            Map::<u32, u32>::open(&pins.maps(), "flow_kinds")?.put(&0, &all)?;
        }
        Ok(())
    }

    /// Copies what the programs of an earlier layout wrote before their links got the new ones.
    pub fn after_links(&self, pins: &Pins) -> Result<(), Error> {
        match &self.earlier {
            Some(earlier) => Ok(migrate::catch_up(earlier, &pins.maps())?),
            None => Ok(()),
        }
    }
}

/// Puts larger maps in the place of those outgrown, and keeps the others. Only we write to those that grow, but for
/// statistics, which may lose what is counted meanwhile.
fn grow(pins: &Pins, sizes: &Sizes, outgrown: &[&'static str]) -> Result<Programs, Error> {
    let (maps, stage) = (pins.maps(), pins.stage()?);
    for name in pins.map_names()? {
        if !outgrown.contains(&name.as_str()) {
            pins.share(&name, &stage)?;
        }
    }
    let programs = Programs::load(&stage, sizes)?;
    for name in outgrown {
        migrate::copy(&maps, &stage, name, sys::raw::ANY)?;
    }
    pins.swap(&stage)?;
    Ok(programs)
}

impl Sizes {
    /// The maps that hold less than this.
    fn outgrow(&self, maps: &std::path::Path) -> Result<Vec<&'static str>, Error> {
        let mut outgrown = Vec::new();
        for name in GROWING {
            let capacity = migrate::capacity(maps, name)?;
            if capacity.is_some_and(|capacity| self.entries(name).is_some_and(|wanted| wanted > capacity)) {
                outgrown.push(name);
            }
        }
        Ok(outgrown)
    }

    /// At least as much as those maps hold.
    fn raised_to(mut self, maps: &std::path::Path) -> Result<Self, Error> {
        for name in GROWING {
            let capacity = migrate::capacity(maps, name)?;
            if let (Some(capacity), Some(entries)) = (capacity, self.entries_mut(name)) {
                *entries = capacity.max(*entries);
            }
        }
        Ok(self)
    }
}
