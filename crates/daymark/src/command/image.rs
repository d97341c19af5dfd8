//! `daymark image`: the local image store, worked on directly.

use comfy_table::{Table, presets::NOTHING};
use miette::Result;

use crate::cli::Image;
use crate::cluster::Cluster;
use crate::daemon::from_anyhow;

pub fn run(what: &Image) -> Result<()> {
    match what {
        Image::Load { cluster, file, tag } => {
            let store = store(&cluster.name)?;
            let loaded = store.load_file(file, tag.as_deref()).map_err(|e| from_anyhow(e.into()))?;
            for name in loaded {
                println!("Loaded {name}");
            }
        }
        Image::List { cluster } => list(&store(&cluster.name)?)?,
        Image::Rm { cluster, image } => {
            store(&cluster.name)?.remove(image).map_err(|e| from_anyhow(e.into()))?;
            println!("Removed {image}");
        }
    }
    Ok(())
}
