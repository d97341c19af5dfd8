//! `daymark image`: the local image store, worked on directly.

use daymark_node::image::{ImageInfo, Store};
use miette::{IntoDiagnostic, Result, miette};

use super::table;
use crate::cli::Image;
use crate::cluster::Cluster;
use crate::say::say;

pub fn run(what: &Image) -> Result<()> {
    match what {
        Image::Load { cluster, file } => {
            for image in store(&cluster.name)?.load(file).into_diagnostic()? {
                say!("Loaded {}", shown(&image));
            }
        }
        Image::List { cluster } => list(&store(&cluster.name)?.list().into_diagnostic()?),
        Image::Rm { cluster, image } => {
            if !store(&cluster.name)?.remove(image).into_diagnostic()? {
                return Err(miette!(
                    help = "`daymark image list` shows what there is",
                    "there is no image {image}"
                ));
            }
            say!("Removed {image}");
        }
    }
    Ok(())
}

fn store(cluster: &str) -> Result<Store> {
    Store::open(&Cluster::open(cluster)?.paths.images()).into_diagnostic()
}

fn shown(image: &ImageInfo) -> String {
    if image.tags.is_empty() { image.id.clone() } else { image.tags.join(", ") }
}

fn list(images: &[ImageInfo]) {
    let mut table = table(["IMAGE", "ID", "SIZE"]);
    for image in images {
        let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
        for name in if image.tags.is_empty() { vec!["<none>".to_owned()] } else { image.tags.clone() } {
            table.add_row([name, id.clone(), format!("{:.1} MB", image.size as f64 / 1e6)]);
        }
    }
    say!("{}", table.trim_fmt());
}
